"""Order-book features, on looks that can be counted by hand and against going through all looks one by one."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import log1p, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features import book
from backsight_features.bars import BarSeries
from backsight_features.building.build import Built, build
from backsight_features.clocks import UTC_US, to_us
from backsight_features.lake import Lake
from backsight_features.schemas import BOOKS, FACTS
from backsight_features.snapshot import Snapshot

T0 = datetime(2021, 3, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERIES = BarSeries.parse("v:BTC-USD:1h")
NAMES = [feature.name.removeprefix("book_") for feature in book.FEATURES]
NOTHING = dict.fromkeys(NAMES)

Look = Mapping[str, Any]


def look(
    taken: float, *, known: float | None = None, spread: float = 1.0, side: float = 0.0, depth: float = 2.0
) -> Look:
    """Return a look taken so many minutes after `T0`; its spread is in basis points."""
    return {
        "observed_at": T0 + taken * MINUTE,
        "available_at": T0 + (taken if known is None else known) * MINUTE,
        "ingested_at": NOW,
        "bid": 100 * (1 - spread / 20_000),
        "ask": 100 * (1 + spread / 20_000),
        "bid_depth": depth * (1 + side) / 2,
        "ask_depth": depth * (1 - side) / 2,
    }


def frame(*looks: Look) -> pl.DataFrame:
    clocks = ("observed_at", "available_at", "ingested_at")
    schema = dict.fromkeys(clocks, UTC_US) | dict.fromkeys(("bid", "ask", "bid_depth", "ask_depth"), pl.Float64)
    return pl.DataFrame(list(looks), schema=pl.Schema(schema))


def at_minutes(*minutes: float) -> pl.Series:
    return pl.Series([T0 + minute * MINUTE for minute in minutes], dtype=UTC_US)


def approx(values: Mapping[str, float | None], rel: float = 1e-6) -> Any:
    """Return values to compare with; None, which a number never equals, stands as NaN on both sides."""
    return pytest.approx(numbers(values), rel=rel, abs=rel, nan_ok=True)


def numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in values.items()}


def features(looks: pl.DataFrame, at: pl.Series) -> list[dict[str, float | None]]:
    rows = book.book(looks, at, "1h")
    return rows.rename({name: name.removeprefix("book_") for name in rows.columns}).to_dicts()


TWO = (look(10, spread=1, side=0.5), look(50, spread=3, side=-0.1))


@pytest.mark.parametrize(
    ("looks", "at", "expected"),
    [
        pytest.param((), 60, NOTHING, id="nobody ever looked"),
        pytest.param(
            TWO,
            60,
            {
                "spread_last": 3.0,
                "spread_mean_1h": 2.0,
                "imbalance_last": -0.1,
                "imbalance_mean_1h": 0.2,
                "imbalance_std_1h": 0.3,
                "count_1h": log1p(2),
                "age_h": 1 / 6,
            },
            id="two looks",
        ),
        pytest.param(
            TWO,
            70,
            {"spread_mean_1h": 3.0, "imbalance_mean_1h": -0.1, "imbalance_std_1h": None, "count_1h": log1p(1)},
            id="one that is just an hour old is out; one look alone does not deviate",
        ),
        pytest.param(TWO, 110, NOTHING | {"count_1h": 0.0, "age_h": 1.0}, id="none within the last hour"),
        pytest.param(TWO, 50 + 24 * 60, NOTHING, id="nobody has looked for a day"),
        pytest.param(
            (*TWO, look(55, known=61, spread=9)),
            60,
            {"spread_last": 3.0, "count_1h": log1p(2), "age_h": 1 / 6},
            id="a late look is not known yet",
        ),
        pytest.param(
            (*TWO, look(55, known=61, spread=9)),
            61,
            {"spread_last": 9.0, "count_1h": log1p(3), "age_h": 0.1},
            id="a late look counts once it is known",
        ),
        pytest.param(
            (*TWO, look(40, known=61, spread=9)),
            61,
            {"spread_last": 3.0, "spread_mean_1h": 13 / 3, "count_1h": log1p(3)},
            id="a late look is not the newest for that",
        ),
        pytest.param((*TWO, look(5, known=80)), 80, {"count_1h": log1p(1)}, id="later than an hour it counts nothing"),
        pytest.param(
            (*TWO, look(50, known=55, spread=7, side=0.3)),
            54,
            {"spread_last": 3.0, "imbalance_last": -0.1},
            id="a correction is not known yet",
        ),
        pytest.param(
            (*TWO, look(50, known=55, spread=7, side=0.3)),
            55,
            {"spread_last": 7.0, "spread_mean_1h": 4.0, "imbalance_mean_1h": 0.4, "count_1h": log1p(2)},
            id="a correction takes the place of what it corrects",
        ),
        pytest.param(
            (*TWO, *TWO), 60, {"spread_mean_1h": 2.0, "count_1h": log1p(2)}, id="what is there twice counts once"
        ),
        pytest.param(
            (*TWO, look(55, depth=0.0, spread=5)),
            60,
            {
                "spread_last": 5.0,
                "imbalance_last": None,
                "imbalance_mean_1h": 0.2,
                "imbalance_std_1h": 0.3,
                "count_1h": log1p(3),
            },
            id="a book without any depth has a spread and no imbalance",
        ),
        pytest.param(
            tuple(look(minute, side=0.1) for minute in range(1, 60)),
            60,
            {"imbalance_mean_1h": 0.1, "imbalance_std_1h": 0.0},
            id="what is all alike does not deviate",
        ),
    ],
)
def test_looks_that_can_be_counted_by_hand(
    looks: tuple[Look, ...], at: float, expected: dict[str, float | None]
) -> None:
    (got,) = features(frame(*looks), at_minutes(at))
    assert numbers({name: got[name] for name in expected}) == approx(expected)


def slowly(looks: list[Look], at: datetime) -> dict[str, float | None]:
    """Return the features at an instant by going through all looks, given in their order of arrival."""
    held: dict[datetime, Look] = {}
    for one in looks:
        if one["available_at"] <= at:
            held[one["observed_at"]] = one
    newest = max((taken for taken in held if at - taken < DAY), default=None)
    lately = [held[taken] for taken in sorted(held) if at - taken < HOUR]
    spreads = [10_000 * (one["ask"] - one["bid"]) / ((one["ask"] + one["bid"]) / 2) for one in lately]
    both = [one["bid_depth"] + one["ask_depth"] for one in lately]
    sides = [
        (one["bid_depth"] - one["ask_depth"]) / sum_ if sum_ else None for one, sum_ in zip(lately, both, strict=True)
    ]
    told = [side for side in sides if side is not None]
    mean = sum(told) / len(told) if told else None
    return {
        "spread_last": spreads[-1] if spreads else None,
        "spread_mean_1h": sum(spreads) / len(spreads) if spreads else None,
        "imbalance_last": sides[-1] if sides else None,
        "imbalance_mean_1h": mean,
        "imbalance_std_1h": sqrt(sum((side - mean) ** 2 for side in told) / len(told)) if len(told) > 1 else None,
        "count_1h": None if newest is None else log1p(len(lately)),
        "age_h": None if newest is None else (at - newest) / HOUR,
    }


def looked(seed: int, size: int = 300) -> pl.DataFrame:
    """Return looks over ten days at irregular minutes: late, revised, repeated and empty ones, and long silences."""
    rng = np.random.default_rng(seed)
    taken = rng.choice(14_400, size, replace=False)
    taken = taken[(taken < 4_000) | (taken > 7_000)]
    late = np.where(rng.random(taken.size) < 0.2, rng.integers(0, 3_000, taken.size), 0)
    looks = [
        look(
            minute,
            known=minute + delay,
            spread=rng.uniform(0.1, 30),
            side=rng.uniform(-1, 1),
            depth=0.0 if rng.random() < 0.1 else rng.lognormal(),
        )
        for minute, delay in zip(taken.tolist(), late.tolist(), strict=True)
    ]
    revised = [
        {**looks[i], "bid": looks[i]["bid"] * 0.999, "available_at": looks[i]["available_at"] + int(delay) * MINUTE}
        for i, delay in zip(rng.integers(0, len(looks), 60).tolist(), rng.integers(0, 90, 60), strict=True)
    ]
    return frame(*looks, *revised, *looks[:20]).sample(fraction=1, shuffle=True, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_fast_says_what_is_slow_and_obvious(seed: int) -> None:
    looks = looked(seed)
    minutes = np.unique(np.append(np.arange(0, 15_000, 60), np.random.default_rng(seed).integers(0, 15_000, 150)))
    rows = features(looks, at_minutes(*minutes.tolist()))
    told = sorted(looks.to_dicts(), key=lambda one: (one["available_at"], one["ingested_at"], one["bid"]))
    for minute, got in zip(minutes.tolist(), rows, strict=True):
        expected = slowly(told, T0 + minute * MINUTE)
        assert numbers(got) == approx(expected, rel=1e-5), minute
    assert {name for got in rows for name in NAMES if got[name] is not None} == set(NAMES)
    assert {name for got in rows for name in NAMES if got[name] is None} == set(NAMES)


def test_a_part_of_the_instants_gets_what_all_get_to_the_last_bit() -> None:
    looks = looked(7, size=2_000)
    at = at_minutes(*np.arange(0, 15_000, 37).tolist())
    whole = book.book(looks, at, "1h")
    for first in range(0, len(at), 29):
        some = at[first : first + 29]
        taken = pl.col("observed_at").is_between(some[0] - DAY, some[-1], closed="right")
        part = book.book(looks.filter(taken, pl.col("available_at") <= some[-1]), some, "1h")
        assert part.equals(whole[first : first + 29], null_equal=True)


@pytest.mark.parametrize(("bar", "window", "silence"), [("5m", "5m", DAY), ("1d", "1d", DAY), ("1w", "1w", 7 * DAY)])
def test_windows_are_as_long_as_the_bar(bar: str, window: str, silence: timedelta) -> None:
    names = [feature.name for feature in book.features(bar)]
    assert names == [f"book_{name}".replace("1h", window) for name in NAMES]
    assert book.features(bar)[-1].lookback == silence
    rows = book.book(frame(*TWO), at_minutes(54, 60), bar)
    assert rows.columns == names
    assert rows[f"book_count_{window}"].to_list() == pytest.approx(
        [log1p(1), 0.0] if bar == "5m" else [log1p(2)] * 2, rel=1e-6
    )


# --- in a build ---


def append(home: Path, facts: Mapping[str, pl.DataFrame], day: int = 0) -> None:
    for name, rows in facts.items():
        Lake(home / "lake").append(FACTS[name], rows.drop("ingested_at"), now=NOW + day * DAY)


def make(home: Path) -> Built:
    built = build(Snapshot.take(Lake(home / "lake")), home / "features", [SERIES])
    return next(one for one in built if one.table == "book_1h")


def stored(home: Path) -> pl.DataFrame:
    return pl.read_delta(str(home / "features" / "book_1h")).sort("available_at")


def at_venue(rows_of: Callable, *looks: Look, venue: str = "v", symbol: str = "BTC-USD") -> pl.DataFrame:
    size = len(looks)
    named = {"venue": [venue] * size, "symbol": [symbol] * size, "reach_bp": [50.0] * size}
    clocks = {name: [to_us(one[name]) for one in looks] for name in ("observed_at", "available_at")}
    values = {name: [one[name] for one in looks] for name in ("bid", "ask", "bid_depth", "ask_depth")}
    return rows_of(BOOKS, {**named, **values, "bid_size": [1.0] * size, "ask_size": [1.0] * size, **clocks})


@pytest.fixture
def home(tmp_path: Path, bars_of: Callable, walk: Callable, rows_of: Callable) -> Path:
    """Return a home with 100 bars, a look every ten minutes, and features built from them."""
    append(tmp_path, {"bars": bars_of(walk(100, seed=1))})
    append(tmp_path, {"books": at_venue(rows_of, *(look(minute) for minute in range(0, 5_000, 10)))})
    make(tmp_path)
    return tmp_path


def test_a_late_look_changes_the_rows_that_it_may_and_no_other(home: Path, rows_of: Callable) -> None:
    before = stored(home)
    # Taken at 50:05, known at 50:50: of the rows it is in time for that of 51:00 alone.
    append(home, {"books": at_venue(rows_of, look(3_005, known=3_050, spread=9.0))}, 1)
    done = make(home)
    assert done.why == "late facts from 2021-03-03T02:50:00Z"
    assert done.computed == 24
    assert (done.written, done.first, done.last) == (1, *[T0 + 51 * HOUR + HOUR / 240] * 2)
    after = stored(home)
    differs = after.filter(pl.Series(np.any([after[name].ne_missing(before[name]) for name in after.columns], axis=0)))
    assert differs["book_spread_mean_1h"].to_list() == pytest.approx([(6 + 9) / 7])
    assert differs["book_spread_last"].to_list() == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("venue", "symbol", "late"),
    [("w", "BTC-USD", 0), ("v", "ETH-USD", 0), ("v", "BTC-USD", 24 * 60)],
    ids=["another venue", "another symbol", "a day late"],
)
def test_looks_of_no_concern_change_nothing(venue: str, symbol: str, late: int, home: Path, rows_of: Callable) -> None:
    other = at_venue(rows_of, look(3_005, known=3_005 + late, spread=9.0), venue=venue, symbol=symbol)
    append(home, {"books": other}, 1)
    done = make(home)
    assert (done.why, done.computed) == ("no new facts", 0)


def test_new_bars_read_the_looks_of_their_own_hours(home: Path, bars_of: Callable, rows_of: Callable) -> None:
    append(home, {"bars": bars_of(np.array([100.0]), start=T0 + 100 * HOUR)}, 1)
    append(home, {"books": at_venue(rows_of, look(5_990, spread=4.0))}, 1)
    done = make(home)
    assert (done.why, done.written) == ("new facts", 1)
    assert stored(home)["book_spread_last"].to_list()[-2:] == [None, pytest.approx(4.0)]
