from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from backsight_features.errors import Drifted
from backsight_features.schemas import BARS, FACTS, MACRO, RUNS, SCORES, validate

CLOSE = datetime(2024, 3, 1, 11, tzinfo=UTC)


def bar(**changes: object) -> dict[str, object]:
    return {
        "venue": "bitstamp",
        "symbol": "BTC-USD",
        "timeframe": "1h",
        "open": 10.0,
        "high": 12.0,
        "low": 9.0,
        "close": 11.0,
        "volume": 5.0,
        "quote_volume": None,
        "observed_at": CLOSE,
        "available_at": CLOSE + timedelta(seconds=15),
        "available_at_estimated": True,
        "source": "test",
        **changes,
    }


def bars(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=dict(BARS.columns))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"open": float("nan")}, "open must be a finite number above 0"),
        ({"high": float("inf")}, "high must be a finite number above 0"),
        ({"low": 0.0}, "low must be a finite number above 0"),
        ({"close": None}, "close is empty"),
        ({"high": 10.5}, "open and close must lie between low and high"),
        ({"low": 10.5}, "open and close must lie between low and high"),
        ({"volume": -1.0}, "volume must be a finite number of 0 or more"),
        ({"volume": None}, "volume and quote_volume are both empty"),
        ({"symbol": None}, "symbol is empty"),
        ({"symbol": "btcusd"}, "symbol must be written as BTC-USD"),
        ({"available_at": CLOSE - timedelta(seconds=1)}, "available_at lies before observed_at"),
    ],
)
def test_a_bad_bar_is_set_aside_with_a_reason_and_the_rest_goes_on(changes: dict[str, object], reason: str) -> None:
    later = CLOSE + timedelta(hours=1)
    rows = bars(bar(), bar(**changes), bar(observed_at=later, available_at=later))
    good, bad = validate(BARS, rows.with_row_index("line"))
    assert good["line"].to_list() == [0, 2]
    assert bad["line"].to_list() == [1]
    assert reason in bad["reason"][0]


def test_every_broken_rule_is_named_once() -> None:
    _, bad = validate(BARS, bars(bar(open=-1.0, volume=-1.0)))
    assert bad["reason"][0].split("; ") == [
        "open must be a finite number above 0",
        "volume must be a finite number of 0 or more",
        "open and close must lie between low and high",
    ]


def test_a_missing_or_mistyped_column_stops_the_batch() -> None:
    with pytest.raises(Drifted, match="close is missing, should be Float64"):
        validate(BARS, bars(bar()).drop("close"))
    with pytest.raises(Drifted, match="open is String"):
        validate(BARS, bars(bar()).with_columns(pl.col("open").cast(pl.String)))


def test_an_empty_frame_is_good() -> None:
    for table in FACTS.values():
        good, bad = validate(table, table.empty().drop("ingested_at"))
        assert good.is_empty()
        assert bad.is_empty()


def test_a_macro_value_may_be_empty_but_not_infinite() -> None:
    rows = pl.DataFrame(
        {
            "series": ["CPIAUCSL"] * 3,
            "units": ["lin"] * 3,
            "value": [None, 1.0, float("inf")],
            "observed_at": [CLOSE] * 3,
            "available_at": [CLOSE] * 3,
            "available_at_estimated": [False] * 3,
            "source": ["test"] * 3,
        },
        schema=dict(MACRO.columns),
    )
    good, bad = validate(MACRO, rows)
    assert good["value"].to_list() == [None, 1.0]
    assert bad.height == 1


def test_probabilities_add_up() -> None:
    row = {
        "text_id": "a",
        "scorer": "s",
        "revision": "r",
        "p_positive": 0.5,
        "p_negative": 0.5,
        "p_neutral": 0.5,
        "tone_least": -0.5,
        "tone_most": 0.5,
        "share_positive": 0.5,
        "share_negative": 0.5,
        "sentences": 2,
        "unread": 0,
        "observed_at": CLOSE,
        "available_at": CLOSE,
        "available_at_estimated": False,
        "source": "s",
    }
    _, bad = validate(SCORES, pl.DataFrame([row], schema=dict(SCORES.columns)))
    assert bad["reason"].to_list() == ["the three probabilities must add up to 1"]


def test_accounts_that_do_not_add_up_are_refused() -> None:
    row = {
        "run": "r",
        "origin": "f",
        "verb": "pull dump",
        "source": "s",
        "started_at": CLOSE,
        "finished_at": CLOSE,
        "status": "done",
        "read": 3,
        "accepted": 1,
        "duplicate": 1,
        "quarantined": 0,
    }
    _, bad = validate(RUNS, pl.DataFrame([row], schema=dict(RUNS.columns)))
    assert bad.height == 1
