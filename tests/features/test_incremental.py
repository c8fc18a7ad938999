"""What a build leaves is, to the last bit, what computing everything would leave, whatever came in, in which order."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features import delta
from backsight_features.bars import BarSeries
from backsight_features.building.build import Built, build
from backsight_features.building.identities import identify
from backsight_features.building.record import code_version, metadata, records
from backsight_features.building.states import KINDS, Background, states
from backsight_features.lake import Lake
from backsight_features.maintenance import maintain
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.spans import Span
from backsight_features.text import Scorer
from deltalake import CommitProperties, DeltaTable, write_deltalake

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SERIES = BarSeries.parse("v:BTC-USD:1h")
TABLES = ("market_1h", "text_1h", "macro_1h", "book_1h")
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


def bits(column: pl.Series) -> np.ndarray:
    """Return the bits of a column's numbers, so that -0 is not 0; NaN, which is never stored, stands for null."""
    assert column.dtype != pl.Float32 or not column.is_nan().any()
    return column.to_numpy().view(np.int32) if column.dtype == pl.Float32 else column.to_physical().to_numpy()


def assert_whole(home: Path, *series: BarSeries) -> None:
    """Compare the tables with those that a build from nothing makes."""
    afresh = f"afresh-{len(list(home.glob('afresh-*')))}"
    make(home, *series, features=afresh)
    expected = tables(home, afresh)
    for name, frame in tables(home).items():
        assert frame.height == expected[name].height
        assert frame.schema == expected[name].schema
        for column in frame.columns:
            assert (bits(frame[column]) == bits(expected[name][column])).all(), f"{name} {column}"


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


def reasons(built: Sequence[Built]) -> set[str]:
    """Return why rows were computed, in a word each."""
    return {one.why.split(":")[0].split(" from ")[0] for one in built}


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(3, 12))])
def test_builds_in_between_leave_what_one_build_at_the_end_leaves(seed: int, tmp_path: Path, world: Callable) -> None:
    rng = np.random.default_rng(seed)
    facts = world(seed, hours=int(rng.integers(150, 500)))
    # A scorer, once there, is another than none: the one reason here to compute everything.
    append(tmp_path, {"bars": facts["bars"][:1], "scores": facts["scores"][:1]})
    make(tmp_path)
    for day, batch in enumerate(dealt(facts, int(rng.integers(2, 7)), rng, float(rng.choice([0.02, 0.3, 1.0])))):
        append(tmp_path, batch, day)
        if rng.random() < 0.8:
            assert reasons(make(tmp_path)) <= {"no new facts", "new facts", "late facts"}
    make(tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.prove)])
def test_the_order_in_which_facts_come_in_decides_nothing(seed: int, tmp_path: Path, world: Callable) -> None:
    rng = np.random.default_rng(seed)
    facts = world(seed, hours=200)
    made = []
    for name, batches in (("at-once", 1), ("in-disorder", 5)):
        home = tmp_path / name
        for batch in dealt(facts, batches, rng, disorder=1.0):
            append(home, batch)
            make(home)
        made.append(tables(home))
    for name in TABLES:
        assert made[0][name].equals(made[1][name], null_equal=True)


def long_bars(bars_of: Callable, walk: Callable, seed: int, hours: int = 6000) -> pl.DataFrame:
    """Return bars of which nine tenths lie beyond the memory of the last: with gaps, late and corrected ones."""
    rng = np.random.default_rng(seed)
    bars = bars_of(walk(hours, seed=seed, gaps=0.01), start=datetime(2020, 1, 1, tzinfo=UTC), seed=seed)
    late = pl.Series(rng.random(bars.height) < 0.002)
    delay = pl.duration(hours=pl.Series(rng.integers(1, 3000, bars.height)))
    bars = bars.with_columns(available_at=pl.when(late).then(pl.col("available_at") + delay).otherwise("available_at"))
    corrected = bars.sample(8, seed=seed).with_columns(
        pl.col("close", "high") * 1.01,
        available_at=pl.col("available_at") + pl.duration(hours=pl.Series(rng.integers(0, 4000, 8))),
    )
    return pl.concat([bars, corrected])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 8))])
def test_a_long_series_is_computed_where_it_is_affected_only(
    seed: int, tmp_path: Path, bars_of: Callable, walk: Callable
) -> None:
    rng = np.random.default_rng(seed)
    bars = long_bars(bars_of, walk, seed).sort("available_at")
    held_back = pl.Series(rng.random(bars.height) < 0.001)
    append(tmp_path, {"bars": bars.filter(~held_back)[:-50]})
    make(tmp_path)
    for day, came in enumerate([bars[-50:-49], bars.filter(held_back)[:2], bars[-49:], bars.filter(held_back)[2:]]):
        append(tmp_path, {"bars": came}, day)
        market_rows = make(tmp_path)[0]
        assert market_rows.why.startswith(("new facts", "late facts"))
        if came.height == 1:
            assert market_rows.computed == 1
    assert_whole(tmp_path)


def test_a_correction_affects_the_rows_that_remember_it(tmp_path: Path, bars_of: Callable, walk: Callable) -> None:
    bars = bars_of(walk(6000, seed=1))
    append(tmp_path, {"bars": bars})
    make(tmp_path)
    append(tmp_path, {"bars": bars[1000].with_columns(pl.col("close", "high") * 1.01)}, 1)
    market_rows, texts, numbers, books = make(tmp_path)
    # Its own row, and 2048 after it: of these the ones with a recursive indicator that has not forgotten it differ.
    assert market_rows.computed == 2049
    assert market_rows.first == bars["available_at"][1000]
    assert market_rows.last <= bars["available_at"][3048]
    assert [(one.computed, one.written) for one in (texts, numbers, books)] == [(1, 0)] * 3
    assert {one.why for one in (market_rows, texts, numbers, books)} == {f"late facts from {market_rows.first:%FT%TZ}"}
    assert_whole(tmp_path)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 3))])
def test_states_in_a_span_are_those_of_the_whole(seed: int, tmp_path: Path, world: Callable) -> None:
    append(tmp_path, world(seed, hours=450))
    facts = Snapshot.take(Lake(tmp_path / "lake"))
    background = Background.read(facts, Scorer(name="lexicon", revision="1"), identify(facts))
    whole = {kind: states(kind, facts, SERIES, background) for kind in KINDS}
    instants = whole["market"]["available_at"].dt.epoch("us").to_numpy()
    closes = whole["market"]["observed_at"].dt.epoch("us").to_numpy()
    for first in range(180, 420, 20):
        span = Span(int(instants[first]), int(instants[first + 5]))
        for kind, rows in whole.items():
            part = states(kind, facts, SERIES, background, span, newest=int(closes[first - 1]))
            assert part.height == 5
            for column in part.columns:
                assert (bits(part[column]) == bits(rows[column][first : first + 5])).all(), f"{kind} {column}"


def test_a_bar_before_all_others_is_known_from_then_on(tmp_path: Path, bars_of: Callable, walk: Callable) -> None:
    bars = bars_of(walk(300, seed=1))
    append(tmp_path, {"bars": bars[100:]})
    make(tmp_path)
    append(tmp_path, {"bars": bars[:100]}, 1)
    assert make(tmp_path)[0].written == 300
    assert_whole(tmp_path)


def test_a_bar_that_no_row_remembers_makes_a_row(tmp_path: Path, bars_of: Callable, walk: Callable) -> None:
    bars = bars_of(walk(4000, seed=1))
    append(tmp_path, {"bars": pl.concat([bars[:1000], bars[1001:]])})
    make(tmp_path)
    late = bars[1000].with_columns(available_at=bars["available_at"][3500] + timedelta(minutes=1))
    append(tmp_path, {"bars": late}, 1)
    assert [one.written for one in make(tmp_path)] == [1, 1, 1, 1]
    assert_whole(tmp_path)


def test_symbols_are_built_apart(tmp_path: Path, world: Callable) -> None:
    facts = world(3, hours=200)
    other = replace(SERIES, symbol="ETH-USD")
    both = pl.concat([facts["bars"], facts["bars"].with_columns(pl.lit("ETH-USD").alias("symbol"))])
    append(tmp_path, {**facts, "bars": both.filter(pl.col("available_at") < both["available_at"].median())})
    make(tmp_path, SERIES, other)
    append(tmp_path, {"bars": both}, 1)
    make(tmp_path, other)
    assert {(one.symbol, one.why) for one in make(tmp_path, SERIES, other) if one.written == 0} == {
        ("ETH-USD", "no new facts")
    }
    assert_whole(tmp_path, SERIES, other)


def test_tables_on_an_object_store_are_built_as_in_a_folder(tmp_path: Path, s3_root: str, world: Callable) -> None:
    facts = world(6, hours=200)
    remote = Lake(f"{s3_root}/lake")
    for day, batch in enumerate(dealt(facts, 3, np.random.default_rng(6), disorder=0.1)):
        append(tmp_path, batch, day)
        for name, frame in batch.items():
            remote.append(FACTS[name], frame.drop("ingested_at"), now=NOW + timedelta(days=day))
        done = build(Snapshot.take(remote), f"{s3_root}/features", [SERIES])
        assert done == make(tmp_path)
    assert reasons(done) <= {"new facts", "late facts"}
    for name, local in tables(tmp_path).items():
        table = delta.open(delta.join(s3_root, "features", name))
        stored = delta.scan(table).sort("symbol", "available_at").collect()
        assert all((bits(stored[column]) == bits(local[column])).all() for column in local.columns)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 8))])
def test_a_lake_that_is_kept_between_builds_has_no_other_facts(seed: int, tmp_path: Path, world: Callable) -> None:
    rng = np.random.default_rng(seed)
    facts = world(seed, hours=180)
    append(tmp_path, {"bars": facts["bars"][:1], "scores": facts["scores"][:1]})
    make(tmp_path)
    gathered = 0
    for day, batch in enumerate(dealt(facts, 12, rng, disorder=0.05)):
        append(tmp_path, batch, day)
        if day % 8 == 7:
            # Files that came in since the last build are put together with those from before.
            gathered += sum(done.gathered for done in maintain(tmp_path / "lake"))
        if rng.random() < 0.15:
            assert reasons(make(tmp_path)) <= {"no new facts", "new facts", "late facts"}
    make(tmp_path)
    assert gathered > 12
    list(maintain(tmp_path / "lake"))
    assert {one.why for one in make(tmp_path)} == {"no new facts"}
    assert_whole(tmp_path)


def test_only_new_facts_are_computed_after_their_files_were_put_together(
    tmp_path: Path, bars_of: Callable, walk: Callable
) -> None:
    bars = bars_of(walk(3000, seed=1))
    append(tmp_path, {"bars": bars[:2980]})
    make(tmp_path)
    for number in range(2980, 2995):
        append(tmp_path, {"bars": bars[number]}, 1)
    (done,) = maintain(tmp_path / "lake")
    assert done.gathered >= 15
    append(tmp_path, {"bars": bars[2995:]}, 2)
    assert {(one.why, one.computed) for one in make(tmp_path)} == {("new facts", 20)}
    assert_whole(tmp_path)


# --- what forces a full build ---


def test_an_empty_table_is_built_whole(tmp_path: Path, world: Callable) -> None:
    append(tmp_path, world(0, hours=200))
    assert {one.why for one in make(tmp_path)} == {"full: first build"}


def test_facts_that_were_written_anew_are_read_anew(tmp_path: Path, world: Callable) -> None:
    append(tmp_path, world(0, hours=200))
    make(tmp_path)
    news = DeltaTable(str(tmp_path / "lake" / "news"))
    news.delete("id = 'news3'")
    market_rows, texts, numbers, books = make(tmp_path)
    assert (market_rows.why, numbers.why, books.why) == ("no new facts",) * 3
    assert texts.why == "full: what came into news since version 1 cannot be told"
    assert texts.written > 0
    assert_whole(tmp_path)


def test_a_version_that_was_cleaned_up_is_not_built_upon(tmp_path: Path, world: Callable) -> None:
    facts = world(0, hours=200)
    append(tmp_path, facts)
    make(tmp_path)
    append(tmp_path, {"bars": facts["bars"][-1].with_columns(pl.col("close", "high") * 1.01)}, 1)
    list(maintain(tmp_path / "lake", retention=timedelta(0)))
    assert {one.why for one in make(tmp_path)} == {"full: what came into bars since version 1 cannot be told"}
    assert_whole(tmp_path)


def test_a_bar_that_was_forgotten_leaves_no_row(tmp_path: Path, world: Callable) -> None:
    facts = world(0, hours=200)
    append(tmp_path, facts)
    make(tmp_path)
    gone = facts["bars"].filter(pl.col("available_at").is_unique())["available_at"][100]
    DeltaTable(str(tmp_path / "lake" / "bars")).delete(f"available_at = '{gone:%FT%T}Z'")
    before = tables(tmp_path)["market_1h"].height
    assert {one.why for one in make(tmp_path)} == {"full: what came into bars since version 1 cannot be told"}
    assert tables(tmp_path)["market_1h"].height == before - 1
    assert_whole(tmp_path)


def test_a_lake_that_was_made_anew_is_read_anew(tmp_path: Path, world: Callable) -> None:
    append(tmp_path, world(0, hours=200))
    make(tmp_path)
    shutil.rmtree(tmp_path / "lake")
    append(tmp_path, world(1, hours=200))
    market_rows, texts, numbers, books = make(tmp_path)
    why = {one.why for one in (market_rows, texts, numbers, books)}
    assert why == {"full: bars in the lake is another table than it was"}
    assert_whole(tmp_path)


def test_another_scorer_concerns_the_texts_only(tmp_path: Path, world: Callable) -> None:
    facts = world(0, hours=200)
    append(tmp_path, facts)
    make(tmp_path)
    append(tmp_path, {"scores": facts["scores"].with_columns(pl.lit("2").alias("revision"))}, 1)
    market_rows, texts, numbers, books = build(
        Snapshot.take(Lake(tmp_path / "lake")),
        tmp_path / "features",
        [SERIES],
        scorer=Scorer(name="lexicon", revision="2"),
    )
    assert (market_rows.why, numbers.why, books.why) == ("no new facts",) * 3
    assert texts.why == "full: texts were scored by lexicon@1, now by lexicon@2"
    assert texts.written == 0


def test_another_version_of_the_code_takes_nothing_over(tmp_path: Path, world: Callable) -> None:
    append(tmp_path, world(0, hours=200))
    make(tmp_path)
    table = DeltaTable(str(tmp_path / "features" / "macro_1h"))
    rows, built = pl.read_delta(table), records(table)
    older = {name: replace(record, code="0.0.1") for name, record in built.items()}
    write_deltalake(
        table,
        rows.with_columns(fng_level=pl.lit(7.0, pl.Float32)).to_arrow(),
        mode="overwrite",
        commit_properties=CommitProperties(custom_metadata=metadata(older)),
    )
    assert make(tmp_path)[2].why == f"full: built by version 0.0.1, this is {code_version()}"
    assert_whole(tmp_path)


def test_a_bound_on_the_facts_is_part_of_what_rows_follow_from(tmp_path: Path, world: Callable) -> None:
    facts = world(0, hours=200)
    append(tmp_path, {**facts, "bars": facts["bars"][:150]})
    append(tmp_path, {"bars": facts["bars"]}, 5)
    lake = Lake(tmp_path / "lake")
    build(Snapshot.take(lake, ingested_until=NOW), tmp_path / "features", [SERIES])
    assert make(tmp_path)[0].why == "full: built from facts ingested until 2026-01-01 00:00:00+00:00"
    assert_whole(tmp_path)


# --- broken off ---


PROGRAM = """
import sys
from pathlib import Path
from backsight_features import delta
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.lake import Lake
from backsight_features.snapshot import Snapshot

home, stop = Path(sys.argv[1]), int(sys.argv[2])
written = 0

def counted(write):
    def waiting(*given, **named):
        # Wait to be killed before the commit of that number: where nothing, or some of the tables are written.
        global written
        if written == stop:
            print("ready", flush=True)
            sys.stdin.read()
        written += 1
        write(*given, **named)
    return waiting

delta.append, delta.replace = counted(delta.append), counted(delta.replace)
build(Snapshot.take(Lake(home / "lake")), home / "features", [BarSeries.parse("v:BTC-USD:1h")])
"""


@pytest.mark.parametrize("commits", range(5))
def test_a_build_that_was_killed_is_made_good_by_the_next(commits: int, tmp_path: Path, world: Callable) -> None:
    facts = world(2, hours=300)
    batches = dealt(facts, 3, np.random.default_rng(2), disorder=0.05)
    append(tmp_path, batches[0])
    make(tmp_path)
    before = [DeltaTable(str(tmp_path / "features" / name)).version() for name in ("texts", *TABLES)]
    append(tmp_path, batches[1], 1)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(commits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    after = [DeltaTable(str(tmp_path / "features" / name)).version() for name in ("texts", *TABLES)]
    assert [new > old for new, old in zip(after, before, strict=True)] == [number < commits for number in range(5)]
    append(tmp_path, batches[2], 2)
    make(tmp_path)
    assert_whole(tmp_path)


def test_a_build_from_an_older_state_of_the_lake_puts_nothing_back(tmp_path: Path, world: Callable) -> None:
    batches = dealt(world(2, hours=300), 3, np.random.default_rng(2), disorder=0.3)
    older = []
    for day, batch in enumerate(batches):
        append(tmp_path, batch, day)
        older.append(Snapshot.take(Lake(tmp_path / "lake")))
        make(tmp_path)
    expected = tables(tmp_path)
    for facts in (older[0], replace(older[0], versions={**older[2].versions, "news": older[0].versions["news"]})):
        done = build(facts, tmp_path / "features", [SERIES])
        assert {(one.why, one.written) for one in done} == {("no new facts", 0)}
        assert all(frame.equals(expected[name]) for name, frame in tables(tmp_path).items())


def test_a_lake_that_was_put_back_is_followed(tmp_path: Path, world: Callable) -> None:
    batches = dealt(world(2, hours=300), 2, np.random.default_rng(2), disorder=0.05)
    append(tmp_path, batches[0])
    shutil.copytree(tmp_path / "lake", tmp_path / "copy")
    append(tmp_path, batches[1], 1)
    make(tmp_path)
    shutil.rmtree(tmp_path / "lake")
    (tmp_path / "copy").rename(tmp_path / "lake")
    assert reasons(make(tmp_path)) == {"full"}
    assert_whole(tmp_path)


def test_builds_at_once_do_not_disturb_each_other(tmp_path: Path, world: Callable) -> None:
    facts = world(2, hours=300)
    for day, batch in enumerate(dealt(facts, 2, np.random.default_rng(2), disorder=0.05)):
        append(tmp_path, batch, day)
        running = [
            subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), "-1"], stdin=subprocess.DEVNULL)
            for _ in range(3)
        ]
        assert [process.wait() for process in running] == [0, 0, 0]
        assert_whole(tmp_path)
