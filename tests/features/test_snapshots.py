"""Named points of knowledge: to come back to what a lake held, and to say what came since."""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.fingerprint import fingerprint
from backsight_features.lake import Lake
from backsight_features.maintenance import maintain
from backsight_features.purge import purge
from backsight_features.purged import Post
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.snapshot_diff import between
from backsight_features.snapshots import NOW, create, current, listed, load, recall, restore
from click.testing import CliRunner
from deltalake import DeltaTable

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SERIES = BarSeries.parse("v:BTC-USD:1h")
TABLES = ("market_1h", "text_1h", "macro_1h", "book_1h")


def write(home: Path, facts: Mapping[str, pl.DataFrame], now: datetime) -> Lake:
    lake = Lake(home / "lake")
    for name, frame in facts.items():
        lake.append(FACTS[name], frame.drop("ingested_at"), now=now)
    return lake


def built(home: Path) -> dict[str, pl.DataFrame]:
    build(Snapshot.take(Lake(home / "lake")), home / "features", [SERIES])
    return rows(home)


def rows(home: Path) -> dict[str, pl.DataFrame]:
    return {name: pl.read_delta(str(home / "features" / name)).sort("available_at") for name in TABLES}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, world: Callable) -> Path:
    """Return a home with features, a snapshot ``a``, and a correction and a revision that came in after it."""
    root = tmp_path_factory.mktemp("made")
    facts = world(0, hours=200)
    lake = write(root, facts, FIRST)
    built(root)
    create(root, lake, root / "features", name="a", now=FIRST)
    bars = facts["bars"].sort("available_at")
    corrected = bars[150:151].with_columns(pl.col("close") * 1.001, pl.col("high") * 1.01)
    # Stated, not estimated: they count from their own instants.
    late = {
        "bars": corrected.with_columns(available_at=pl.col("available_at") + timedelta(hours=2)),
        "macro": facts["macro"].filter(pl.col("series") == "VIXCLS")[-1:].with_columns(pl.col("value") + 1.0),
    }
    write(root, late, FIRST + DAY)
    return root


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def clean_up(home: Path) -> None:
    """Leave no older version of any table of the lake."""
    for name in FACTS:
        if (home / "lake" / name).exists():
            table = DeltaTable(str(home / "lake" / name))
            table.optimize.compact()
            table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)


def test_a_fingerprint_is_that_of_the_rows_and_not_of_how_they_lie(world: Callable) -> None:
    facts = world(0, hours=200)
    for frame in (facts["bars"], facts["posts"]):
        told = fingerprint(frame.lazy())
        assert told.rows == frame.height
        assert fingerprint(frame.sample(fraction=1, shuffle=True, seed=1).lazy()) == told
        assert fingerprint(pl.concat([frame[:7], frame[7:]], rechunk=False).lazy()) == told
        for name in frame.columns:
            other = frame.with_columns(pl.when(pl.int_range(pl.len()) > 0).then(pl.col(name)))
            if frame.height and frame[name][0] is not None:
                assert fingerprint(other.lazy()) != told, name
        assert fingerprint(pl.concat([frame, frame[:1]]).lazy()) != told


def test_a_fingerprint_stays_the_same_over_versions_of_all_that_computes_it() -> None:
    frame = pl.DataFrame({"a": [1.5, None, -0.0], "b": ["x", "é", None], "c": [True, False, None], "d": [1, 2, -3]})
    assert fingerprint(frame.lazy()).sha256 == "eee25a3f54be5c3b4b350ad5e06da3d47c531d2b75ea09cef1a8d9a8447e6479"


def test_what_was_named_is_restored_to_the_last_bit_and_the_lake_stays(home: Path) -> None:
    then = rows(home)
    now = built(home)
    assert any(not then[name].equals(now[name], null_equal=True) for name in TABLES)
    before = {name: Lake(home / "lake").version(table) for name, table in FACTS.items()}
    recalled, _ = restore(load(home, "a"), Lake(home / "lake"), home / "again")
    assert recalled.differs == []
    again = rows(home / "again")
    assert all(again[name].equals(then[name], null_equal=True) for name in TABLES)
    assert {name: Lake(home / "lake").version(table) for name, table in FACTS.items()} == before
    with pytest.raises(BadInput, match="not empty"):
        restore(load(home, "a"), Lake(home / "lake"), home / "again")


def test_after_maintenance_it_falls_back_on_when_facts_were_written(home: Path) -> None:
    then = rows(home)
    clean_up(home)
    lake = Lake(home / "lake")
    recalled, _ = restore(load(home, "a"), lake, home / "again")
    assert recalled.differs == []
    assert recalled.facts.versions["bars"] == lake.version(FACTS["bars"])
    assert all(frame.equals(then[name], null_equal=True) for name, frame in rows(home / "again").items())


def test_what_was_purged_since_is_said(home: Path) -> None:
    lake = Lake(home / "lake")
    purge(lake, [Post(site="reddit", id="posts3")], by="test", now=FIRST + 2 * DAY)
    said: list[str] = []
    restore(load(home, "a"), lake, home / "again", say=said.append)
    assert [line for line in said if line.startswith("warning: not the facts of then: posts has ")]
    assert not [line for line in said if "bars has" in line]


def test_a_diff_names_facts_values_and_why(home: Path) -> None:
    lake = Lake(home / "lake")
    old, new = load(home, "a"), current(lake, home / "features", now=FIRST + DAY)
    assert new.name == NOW
    found = between((old, recall(old, lake)), (new, recall(new, lake)))
    assert found.facts.select("table", "source", "kind", "rows").rows() == [
        ("bars", "test", "version", 1),
        ("macro", "test", "version", 1),
    ]
    now = built(home)
    changed = {(table, feature) for table, _, feature, *_ in found.values.iter_rows()}
    recalled, _ = restore(old, lake, home / "again")
    for name, was in rows(home / "again").items():
        both = was.join(now[name], on="available_at", suffix=" now")
        for feature in was.columns[3:]:
            count = both[feature].ne_missing(both[f"{feature} now"]).sum()
            assert ((name, feature) in changed) == (count > 0), feature
            told = found.values.filter(table=name, feature=feature)["values"].sum()
            assert told == count
    assert recalled.differs == []
    example = next(one for one in found.examples if one.table == "market_1h")
    assert example.facts.select("table", "change").rows() == [("bars", "read now"), ("bars", "no longer read")]
    assert example.before != example.after

    # The same where only the facts are left to tell.
    clean_up(home)
    new = current(lake, home / "features", now=FIRST + DAY)
    after = between((old, recall(old, lake)), (new, recall(new, lake)))
    assert after.facts.equals(found.facts)
    assert after.values.equals(found.values)


def run(home: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["--home", str(home), "snapshot", *arguments])
    assert (done.exit_code if not isinstance(done.exception, BadInput) else 2) == code, done.output
    return done.stdout


def test_the_verb(home: Path, tmp_path: Path) -> None:
    versions = {name: Lake(home / "lake").version(table) for name, table in FACTS.items()}
    manifest = {
        "series": ["v:BTC-USD:1h"],
        "scorer": "lexicon@1",
        "lake_versions": {**versions, "bars": 1},
        "ingested_until": FIRST.isoformat(),
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"manifest": manifest}))
    named = json.loads(run(home, "create", "of-a-set", "--manifest", str(tmp_path / "manifest.json"), "--json"))
    assert named["tables"]["bars"]["version"] == 1
    assert named["sha256"] == load(home, "a").sha256, "what was written by then is what was named then"
    assert named["series"] == {"v:BTC-USD:1h": "lexicon@1"}
    assert "of-a-set  " in run(home, "list")
    assert [point.name for point in listed(home)] == ["a", "of-a-set"]
    assert "have the same facts" in run(home, "diff", "a", "of-a-set")
    told = run(home, "diff", "a", "now")
    assert "macro  test  1 version" in told
    assert "because of" in told
    assert json.loads(run(home, "diff", "a", "of-a-set", "--json"))["same"]
    assert "the lake is as it was" in run(home, "restore", "of-a-set")
    assert (home / "restored" / "of-a-set" / "features" / "market_1h").is_dir()
    run(home, "create", "a", code=2)
    run(home, "create", "../a", code=2)
    run(home, "create", "now", code=2)
    run(home, "diff", "a", "nothing", code=2)
    assert list((home / "snapshots").glob(".*")) == []


def test_maintenance_leaves_snapshots(home: Path) -> None:
    list(maintain(home / "lake"))
    assert recall(load(home, "a"), Lake(home / "lake")).differs == []
