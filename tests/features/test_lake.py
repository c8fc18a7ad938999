import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features import delta
from backsight_features.errors import Drifted
from backsight_features.lake import Appended, Lake
from backsight_features.maintenance import maintain
from backsight_features.schemas import BARS, MACRO, POSTS, QUARANTINE
from backsight_features.snapshot import Snapshot
from deltalake import DeltaTable

T0 = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where a lake may lie."""
    return str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_root")


def bars(*closes: float, start: datetime = T0, estimated: bool = True, lag: timedelta = timedelta()) -> pl.DataFrame:
    at = [start + HOUR * i for i in range(len(closes))]
    return pl.DataFrame(
        {
            "venue": "bitstamp",
            "symbol": "BTC-USD",
            "timeframe": "1h",
            "open": closes,
            "high": closes,
            "low": closes,
            "close": closes,
            "volume": 1.0,
            "quote_volume": None,
            "observed_at": at,
            "available_at": [t + lag for t in at],
            "available_at_estimated": estimated,
            "source": "test",
        },
        schema_overrides=dict(BARS.columns),
    )


def macro(*versions: tuple[float | None, int], estimated: bool = False) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "series": "CPIAUCSL",
            "units": "lin",
            "value": [value for value, _ in versions],
            "observed_at": T0,
            "available_at": [T0 + timedelta(days=day) for _, day in versions],
            "available_at_estimated": estimated,
            "source": "test",
        },
        schema_overrides=dict(MACRO.columns),
    )


def post(text: str, day: int) -> pl.DataFrame:
    row = {
        "site": "reddit",
        "channel": "bitcoin",
        "id": "x1",
        "title": "t",
        "text": text,
        "url": None,
        "observed_at": T0,
        "available_at": T0 + timedelta(days=day),
        "available_at_estimated": False,
        "source": "test",
    }
    return pl.DataFrame([row], schema=dict(POSTS.columns))


def closes(lake: Lake) -> list[float]:
    return lake.scan(BARS).sort("available_at", "observed_at").collect()["close"].to_list()


def test_nothing_written_reads_as_an_empty_table_with_all_columns(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.scan(BARS).collect().schema == BARS.empty().schema
    assert lake.version(BARS) is None
    assert lake.watermark(BARS, "a") is None


def test_what_is_appended_is_read_back_and_the_same_again_is_a_duplicate(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.append(BARS, bars(1.0, 2.0), now=NOW) == Appended(accepted=2, duplicate=0)
    assert lake.append(BARS, bars(1.0, 2.0, 3.0), now=NOW) == Appended(accepted=1, duplicate=2)
    assert closes(lake) == [1.0, 2.0, 3.0]
    stored = lake.scan(BARS).collect()
    assert stored.schema == BARS.empty().schema
    assert stored["ingested_at"].unique().to_list() == [NOW]


def test_a_repeat_inside_one_batch_is_a_duplicate(tmp_path: Path) -> None:
    batch = pl.concat([bars(1.0), bars(1.0)])
    assert Lake(tmp_path).append(BARS, batch, now=NOW) == Appended(accepted=1, duplicate=1)


def test_other_values_for_a_stored_bar_are_a_correction_known_from_now_on(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0), now=NOW)
    corrected = NOW + HOUR
    assert lake.append(BARS, bars(1.5), now=corrected).accepted == 1
    stored = lake.scan(BARS).sort("available_at").collect()
    assert stored["close"].to_list() == [1.0, 1.5]
    assert stored["available_at"].to_list() == [T0, corrected]
    assert stored["available_at_estimated"].to_list() == [True, False]
    assert lake.append(BARS, bars(1.5), now=corrected + HOUR) == Appended(accepted=0, duplicate=1)
    assert lake.append(BARS, bars(1.0), now=corrected + HOUR) == Appended(accepted=0, duplicate=1)


@pytest.mark.parametrize(
    ("lag", "sighted"),
    [
        pytest.param(timedelta(), True, id="estimated before the sighting"),
        pytest.param(timedelta(minutes=1), True, id="estimated after the sighting"),
        pytest.param(timedelta(minutes=1), False, id="estimated by another rule"),
    ],
)
def test_an_estimate_never_dates_other_values_back(tmp_path: Path, lag: timedelta, sighted: bool) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0, lag=timedelta(seconds=20), estimated=not sighted), now=NOW)
    lake.append(BARS, bars(1.5, 2.0, lag=lag), now=NOW + HOUR)
    stored = lake.scan(BARS).sort("available_at").collect()
    known = [T0 + timedelta(seconds=20), T0 + HOUR + lag, NOW + HOUR]
    assert stored["available_at"].to_list() == known
    assert stored["close"].to_list() == [1.0, 2.0, 1.5]


def test_a_sighted_version_keeps_its_instant(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0), now=NOW)
    lake.append(BARS, bars(1.5, lag=HOUR, estimated=False), now=NOW + HOUR)
    assert lake.scan(BARS).sort("available_at").collect()["available_at"].to_list() == [T0, T0 + HOUR]


def test_an_edit_is_a_version_and_an_earlier_sighting_counts(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.append(POSTS, post("a", day=3), now=NOW).accepted == 1
    assert lake.append(POSTS, post("a", day=5), now=NOW).accepted == 0, "seen again later: nothing new"
    assert lake.append(POSTS, post("a", day=1), now=NOW).accepted == 1, "seen earlier: known earlier"
    assert lake.append(POSTS, post("b", day=2), now=NOW).accepted == 1
    assert lake.append(POSTS, post("a", day=1), now=NOW).accepted == 0


def test_what_bears_no_date_counts_from_the_first_sight_however_often_it_is_seen(tmp_path: Path) -> None:
    def undated(text: str, day: int) -> pl.DataFrame:
        return post(text, day).with_columns(observed_at="available_at", available_at_estimated=True)

    lake = Lake(tmp_path)
    together = pl.concat([undated("a", day) for day in (2, 1, 3)])
    assert lake.append(POSTS, together, now=NOW) == Appended(accepted=1, duplicate=2)
    assert lake.append(POSTS, undated("a", 4), now=NOW).accepted == 0
    assert lake.append(POSTS, post("a", 5), now=NOW).accepted == 1, "it got a date"
    assert lake.append(POSTS, undated("a", 6), now=NOW).accepted == 0
    assert lake.append(POSTS, undated("b", 7), now=NOW).accepted == 1, "it says something else"
    stored = lake.scan(POSTS).sort("available_at").collect()
    assert stored["observed_at"].to_list() == [T0 + timedelta(days=1), T0, T0 + timedelta(days=7)]


def test_an_edit_that_is_taken_back_is_a_version_too(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    seen = [("a", 1), ("a", 2), ("b", 3), ("b", 4), ("a", 5), ("a", 6)]
    together, apart = pl.concat([post(text, day) for text, day in seen]), Lake(tmp_path / "apart")
    assert lake.append(POSTS, together, now=NOW) == Appended(accepted=3, duplicate=3)
    assert lake.append(POSTS, together, now=NOW) == Appended(accepted=0, duplicate=6)
    assert sum(apart.append(POSTS, post(text, day), now=NOW).accepted for text, day in seen) == 3
    for each in (lake, apart):
        versions = each.scan(POSTS).sort("available_at").collect()
        assert versions["text"].to_list() == ["a", "b", "a"]
        assert versions["available_at"].to_list() == [T0 + timedelta(days=day) for day in (1, 3, 5)]
    assert lake.append(POSTS, post("b", day=9), now=NOW).accepted == 1


def test_what_is_removed_and_put_back_is_there_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    removed = post("a", day=2).with_columns(text=pl.lit(None, pl.String))
    for row in (post("a", day=1), removed, removed.with_columns(available_at=T0 + timedelta(days=3)), post("a", day=4)):
        lake.append(POSTS, row, now=NOW)
    assert lake.scan(POSTS).sort("available_at").collect()["text"].to_list() == ["a", None, "a"]


def test_a_revision_back_to_an_old_value_is_kept(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    vintages = macro((1.0, 10), (2.0, 20), (1.0, 30), (None, 40))
    assert lake.append(MACRO, vintages, now=NOW) == Appended(accepted=4, duplicate=0)
    assert lake.append(MACRO, vintages, now=NOW) == Appended(accepted=0, duplicate=4)


def test_an_estimated_value_read_again_is_a_duplicate_after_its_correction(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(MACRO, macro((1.0, 10), estimated=True), now=NOW)
    assert lake.append(MACRO, macro((2.0, 10), estimated=True), now=NOW + HOUR).accepted == 1
    assert lake.append(MACRO, macro((2.0, 10), estimated=True), now=NOW + 2 * HOUR).accepted == 0


def test_rows_of_a_ledger_are_known_by_their_key_alone(tmp_path: Path) -> None:
    row = dict.fromkeys(QUARANTINE.columns, "x") | {"row": 1}
    frame = pl.DataFrame([row], schema=dict(QUARANTINE.columns))
    lake = Lake(tmp_path)
    assert lake.append(QUARANTINE, frame, now=NOW).accepted == 1
    assert lake.append(QUARANTINE, frame.with_columns(reason=pl.lit("other")), now=NOW).accepted == 0


def test_the_watermark_moves_with_the_commit_and_a_replay_writes_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0), now=NOW, app="dump", watermark=1)
    assert lake.watermark(BARS, "dump") == 1
    version = lake.version(BARS)
    assert lake.append(BARS, bars(9.0), now=NOW, app="dump", watermark=1) == Appended(accepted=0, duplicate=1)
    assert lake.version(BARS) == version
    lake.append(BARS, bars(1.0), now=NOW, app="dump", watermark=2)
    assert lake.watermark(BARS, "dump") == 2, "moves though no row is new"
    assert lake.watermark(BARS, "other") is None


def test_a_bound_and_a_version_read_the_past(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0), now=NOW)
    then = Snapshot.take(lake)
    lake.append(BARS, bars(2.0, start=T0 + HOUR), now=NOW + HOUR)
    assert Snapshot.take(lake, ingested_until=NOW).scan(BARS).collect()["close"].to_list() == [1.0]
    assert then.scan(BARS).collect()["close"].to_list() == [1.0]


def test_what_was_added_since_a_version_is_read_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "a lake")
    lake.append(BARS, bars(1.0), now=NOW)
    first = lake.version(BARS)
    assert Snapshot.take(lake).added(BARS, first).collect().is_empty()
    lake.append(BARS, bars(2.0, start=T0 + HOUR), now=NOW + HOUR)
    lake.append(BARS, bars(3.0, start=T0 + 2 * HOUR), now=NOW + 2 * HOUR)
    now = Snapshot.take(lake)
    assert now.added(BARS, first).sort("observed_at").collect()["close"].to_list() == [2.0, 3.0]
    assert now.added(BARS, None).collect().height == 3
    bounded = Snapshot.take(lake, ingested_until=NOW + HOUR).added(BARS, first)
    assert bounded.collect()["close"].to_list() == [2.0]


def test_what_was_added_cannot_be_told_where_facts_went_or_the_log_ends(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.append(BARS, bars(1.0), now=NOW)
    first = lake.version(BARS)
    lake.append(BARS, bars(2.0, start=T0 + HOUR), now=NOW + HOUR)
    assert Snapshot.take(lake).added(BARS, 99) is None
    DeltaTable(str(tmp_path / "bars")).delete("close = 1.0")
    assert Snapshot.take(lake).added(BARS, first) is None


def test_a_lake_that_cannot_be_read_as_it_was_says_so(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for hour in range(8):
        lake.append(BARS, bars(1.0, start=T0 + hour * HOUR), now=NOW)
    then = Snapshot.take(lake)
    pinned = Snapshot(lake=lake, versions=then.versions)
    list(maintain(tmp_path))
    assert pinned.scan(BARS).collect().height == 8, "kept for a week"
    list(maintain(tmp_path, retention=timedelta(0)))
    for snapshot in (Snapshot(lake=lake, versions=then.versions), Snapshot(lake=lake, versions={"bars": 99})):
        with pytest.raises(delta.Gone, match=rf"bars.* cannot be read as of version {snapshot.versions['bars']}"):
            snapshot.scan(BARS)
    assert Snapshot.take(lake).scan(BARS).collect().height == 8


def test_only_files_that_may_hold_the_facts_are_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for hour in range(4):
        lake.append(BARS, bars(1.0, start=T0 + hour * HOUR), now=NOW)
    for number in range(4):
        lake.append(POSTS, post("a", day=1).with_columns(id=pl.lit(f"x{number}")), now=NOW)
    for table in ("bars", "posts"):
        for path in pl.DataFrame(DeltaTable(str(tmp_path / table)).get_add_actions(flatten=True)).iter_rows(named=True):
            last = path["min.observed_at"] == T0 + 3 * HOUR if table == "bars" else path["min.id"] == "x3"
            if not last:
                (tmp_path / table / path["path"]).unlink()
    with pytest.raises(FileNotFoundError):
        lake.scan(BARS).collect()
    assert lake.append(BARS, bars(1.0, start=T0 + 3 * HOUR), now=NOW).duplicate == 1
    assert lake.append(BARS, bars(1.0, start=T0 + 4 * HOUR), now=NOW).accepted == 1
    assert lake.append(POSTS, post("a", day=1).with_columns(id=pl.lit("x3")), now=NOW).duplicate == 1
    assert lake.append(POSTS, post("a", day=1).with_columns(id=pl.lit("y")), now=NOW).accepted == 1


def test_bounds_that_the_log_rounds_hide_nothing(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    start = T0 + timedelta(microseconds=999_999)
    long = post("a", day=1).with_columns(id=pl.lit("é" * 40 + "\U0010ffff" * 40), observed_at=pl.lit(start))
    for table, rows in ((BARS, bars(1.0, start=start)), (POSTS, long)):
        assert lake.append(table, rows, now=NOW).accepted == 1
        assert lake.append(table, rows, now=NOW).duplicate == 1
        assert lake.append(table, pl.concat([rows, rows]), now=NOW).duplicate == 2


def test_versions_across_month_borders_are_compared(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    border = datetime(2024, 3, 31, 22, tzinfo=UTC)
    lake.append(BARS, bars(1.0, 2.0, 3.0, 4.0, start=border), now=NOW)
    assert lake.append(BARS, bars(1.0, 2.0, 3.0, 4.0, start=border), now=NOW).accepted == 0


def test_a_missing_column_stops_the_append(tmp_path: Path) -> None:
    with pytest.raises(Drifted, match="no column close"):
        Lake(tmp_path).append(BARS, bars(1.0).drop("close"), now=NOW)


@pytest.mark.slow
def test_processes_appending_overlapping_rows_at_once_lose_and_double_nothing(place: str) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_lake import *\n"
        "lake, name = Lake(sys.argv[1]), sys.argv[3]\n"
        "print(sum(lake.append(BARS, bars(*map(float, range(1, 30 + i))), now=NOW, app=name, watermark=i).accepted\n"
        "          for i in range(5)))\n"
    )
    names = ["a", "b", "c"]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, place, str(Path(__file__).parent), name], stdout=subprocess.PIPE, text=True
        )
        for name in names
    ]
    accepted = [int(writer.communicate(timeout=300)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    lake = Lake(place)
    assert closes(lake) == [float(i) for i in range(1, 34)]
    assert sum(accepted) == 33, "each row was new to one of them"
    assert [lake.watermark(BARS, name) for name in names] == [4, 4, 4]


def test_a_lake_on_an_object_store_is_as_one_in_a_folder(s3_root: str, tmp_path: Path) -> None:
    lakes = [Lake(tmp_path), Lake(s3_root)]
    border = datetime(2024, 3, 31, 22, tzinfo=UTC)
    steps = [
        (bars(1.0, 2.0, 3.0, 4.0, start=border), NOW),
        (bars(1.0, 2.5, 3.0, 4.0, start=border), NOW + HOUR),
        (bars(1.0, 2.5, start=border), NOW + 2 * HOUR),
    ]
    for watermark, (rows, now) in enumerate(steps):
        done = [lake.append(BARS, rows, now=now, app="dump", watermark=watermark) for lake in lakes]
        assert done[0] == done[1]
    assert done[1] == Appended(accepted=0, duplicate=2)
    assert [lake.watermark(BARS, "dump") for lake in lakes] == [2, 2]
    stored = [
        Snapshot(lake=lake, versions={"bars": version}, ingested_until=until)
        .scan(BARS)
        .sort("observed_at", "available_at")
        .collect()
        for version, until in [(lakes[0].version(BARS), None), (2, None), (lakes[0].version(BARS), NOW)]
        for lake in lakes
    ]
    assert [frame.height for frame in stored] == [5, 5, 5, 5, 4, 4]
    assert all(stored[i].equals(stored[i + 1], null_equal=True) for i in (0, 2, 4))


def test_a_folder_with_a_blank_in_its_name_is_read_as_any_other(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "a lake")
    lake.append(BARS, bars(1.0), now=NOW)
    assert lake.append(BARS, bars(1.0, 2.0), now=NOW) == Appended(accepted=1, duplicate=1)
    assert closes(lake) == [1.0, 2.0]
