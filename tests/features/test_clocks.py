from datetime import UTC, datetime, timedelta

import pytest
from backsight_features.clocks import from_us, parse_instant, timeframe, to_us
from backsight_features.errors import BadInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01", datetime(2024, 3, 1, tzinfo=UTC)),
        ("2024-03-01T12:00:00Z", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        ("2024-03-01T12:00:00.000001+02:00", datetime(2024, 3, 1, 10, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_as_utc(text: str, expected: datetime) -> None:
    at = parse_instant(text)
    assert at == expected
    assert at.utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01", "2024-03-01T12:00:00", ""])
def test_an_unclear_instant_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match=repr(text)):
        parse_instant(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("1m", timedelta(minutes=1)), ("4h", timedelta(hours=4)), ("1d", timedelta(days=1))]
)
def test_timeframes_are_named_as_ccxt_names_them(text: str, expected: timedelta) -> None:
    assert timeframe(text) == expected


@pytest.mark.parametrize("text", ["", "h", "0h", "1x", "1 h", "-1h", "1hour"])
def test_an_unknown_timeframe_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match="not a timeframe"):
        timeframe(text)


def test_microseconds_survive_the_way_there_and_back() -> None:
    at = datetime(2286, 11, 20, 17, 46, 39, 999_999, tzinfo=UTC)
    assert from_us(to_us(at)) == at
    assert to_us(from_us(-1)) == -1
