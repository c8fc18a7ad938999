"""What may be used and what may not, the same through Feast and through the light reader, on real stores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from backsight_features.errors import (
    BadInput,
    FutureStamped,
    HeaderMismatch,
    Missing,
    NonFinite,
    NotServable,
    Stale,
)
from backsight_features.online import OnlineWindow, connect
from backsight_features.online.contract import Contract
from backsight_features.online.gate import admit
from backsight_features.online.packed import PackedWindow, pack, unpack

T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAG = timedelta(seconds=15)
KNOWN = T0 + 3 * HOUR + LAG
NAN = np.nan
CONTRACT = Contract(
    service="price_1h",
    features=("ret", "vol"),
    timeframe=HOUR,
    max_age=2 * HOUR,
    max_ages={"vol": HOUR},
    length=2,
)

Door = Callable[..., Any]


def window(values: list[list[float]], contract: Contract = CONTRACT, gaps: tuple[int, ...] = (), **changes: Any) -> Any:
    """Return a window whose newest bar closed at 03:00 and was known 15 s later."""
    length = len(values)
    known = np.datetime64(KNOWN.replace(tzinfo=None), "us") - np.arange(length)[::-1] * np.timedelta64(1, "h")
    known[list(gaps)] = np.datetime64("NaT")
    given = {
        "digest": contract.digest,
        "contract": contract.checksum,
        "observed_at": np.datetime64("2024-01-01T03:00", "us"),
        "timeframe": contract.timeframe,
    }
    return unpack(pack(np.array(values, dtype=np.float32), known, **(given | changes)))


REFUSED = [
    pytest.param(window([[1, 2], [3, 4]], digest=bytes(32)), KNOWN, HeaderMismatch, "other features", id="features"),
    pytest.param(window([[1, 2], [3, 4]], timeframe=2 * HOUR), KNOWN, HeaderMismatch, "slots of 2:00:00", id="grid"),
    pytest.param(window([[1, 2]] * 3), KNOWN, HeaderMismatch, "has 3 slots; 2 are expected", id="length"),
    pytest.param(window([[1, 2], [3, 4]]), KNOWN - LAG / 2, FutureStamped, "state became known at", id="future state"),
    pytest.param(window([[1, 2], [3, 4]]), T0, FutureStamped, "newest bar closed at", id="future bar"),
    pytest.param(window([[1, 2], [3, 4]]), T0 + 5 * HOUR + LAG, Stale, "2:00:15 before .* at most 2:00:00", id="stale"),
    pytest.param(window([[1, 2], [NAN, NAN]], gaps=(1,)), KNOWN, Stale, "nothing is stored for its newest", id="gap"),
    pytest.param(Missing("nothing there"), KNOWN, Missing, "nothing there", id="missing"),
]


@pytest.mark.parametrize(("stored", "at", "error", "message"), REFUSED)
def test_a_window_that_may_not_be_used(
    stored: PackedWindow | NotServable, at: datetime, error: type[NotServable], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        admit(stored, CONTRACT, symbol="A", at=at)
    assert type(raised.value) is error
    nulled = admit(stored, CONTRACT, symbol="A", at=at, unfit="null")
    assert np.isnan(nulled.values).all()
    assert nulled.values.shape == (2, 2)
    assert not nulled.mask.any()
    assert np.isnat(nulled.ages).all()
    assert (nulled.observed_at, nulled.available_at) == (None, None)
    [refusal] = nulled.refused
    assert refusal.features == ("ret", "vol")
    assert type(refusal.error) is error


def test_a_missing_window_of_unknown_length_cannot_be_nulled() -> None:
    with pytest.raises(Missing, match="nothing"):
        admit(Missing("nothing"), replace(CONTRACT, length=None), symbol="A", at=KNOWN, unfit="null")


def test_a_fit_window_is_handed_out_with_mask_and_ages_and_nothing_can_be_written_into_it() -> None:
    got = admit(window([[1, NAN], [NAN, 4]]), CONTRACT, symbol="A", at=KNOWN + HOUR)
    np.testing.assert_array_equal(got.values, np.array([[1, NAN], [NAN, 4]], dtype=np.float32))
    assert got.mask.tolist() == [True, True]
    assert got.ages.tolist() == [2 * HOUR, HOUR]
    assert got.refused == ()
    with pytest.raises(ValueError, match="read-only"):
        got.values[0, 0] = 5


def test_a_feature_that_is_too_old_or_infinite_is_an_error_or_null() -> None:
    at = KNOWN + HOUR + timedelta(microseconds=1)
    stored = window([[np.inf, 2], [3, 4]])
    with pytest.raises(Stale, match=r"A': vol became known at 2024-01-01T03:00:15Z, too long before"):
        admit(stored, CONTRACT, symbol="A", at=at)
    with pytest.raises(NonFinite, match="ret is infinite"):
        admit(stored, CONTRACT, symbol="A", at=KNOWN)
    got = admit(stored, CONTRACT, symbol="A", at=at, unfit="null")
    np.testing.assert_array_equal(got.values, np.array([[NAN, NAN], [3, NAN]], dtype=np.float32))
    assert got.mask.all()
    assert got.ages[0] == np.timedelta64(at - KNOWN)
    assert np.isnat(got.ages[1])
    assert [(refusal.features, type(refusal.error)) for refusal in got.refused] == [
        (("vol",), Stale),
        (("ret",), NonFinite),
    ]
    # A feature that is undefined in the newest slot is not served at all, so its age does not matter.
    undefined = admit(window([[1, 2], [3, NAN]]), CONTRACT, symbol="A", at=KNOWN + HOUR)
    assert undefined.refused == ()


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(BadInput, match="it must be 'raise' or 'null'"):
        admit(window([[1, 2], [3, 4]]), CONTRACT, symbol="A", at=KNOWN, unfit="nul")  # type: ignore[arg-type]


@contextmanager
def doors(repo: Any, store: Any) -> Iterator[dict[str, Door]]:
    """Both ways in: a symbol or a list of them."""
    with connect(repo.where, project=repo.project) as reader:

        def light(service: str, symbols: str | list[str], **options: Any) -> Any:
            read = reader.window if isinstance(symbols, str) else reader.windows
            return read(service, symbols, **options)

        yield {"feast": store.online, "light": light}


def same(one: OnlineWindow, other: OnlineWindow) -> None:
    for name in ("values", "mask", "ages"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    for name in ("service", "symbol", "features", "timeframe", "at", "observed_at", "available_at"):
        assert getattr(one, name) == getattr(other, name)
    assert [refusal.features for refusal in one.refused] == [refusal.features for refusal in other.refused]
    assert [type(refusal.error) for refusal in one.refused] == [type(refusal.error) for refusal in other.refused]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_both_doors_let_through_and_refuse_the_same(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    with doors(repo, store) as both:
        for door in both.values():
            with pytest.raises(Missing, match=r"no price_1h window of 'A' is online"):
                door("price_1h", "A", at=KNOWN)
            with pytest.raises(Missing):
                door("price_1h", ["A", "B"], at=KNOWN, unfit="null")
        repo.write(repo.states("A", "B", "C", "D", hours=30))
        at = T0 + 29 * HOUR + LAG
        store.publish("forecast_1h", length=4, at=at)
        store.publish("price_1h", length=4, at=at - 20 * HOUR)
        everyone = ["D", "nobody", "A", "B", "C"]
        for instant in (at, at + HOUR, at + 2 * HOUR, at + 3 * HOUR, at - 5 * HOUR):
            one, other = (door("forecast_1h", everyone, at=instant, unfit="null") for door in both.values())
            assert [window.symbol for window in one] == everyone
            for left, right in zip(one, other, strict=True):
                same(left, right)
            assert type(one[1].refused[0].error) is Missing
            for symbol in everyone:
                raised = []
                for door in both.values():
                    try:
                        raised.append(door("forecast_1h", symbol, at=instant))
                    except NotServable as error:
                        raised.append(type(error))
                if isinstance(raised[0], OnlineWindow):
                    same(*raised)
                else:
                    assert raised[0] is raised[1]
        for door in both.values():
            with pytest.raises(Stale, match="newest bar closed"):
                door("price_1h", "A", at=at)
            assert door("price_1h", "A", at=at, max_age=timedelta(days=3)).values.shape == (4, 2)
            assert door("forecast_1h", [], at=at) == ()
            naive = at.replace(tzinfo=None)
            with pytest.raises(BadInput, match="no time zone"):
                door("forecast_1h", "A", at=naive)


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_service_that_changed_is_noticed_by_a_reader_that_goes_on(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    repo.write(repo.states("A", "B", hours=9))
    at = T0 + 8 * HOUR + LAG
    store.publish("price_1h", length=2, at=at - HOUR)
    with connect(repo.where, project=repo.project) as reader:
        old = reader.windows("price_1h", ["A", "B"], at=at)
        assert old[0].features == ("ret", "vol")
        views = repo.folder / "views.py"
        views.write_text(
            views.read_text().replace(
                '[feature("ret", 24), feature("vol", 24)]', '[feature("vol", 24), feature("ret", 24)]'
            )
        )
        changed = repo.store()
        changed.apply()
        # Only A is published again, as if the publisher had been killed in between.
        repo.write(repo.states("A", "B", hours=9).filter(symbol="A"))
        changed.publish("price_1h", length=2, at=at)
        got = reader.window("price_1h", "A", at=at)
        assert got.features == ("vol", "ret")
        assert reader.window("price_1h", "B", at=at).features == ("ret", "vol")
        with pytest.raises(HeaderMismatch, match="'B' was made of other features"):
            reader.windows("price_1h", ["A", "B"], at=at)
        with pytest.raises(HeaderMismatch, match="'B' was made of other features"):
            changed.online("price_1h", "B", at=at)
        nulled = reader.windows("price_1h", ["B", "A"], at=at, unfit="null")
        assert np.isnan(nulled[0].values).all()
        assert nulled[1].values.tobytes() == got.values.tobytes()

        # The maximum age is no part of the list of features, and is noticed all the same.
        views.write_text(views.read_text().replace('feature("ret", 24)', 'feature("ret", 0)'))
        changed = repo.store()
        changed.apply()
        changed.publish("price_1h", length=2, at=at)
        with pytest.raises(Stale, match="ret became known"):
            reader.window("price_1h", "A", at=at + timedelta(hours=1))


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_symbols_that_cannot_be_are_refused(small_repo: Callable[..., Any], kind: str) -> None:
    repo = small_repo(kind)
    store = repo.store()
    store.apply()
    with connect(repo.where, project=repo.project) as reader:
        for door in (store.online, reader.window):
            with pytest.raises(BadInput, match="surrogates not allowed"):
                door("price_1h", "BTC-\udcff", at=T0)
        with pytest.raises(BadInput, match="it must be a list"):
            reader.windows("price_1h", "BTC-USD", at=T0)
