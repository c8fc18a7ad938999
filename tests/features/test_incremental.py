"""What a build leaves is, to the last bit, what computing everything would leave, whatever came in, in which order."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.build import Built, build
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERIES = BarSeries.parse("v:BTC-USD:1h")
TABLES = ("market_1h", "text_1h", "macro_1h")
Frames = Mapping[str, pl.DataFrame]


def append(home: Path, facts: Frames, day: int = 0) -> None:
    """Add facts to the lake, as read on some day."""
    lake = Lake(home / "lake")
    for name, frame in facts.items():
        if frame.height:
            lake.append(FACTS[name], frame.drop("ingested_at"), now=NOW + timedelta(days=day))


def make(home: Path, *series: BarSeries, features: str = "features") -> list[Built]:
    return build(Snapshot.take(Lake(home / "lake")), home / features, series or [SERIES])


def tables(home: Path, features: str = "features") -> dict[str, pl.DataFrame]:
    return {name: pl.read_delta(str(home / features / name)).sort("symbol", "available_at") for name in TABLES}


def bits(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with numbers as the integers of their bits, so that -0 is not 0; null stays null."""
    return frame.with_columns(
        pl.Series(column.name, column.fill_null(0).to_numpy().view(np.int32)).zip_with(
            column.is_not_null(), pl.Series([None], dtype=pl.Int32).new_from_index(0, column.len())
        )
        for column in frame.get_columns()
        if column.dtype == pl.Float32
    )


def assert_whole(home: Path, *series: BarSeries) -> None:
    """Compare the tables with those that a build from nothing makes."""
    afresh = f"afresh-{len(list(home.glob('afresh-*')))}"
    make(home, *series, features=afresh)
    expected = tables(home, afresh)
    for name, frame in tables(home).items():
        assert frame.height == expected[name].height
        for column in frame.columns:
            ours, theirs = (bits(one)[column] for one in (frame, expected[name]))
            assert ours.equals(theirs, null_equal=True), f"{name} {column}"


def dealt(facts: Frames, batches: int, rng: np.random.Generator, disorder: float) -> list[dict[str, pl.DataFrame]]:
    """Return facts in batches, roughly in the order in which they became known; the larger the disorder the less so."""
    out: list[dict[str, pl.DataFrame]] = [{} for _ in range(batches)]
    for name, frame in facts.items():
        place = frame["available_at"].rank("ordinal").to_numpy() / (frame.height + 1)
        moved = np.where(rng.random(frame.height) < disorder, rng.random(frame.height), place)
        batch = np.minimum((moved * batches).astype(int), batches - 1)
        for number in range(batches):
            out[number][name] = frame.filter(pl.Series(batch == number))
    return out


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 24))])
def test_builds_in_between_leave_what_one_build_at_the_end_leaves(seed: int, tmp_path: Path, world: Callable) -> None:
    rng = np.random.default_rng(seed)
    facts = world(seed, hours=int(rng.integers(150, 500)))
    batches = dealt(facts, int(rng.integers(2, 7)), rng, disorder=float(rng.choice([0.02, 0.3, 1.0])))
    append(tmp_path, {"bars": facts["bars"][:1]})
    for day, batch in enumerate(batches):
        append(tmp_path, batch, day)
        if rng.random() < 0.8:
            make(tmp_path)
    make(tmp_path)
    assert_whole(tmp_path)
