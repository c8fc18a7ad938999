"""What was purged is nowhere any more, does not come back, and takes nothing else with it."""

import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features import delta
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.lake import Appended, Lake
from backsight_features.maintenance import maintain
from backsight_features.purge import Purge, purge
from backsight_features.purged import PURGED, Post
from backsight_features.schemas import FACTS, NEWS, POSTS, QUARANTINE, REACTIONS, SCORES, Table
from backsight_features.texts import normalise, text_id
from click.testing import CliRunner

T0 = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOCKS = {"observed_at": T0, "available_at": T0, "available_at_estimated": False, "source": "test"}
SECRET = "Zyzzyva"
"""Stands in every text that is to go, and in nothing else."""

GONE = Post(site="reddit", id="t3_gone")


def frame(table: Table, *rows: dict[str, object]) -> pl.DataFrame:
    full = [dict.fromkeys(table.columns) | CLOCKS | row if table.name in FACTS else row for row in rows]
    return pl.DataFrame(full, schema=dict(table.columns))


def post(id: str, text: str, *, channel: str = "bitcoin", day: int = 0, site: str = "reddit") -> pl.DataFrame:
    known = T0 + timedelta(days=day)
    return frame(POSTS, {"site": site, "channel": channel, "id": id, "title": "t", "text": text, "available_at": known})


def reaction(id: str, day: int, site: str = "reddit") -> pl.DataFrame:
    at = T0 + timedelta(days=day)
    row = {"site": site, "channel": "bitcoin", "id": id, "score": 1, "observed_at": at, "available_at": at}
    return frame(REACTIONS, row)


def broken(row: int, original: str, kind: str = "posts") -> pl.DataFrame:
    names = dict.fromkeys(("batch", "kind", "layout", "settings", "origin", "reason"), "x") | {"kind": kind}
    return frame(QUARANTINE, names | {"row": row, "original": original})


def scores(*texts: str) -> pl.DataFrame:
    ids = pl.DataFrame({"text": texts}).select(text_id(normalise(pl.col("text")))).to_series()
    chances = {"p_positive": 0.5, "p_negative": 0.25, "p_neutral": 0.25}
    return frame(SCORES, *({"text_id": id, "scorer": "s", "revision": "1", **chances} for id in ids))


def fill(root: Path | str) -> Lake:
    """Write what is to go and what is to stay, in several files and versions."""
    lake = Lake(root)
    parts = [
        (POSTS, post("gone", f"{SECRET} one")),
        (POSTS, post("gone", f"{SECRET} two, edited", day=1)),
        (POSTS, pl.concat([post("gone", f"{SECRET} elsewhere", channel="btc"), post("stays", "a text")])),
        (POSTS, post("gone1", "another id")),
        (POSTS, post("gone", "another site", site="forum")),
        (POSTS, pl.concat([post("gone", "said by two", channel="btc", day=2), post("two", "said by two")])),
        (REACTIONS, pl.concat([reaction("gone", 1), reaction("stays", 1)])),
        (REACTIONS, pl.concat([reaction("gone", 2), reaction("gone", 2, site="forum")])),
        (QUARANTINE, broken(1, json.dumps({"id": "gone", "text": f"{SECRET} with a fault"}))),
        (QUARANTINE, broken(2, f"t3_gone;{SECRET} in a line")),
        (QUARANTINE, broken(3, json.dumps({"id": "gone1", "text": "another id"}))),
        (QUARANTINE, broken(4, json.dumps({"observed_at": "gone"}), kind="bars")),
        (NEWS, frame(NEWS, {"id": "n", "title": "t", "text": "said in the news, too"})),
        (POSTS, post("gone", "said in the news, too", day=3)),
        (SCORES, scores(f"{SECRET} one", f"{SECRET} two, edited", "a text")),
        (SCORES, scores("said by two", "said in the news, too", f"{SECRET} elsewhere")),
    ]
    for number, (table, rows) in enumerate(parts):
        lake.append(table, rows, now=NOW, app="job", watermark=number)
    return lake


STAYS = {"posts": 4, "reactions": 2, "quarantine": 2, "scores": 3, "news": 1}
GOES = {"scores": 3, "reactions": 2, "quarantine": 2, "posts": 5}


def heights(lake: Lake) -> dict[str, int]:
    tables = (POSTS, REACTIONS, QUARANTINE, SCORES, NEWS)
    return {table.name: lake.scan(table).collect().height for table in tables}


def remains(root: Path) -> list[str]:
    """Return the files below a folder that hold what is to be gone, packed or not."""
    found = []
    for file in sorted(root.rglob("*")):
        if file.is_dir():
            continue
        held = str(pl.read_parquet(file, hive_partitioning=False).rows()) if file.suffix == ".parquet" else ""
        if SECRET in held or SECRET.encode() in file.read_bytes():
            found.append(str(file.relative_to(root)))
    return found


@pytest.mark.parametrize("kept", [False, True], ids=["many files", "compacted"])
def test_what_is_purged_is_gone_from_the_disk_and_all_else_stays(kept: bool, tmp_path: Path) -> None:
    lake = fill(tmp_path)
    if kept:
        for number in range(8):
            lake.append(POSTS, post(f"more{number}", "a text"), now=NOW)
        assert any(done.gathered for done in maintain(tmp_path))
    before = {table.name: lake.scan(table).collect() for table in (POSTS, REACTIONS, QUARANTINE, SCORES)}
    assert len(remains(tmp_path)) > 4
    done = purge(lake, [GONE], by="a test", now=NOW)
    assert {one.table: one.rows for one in done} == GOES
    assert all(one.files for one in done)
    assert remains(tmp_path) == []
    assert heights(lake) == {**STAYS, "posts": 12 if kept else 4}
    for name, table in (("posts", POSTS), ("reactions", REACTIONS), ("quarantine", QUARANTINE), ("scores", SCORES)):
        rows = lake.scan(table).collect()
        assert rows.join(before[name], on=rows.columns, how="semi", nulls_equal=True).height == rows.height
        assert lake.watermark(table, "job") is not None
    assert lake.scan(POSTS).filter(pl.col("id") == "gone").collect()["site"].to_list() == ["forum"]


def test_it_is_kept_that_it_happened_and_not_what(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    purge(lake, [GONE], by="a request", now=NOW)
    purge(lake, [GONE, Post(site="reddit", id="never seen")], by="another", now=NOW + timedelta(days=1))
    told = lake.scan(PURGED).sort("ingested_at").collect()
    assert told.select("site", "versions", "by").rows() == [("reddit", 5, "a request"), ("reddit", 0, "another")]
    assert told["ingested_at"].to_list() == [NOW, NOW + timedelta(days=1)]
    assert "gone" not in str(told.rows())


def test_a_second_purge_finds_nothing(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    purge(lake, [GONE], by="a test", now=NOW)
    assert {(one.rows, one.files) for one in purge(lake, [GONE], by="a test", now=NOW)} == {(0, 0)}
    assert heights(lake) == STAYS


def test_what_was_purged_does_not_come_back(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    purge(lake, [GONE], by="a test", now=NOW)
    again = pl.concat([post("gone", SECRET), post("t3_gone", SECRET, channel="new"), post("fresh", "a text")])
    assert lake.append(POSTS, again, now=NOW, app="job", watermark=99) == Appended(accepted=1, duplicate=2)
    assert lake.append(REACTIONS, reaction("gone", 9), now=NOW) == Appended(accepted=0, duplicate=1)
    lines = pl.concat(
        [broken(7, f'{{"id":"t3_gone","t":"{SECRET}"}}'), broken(8, "gone2"), broken(9, "gone", kind="bars")]
    )
    assert lake.append(QUARANTINE, lines, now=NOW) == Appended(accepted=2, duplicate=1)
    assert lake.append(POSTS, post("gone", "other", site="other"), now=NOW).accepted == 1
    assert remains(tmp_path) == []


def test_a_post_in_one_channel_only(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    done = purge(lake, [Post(site="reddit", id="gone", channel="btc")], by="a test", now=NOW)
    assert done[-1] == Purge(table="posts", rows=2, files=2)
    assert lake.append(POSTS, post("gone", SECRET, channel="btc"), now=NOW).accepted == 0
    assert lake.append(POSTS, post("gone", SECRET, day=9), now=NOW).accepted == 1


def test_a_dry_run_counts_and_leaves_all(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = purge(lake, [GONE], by="a test", now=NOW, dry_run=True)
    assert {one.table: one.rows for one in done} == GOES
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_post_is_refused(tmp_path: Path) -> None:
    for wrong in (Post(site="reddit", id="t3_"), Post(site="", id="a")):
        with pytest.raises(BadInput, match="needs a site and an id"):
            purge(Lake(tmp_path), [wrong], by="a test", now=NOW)


def test_quotes_in_names_are_names(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(POSTS, pl.concat([post("it's", SECRET, site="o'site"), post("x", "a text")]), now=NOW)
    done = purge(lake, [Post(site="o'site", id="it's"), Post(site="o'site", id="' OR 1=1 --")], by="o'me", now=NOW)
    assert done[-1].rows == 1
    assert lake.scan(POSTS).collect()["id"].to_list() == ["x"]


def test_on_an_object_store_it_is_as_in_a_folder(s3_root: str) -> None:
    lake = fill(s3_root)
    done = purge(lake, [GONE], by="a test", now=NOW)
    assert {one.table: one.rows for one in done} == GOES
    assert all(one.files for one in done)
    assert heights(lake) == STAYS
    assert lake.append(POSTS, post("gone", SECRET), now=NOW).accepted == 0
    place = delta.filesystem(s3_root)
    import pyarrow.fs

    for info in place.get_file_info(pyarrow.fs.FileSelector("", recursive=True)):
        if info.path.endswith(".parquet"):
            held = pl.read_parquet(place.open_input_file(info.path).read(), hive_partitioning=False)
            assert SECRET not in str(held.rows())


def test_a_build_sees_that_texts_went(tmp_path: Path) -> None:
    from backsight_features.snapshot import Snapshot

    lake = fill(tmp_path)
    since = lake.version(POSTS)
    purge(lake, [GONE], by="a test", now=NOW)
    assert Snapshot.take(lake).added(POSTS, since) is None
    assert Snapshot.take(lake).added(NEWS, lake.version(NEWS)).collect().is_empty()


def test_a_version_from_before_is_named_as_gone(tmp_path: Path) -> None:
    lake = fill(tmp_path)
    version = lake.version(POSTS)
    purge(lake, [GONE], by="a test", now=NOW)
    with pytest.raises(delta.Gone, match=rf"cannot be read as of version {version} any more: \d of its files"):
        delta.open(delta.join(tmp_path, "posts"), version=version)


# --- others write, and somebody kills ---


def test_a_writer_that_had_looked_before_brings_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path)
    lake.append(POSTS, post("stays", "a text"), now=NOW)
    from backsight_features import lake as module

    honest, purges = module.spared, [lambda: purge(lake, [GONE], by="a test", now=NOW)]

    def slow(root: str | Path, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
        passed = honest(root, table, rows)
        while purges and table is POSTS:
            # Between the look at what is purged and the commit; there is nothing of the post in the table yet.
            purges.pop()()
        return passed

    monkeypatch.setattr(module, "spared", slow)
    assert lake.append(POSTS, post("gone", SECRET), now=NOW) == Appended(accepted=0, duplicate=1)
    assert purges == []
    assert lake.scan(POSTS).collect()["id"].to_list() == ["stays"]
    assert len(remains(tmp_path)) == 1, "the file that it could not commit"
    assert purge(lake, [GONE], by="a test", now=NOW)[-1] == Purge(table="posts", rows=0, files=1)
    assert remains(tmp_path) == []


def test_writers_meanwhile_lose_nothing(tmp_path: Path) -> None:
    lake = fill(tmp_path)

    def write() -> None:
        for number in range(10):
            lake.append(POSTS, pl.concat([post(f"new{number}", "a text"), post("gone", SECRET)]), now=NOW)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        purge(lake, [GONE], by="a test", now=NOW)
    writer.join()
    purge(lake, [GONE], by="a test", now=NOW)
    assert heights(lake)["posts"] == STAYS["posts"] + 10
    assert remains(tmp_path) == []


PROGRAM = """
import sys
from datetime import UTC, datetime
from deltalake import DeltaTable
from backsight_features import delta
from backsight_features.lake import Lake
from backsight_features.purge import purge
from backsight_features.purged import Post
from pyarrow.fs import PyFileSystem

stop, done = int(sys.argv[2]), 0

def counted(step):
    def waiting(*given, **named):
        # Wait to be killed before the step of that number.
        global done
        if done == stop:
            print("ready", flush=True)
            sys.stdin.read()
        done += 1
        return step(*given, **named)
    return waiting

delta.append = counted(delta.append)
DeltaTable.delete = counted(DeltaTable.delete)
honest = delta.filesystem

class Place:
    def __init__(self, place): self.place = place
    def __getattr__(self, name):
        found = getattr(self.place, name)
        return counted(found) if name == "delete_file" else found

delta.filesystem = lambda *given: Place(honest(*given))
purge(Lake(sys.argv[1]), [Post(site="reddit", id="gone")], by="a test", now=datetime(2026, 1, 1, tzinfo=UTC))
print("through", flush=True)
"""


@pytest.mark.parametrize(
    "step", [0, 5, 8, *(pytest.param(n, marks=pytest.mark.prove) for n in (1, 2, 3, 4, 6, 7, 9, 10, 11))]
)
def test_a_purge_that_was_killed_is_made_good_by_the_next(step: int, tmp_path: Path) -> None:
    lake = fill(tmp_path)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(step)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert remains(tmp_path) != []
    purge(lake, [GONE], by="a test", now=NOW)
    assert remains(tmp_path) == []
    assert heights(lake) == STAYS
    assert lake.scan(PURGED).collect()["versions"].to_list() == [5]


def test_the_verb_says_what_went(tmp_path: Path) -> None:
    fill(tmp_path / "lake")
    run = CliRunner()
    asked = ["--home", str(tmp_path), "purge", "--site", "reddit", "--id", "t3_gone"]
    told = run.invoke(cli, [*asked, "--dry-run"], catch_exceptions=False)
    assert "posts  5 rows to be removed, 0 files deleted" in told.stdout
    told = run.invoke(cli, [*asked, "--json"], catch_exceptions=False)
    assert {one["table"]: one["rows"] for one in json.loads(told.stdout)} == GOES
    told = run.invoke(cli, asked, catch_exceptions=False)
    assert "posts  0 rows removed" in told.stdout
