"""Feature tables, built from a real lake."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features import book, macro, market, text
from backsight_features.bars import BarSeries
from backsight_features.build_cli import build as build_command
from backsight_features.building.build import build
from backsight_features.building.record import Record, code_version, records
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.workspace import Workspace
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SERIES = BarSeries.parse("v:BTC-USD:1h")
TABLES = ("market_1h", "text_1h", "macro_1h", "book_1h")
CLOCKS = ["symbol", "observed_at", "available_at"]


def fill(home: Path, facts: Mapping[str, pl.DataFrame], now: datetime = NOW) -> Lake:
    lake = Lake(home / "lake")
    for name, frame in facts.items():
        lake.append(FACTS[name], frame.drop("ingested_at"), now=now)
    return lake


def tables(home: Path) -> dict[str, pl.DataFrame]:
    return {name: pl.read_delta(str(home / "features" / name)).sort(CLOCKS[::2]) for name in TABLES}


def make(home: Path, *series: str, say: Callable[[str], None] = lambda line: None) -> None:
    build(
        Snapshot.take(Lake(home / "lake")),
        home / "features",
        [BarSeries.parse(s) for s in series or (str(SERIES),)],
        say=say,
    )


@pytest.fixture
def home(tmp_path: Path, world: Callable) -> Path:
    """Return a folder with a lake that holds facts of every kind, of two symbols."""
    facts = world(0, hours=200)
    fill(tmp_path, facts)
    fill(tmp_path, {"bars": facts["bars"].with_columns(symbol=pl.lit("ETH-USD"))})
    return tmp_path


def test_all_tables_have_the_same_rows(home: Path) -> None:
    make(home)
    made = tables(home)
    expected = dict(zip(TABLES, (market.FEATURES, text.FEATURES, macro.FEATURES, book.FEATURES), strict=True))
    for name, frame in made.items():
        assert frame.columns == CLOCKS + [feature.name for feature in expected[name]]
        assert frame.select(CLOCKS).equals(made["market_1h"].select(CLOCKS))
    rows = made["market_1h"]
    assert rows.select("symbol", "available_at").is_unique().all()
    assert rows["symbol"].unique().to_list() == ["BTC-USD"]
    bars = pl.scan_delta(str(home / "lake" / "bars")).filter(pl.col("symbol") == "BTC-USD").collect()
    assert rows["available_at"].to_list() == bars["available_at"].unique().sort().to_list()


def record(home: Path, table: str = "text_1h", series: str = "v:BTC-USD:1h") -> Record:
    return records(DeltaTable(str(home / "features" / table)))[series]


def test_a_commit_says_what_the_rows_were_made_of(home: Path) -> None:
    make(home)
    lake = Lake(home / "lake")
    for table in TABLES:
        made_of = record(home, table)
        assert made_of.lake == {name: lake.version(table) for name, table in FACTS.items()}
        assert made_of.scorer == "lexicon@1"
        assert made_of.code == code_version()
        assert made_of.ingested_until is None
    assert record(home).ids["bars"] == DeltaTable(str(home / "lake" / "bars")).metadata().id
    assert record(home).ids["reactions"] is None


def versions(home: Path) -> list[int]:
    return [DeltaTable(str(home / "features" / name)).version() for name in TABLES]


def files(home: Path) -> set[str]:
    return set(DeltaTable(str(home / "features" / "market_1h")).file_uris())


def test_a_second_build_commits_nothing(home: Path) -> None:
    make(home)
    first = tables(home)
    make(home)
    assert versions(home) == [1, 1, 1, 1]
    assert all(frame.equals(first[name], null_equal=True) for name, frame in tables(home).items())


def test_a_commit_says_what_the_rows_follow_from_though_none_is_new(home: Path, bars_of: Callable) -> None:
    make(home, "v:BTC-USD:1h")
    rows = tables(home)
    fill(home, {"bars": bars_of(np.array([100.0])).with_columns(symbol=pl.lit("XRP-USD"))}, NOW + timedelta(days=1))
    make(home, "v:BTC-USD:1h")
    assert versions(home) == [2, 2, 2, 2]
    assert all(frame.equals(rows[name], null_equal=True) for name, frame in tables(home).items())
    assert record(home, "macro_1h").lake["bars"] == Lake(home / "lake").version(FACTS["bars"])


def add_bar(home: Path, bars_of: Callable, close: float, hours: int = 1) -> None:
    """Add a bar that closes some hours after the last one, and is known at once."""
    last = tables(home)["market_1h"]["available_at"][-1].replace(minute=0, second=0)
    fill(home, {"bars": bars_of(np.array([close]), start=last + timedelta(hours=hours))}, NOW + timedelta(days=1))


def test_a_new_bar_is_appended(home: Path, bars_of: Callable) -> None:
    make(home)
    before, stored = files(home), tables(home)["market_1h"]
    add_bar(home, bars_of, 100.0)
    make(home)
    assert before < files(home)
    assert tables(home)["market_1h"][:-1].equals(stored, null_equal=True)


def test_small_files_are_gathered_and_the_record_stays(home: Path, bars_of: Callable) -> None:
    make(home)
    path, rows = str(home / "features" / "market_1h"), tables(home)["market_1h"]
    for _ in range(63):
        write_deltalake(path, rows[:0].to_arrow(), mode="append")
    write_deltalake(path, rows[:-62].to_arrow(), mode="overwrite")
    for row in rows[-62:].iter_slices(1):
        write_deltalake(path, row.to_arrow(), mode="append")
    assert len(files(home)) == 63
    add_bar(home, bars_of, 100.0)
    make(home)
    assert len(files(home)) == 1
    assert tables(home)["market_1h"][:-1].equals(rows, null_equal=True)
    assert record(home, "market_1h").lake["bars"] == Lake(home / "lake").version(FACTS["bars"])


def test_older_facts_that_come_in_later_replace_the_rows(home: Path, bars_of: Callable, walk: Callable) -> None:
    make(home)
    first = tables(home)["market_1h"]["observed_at"].min()
    older = bars_of(walk(30, seed=1), start=first - timedelta(hours=30))
    fill(home, {"bars": older}, NOW + timedelta(days=1))
    make(home)
    market_rows = tables(home)["market_1h"]
    assert market_rows["ret_log_1h"].head(31).null_count() == 1
    assert market_rows.select("symbol", "available_at").is_unique().all()


def test_rows_of_other_symbols_stay(home: Path) -> None:
    make(home, "v:BTC-USD:1h", "v:ETH-USD:1h")
    both = tables(home)
    make(home, "v:BTC-USD:1h")
    assert all(frame.equals(both[name], null_equal=True) for name, frame in tables(home).items())
    assert both["macro_1h"]["symbol"].unique().sort().to_list() == ["BTC-USD", "ETH-USD"]


def test_symbols_built_apart_are_as_built_together(home: Path) -> None:
    make(home, "v:BTC-USD:1h", "v:ETH-USD:1h")
    together = tables(home)
    for symbol in ("ETH-USD", "BTC-USD"):
        make(home, f"v:{symbol}:1h")
    assert all(frame.equals(together[name], null_equal=True) for name, frame in tables(home).items())


def test_a_table_of_other_features_is_replaced_only_as_a_whole(home: Path) -> None:
    make(home, "v:BTC-USD:1h", "v:ETH-USD:1h")
    path = str(home / "features" / "market_1h")
    write_deltalake(path, pl.read_delta(path).drop("rsi_14").to_arrow(), mode="overwrite", schema_mode="overwrite")
    with pytest.raises(BadInput, match=r"market_1h has other features .* build ETH-USD in the same call"):
        make(home, "v:BTC-USD:1h")
    make(home, "v:BTC-USD:1h", "v:ETH-USD:1h")
    assert "rsi_14" in tables(home)["market_1h"].columns


def test_facts_that_come_later_change_no_row_before_them(home: Path, bars_of: Callable, walk: Callable) -> None:
    make(home)
    before = tables(home)
    end = before["market_1h"]["available_at"][-1]
    first, last = before["market_1h"]["observed_at"][[0, -1]]
    new = bars_of(walk(50, seed=9), start=last + timedelta(hours=1))
    corrections = bars_of(walk(50, seed=8), start=first)
    delay = pl.duration(hours=pl.Series(np.random.default_rng(0).integers(1, 40, 100)))
    later = pl.concat([new, corrections]).with_columns(available_at=pl.lit(end) + delay)
    fill(home, {"bars": later.filter(pl.col("available_at") >= pl.col("observed_at"))}, NOW + timedelta(days=1))
    make(home)
    for name, frame in tables(home).items():
        assert frame.filter(pl.col("available_at") <= end).equals(before[name], null_equal=True)
        assert frame.height > before[name].height


def test_what_is_absent_is_null_and_said_once(tmp_path: Path, world: Callable) -> None:
    fill(tmp_path, {"bars": world(0, hours=200)["bars"]})
    lines: list[str] = []
    make(tmp_path, say=lines.append)
    made = tables(tmp_path)
    for name in ("text_1h", "macro_1h", "book_1h"):
        features = made[name].drop(CLOCKS)
        assert features.null_count().row(0) == (features.height,) * features.width
    assert [line for line in lines if line.startswith("warning:")] == [
        "warning: no texts of news: its features are null",
        "warning: no texts of reddit: its features are null",
        "warning: no text was scored: all sentiment is null",
        "warning: no macro series CPIAUCSL, UNRATE, DGS10, VIXCLS, DTWEXBGS, FNG: their features are null",
        "warning: no order books of v:BTC-USD: their features are null",
    ]


def test_two_venues_cannot_share_a_symbol(home: Path) -> None:
    with pytest.raises(BadInput, match="a symbol has one venue per timeframe"):
        make(home, "v:BTC-USD:1h", "w:BTC-USD:1h")


def test_a_series_that_is_not_there_says_and_writes_nothing_else(home: Path) -> None:
    lines: list[str] = []
    with pytest.raises(BadInput, match="no bars v:XRP-USD:1h in the lake; there are v:BTC-USD:1h, v:ETH-USD:1h"):
        make(home, "v:BTC-USD:1h", "v:XRP-USD:1h", say=lines.append)
    assert lines == []
    assert not (home / "features").exists()


def test_the_command_says_what_was_computed_written_and_why(home: Path, bars_of: Callable) -> None:
    runner, workspace = CliRunner(), Workspace(root=home)
    plain = runner.invoke(build_command, ["--bars", "v:BTC-USD:1h"], obj=workspace)
    assert plain.exit_code == 0
    rows = tables(home)["market_1h"]
    first, last = (f"{at:%FT%TZ}" for at in (rows["available_at"][0], rows["available_at"][-1]))
    assert plain.stdout.splitlines() == [
        f"{name}  BTC-USD  {rows.height} of {rows.height} rows written  {first} to {last}  (full: first build)"
        for name in TABLES
    ]
    assert "warning: no macro series DTWEXBGS" in plain.stderr

    again = runner.invoke(build_command, ["--bars", "v:BTC-USD:1h"], obj=workspace)
    assert again.stdout.splitlines()[0] == "market_1h  BTC-USD  0 of 0 rows written  (no new facts)"

    add_bar(home, bars_of, 100.0)
    as_json = json.loads(runner.invoke(build_command, ["--bars", "v:BTC-USD:1h", "--json"], obj=workspace).stdout)
    newest = f"{tables(home)['market_1h']['available_at'][-1]:%FT%TZ}"
    assert as_json[0] == {
        "table": "market_1h",
        "symbol": "BTC-USD",
        "why": "new facts",
        "computed": 1,
        "written": 1,
        "first": newest,
        "last": newest,
    }


def test_the_command_wants_a_scorer_it_knows(home: Path) -> None:
    result = CliRunner().invoke(
        build_command, ["--bars", "v:BTC-USD:1h", "--scorer", "finbert@1"], obj=Workspace(root=home)
    )
    assert isinstance(result.exception, BadInput)
    assert "the lake has scores by lexicon@1" in str(result.exception)
