"""No feature sees the future, and the check that says so catches what does."""

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features import macro
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.building.identities import identify
from backsight_features.building.states import CLOCKS, KINDS, Background, states
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, Table
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer

Frames = Mapping[str, pl.DataFrame]
SERIES = BarSeries.parse("v:BTC-USD:1h")
HOUR = timedelta(hours=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class InMemory:
    """Facts that were never written: what `states.states` reads, without a lake."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def scan(self, table: Table) -> pl.LazyFrame:
        return self.frames[table.name].lazy()


def honest(facts: Frames) -> pl.DataFrame:
    snapshot = InMemory(facts)
    background = Background.read(snapshot, Scorer(name="lexicon", revision="1"), identify(snapshot))
    first, *others = (states(kind, snapshot, SERIES, background) for kind in KINDS)
    return pl.concat([first, *(other.drop(CLOCKS) for other in others)], how="horizontal")


def backfilled(facts: Frames) -> pl.DataFrame:
    """Fills what is not yet defined from later rows."""
    return honest(facts).with_columns(pl.all().fill_null(strategy="backward"))


def stamped_at_open(facts: Frames) -> pl.DataFrame:
    """Takes a bar's open for the instant at which it was known."""
    return honest({**facts, "bars": facts["bars"].with_columns(available_at=pl.col("observed_at") - HOUR)})


def newest_version(facts: Frames) -> pl.DataFrame:
    """Reads corrected bars as if they had always been right."""
    right = facts["bars"].sort("available_at").unique("observed_at", keep="last", maintain_order=True)
    return honest({**facts, "bars": right.with_columns(available_at=pl.col("observed_at") + HOUR / 240)})


def scaled_on_everything(facts: Frames) -> pl.DataFrame:
    """Standardises with the mean of all rows."""
    rows = honest(facts)
    return rows.with_columns(pl.col(pl.Float32) - pl.col(pl.Float32).mean())


def macro_at_its_period(facts: Frames) -> pl.DataFrame:
    """Knows a month's number when the month begins."""
    return honest({**facts, "macro": facts["macro"].with_columns(available_at="observed_at")})


def texts_when_said(facts: Frames) -> pl.DataFrame:
    """Knows a text when it was written, not when it was seen."""
    said = {name: facts[name].with_columns(available_at="observed_at") for name in ("news", "posts")}
    scores = facts["scores"].with_columns(available_at=pl.col("available_at") - 6 * HOUR)
    return honest({**facts, **said, "scores": scores})


def instants(facts: Frames, seed: int) -> list[datetime]:
    """Return both sides of every gap, of some late facts of each kind, and some instants between."""
    bars = facts["bars"].sort("observed_at")
    edges = [
        at
        for (before, known_before), (after, known_after) in pairwise(
            bars.select("observed_at", "available_at").iter_rows()
        )
        if after - before > HOUR
        for at in (known_before, known_after)
    ]
    rng = np.random.default_rng(seed)
    others = [at for frame in facts.values() for at in frame["available_at"].sample(2, seed=seed)]
    first, last = bars["observed_at"].min(), bars["observed_at"].max()
    between = [first + (last - first) * share for share in rng.random(4)]
    exact = [at for at in edges + others if first <= at <= last]
    return sorted({*exact, *(at - timedelta(microseconds=1) for at in exact), *between})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.prove)])
def test_no_feature_changes_with_facts_that_became_known_later(
    seed: int, world: Callable, futures_seen: Callable
) -> None:
    facts = world(seed)
    assert list(futures_seen(honest, facts, instants(facts, seed))) == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, pytest.param(6, marks=pytest.mark.prove)])
def test_builds_in_between_see_no_future_either(
    count: int, tmp_path: Path, world: Callable, futures_seen: Callable
) -> None:
    def built(facts: Frames) -> pl.DataFrame:
        """Build three times from facts that come in in no order, and return what is there then."""
        home = Path(tempfile.mkdtemp(dir=tmp_path))
        lake = Lake(home / "lake")
        for batch in range(3):
            for name, frame in facts.items():
                part = frame.filter(pl.int_range(pl.len()).hash(seed=0) % 3 == batch).drop("ingested_at")
                lake.append(FACTS[name], part, now=NOW + timedelta(days=batch))
            done = build(Snapshot.take(lake), home / "features", [SERIES])
        assert {one.why.split(" from ")[0] for one in done} <= {"new facts", "late facts", "no new facts"}
        first, *others = (pl.read_delta(str(home / "features" / f"{kind}_1h")).sort("available_at") for kind in KINDS)
        return pl.concat([first, *(other.drop(CLOCKS) for other in others)], how="horizontal")

    facts = world(5, hours=300)
    asked = instants(facts, 5)
    assert list(futures_seen(built, facts, asked[:: len(asked) // count])) == []


def test_the_order_in_which_facts_are_read_decides_nothing(world: Callable) -> None:
    facts = world(0)
    # Versions of one fact that became known at one instant.
    tied = {
        "bars": facts["bars"][:50].with_columns(pl.col("close", "high") * 1.01),
        "news": facts["news"][:50].with_columns(text=pl.lit("other words")),
        "scores": facts["scores"][:50].with_columns(p_positive="p_negative", p_negative="p_positive"),
        "macro": facts["macro"][:50].with_columns(pl.col("value") * 1.01),
    }
    facts = {name: pl.concat([frame, tied.get(name, frame.clear())]) for name, frame in facts.items()}
    shuffled = {name: frame.sample(fraction=1, shuffle=True, seed=1) for name, frame in facts.items()}
    assert honest(facts).equals(honest(shuffled), null_equal=True)


def test_the_world_has_every_kind_of_fact_and_of_trouble(world: Callable) -> None:
    facts = world(0)
    assert {name for name, frame in facts.items() if frame.height} == FACTS.keys() - {"reactions"}
    in_order = facts["bars"].sort("available_at")["observed_at"]
    assert not in_order.is_sorted()
    rows = honest(facts)
    empty = [name for name in rows.columns if rows[name].null_count() == rows.height]
    assert [name for name in empty if not name.startswith("dtwexbgs")] == ["log_rv_528h"]
    assert macro.absent(facts["macro"]) == ["DTWEXBGS"]


@pytest.mark.parametrize(
    ("leak", "column"),
    [
        pytest.param(backfilled, "rsi_14", id="back-filled"),
        pytest.param(stamped_at_open, "ret_log_1h", id="bars stamped at their open"),
        pytest.param(newest_version, "ret_log_1h", id="corrections known from the start"),
        pytest.param(scaled_on_everything, "range_1h", id="scaled on everything"),
        pytest.param(macro_at_its_period, "vixcls_level", id="macro known at its period"),
        pytest.param(texts_when_said, "news_count_24h", id="texts known when said"),
    ],
)
def test_the_check_catches(leak: Callable, column: str, world: Callable, futures_seen: Callable) -> None:
    facts = world(0)
    assert any(name in (column, "rows") for _, name in futures_seen(leak, facts, instants(facts, 0)))
