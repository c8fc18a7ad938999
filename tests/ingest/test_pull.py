"""A file's accounts close, a second pull changes nothing, and what is broken breaks nothing else."""

import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, FACTS, MACRO, NEWS, POSTS, QUARANTINE, REACTIONS, RUNS
from backsight_ingest.accounts import Account
from backsight_ingest.files import Named, decoded
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull
from click.testing import CliRunner

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEADER = "datetime,open,high,low,close,volume"

Pull = Callable[..., tuple[list[Account], list[str]]]


def lines(hours: int, first: datetime = datetime(2023, 1, 1, tzinfo=UTC)) -> list[str]:
    """Return lines of sound hourly bars."""
    stamps = [first + timedelta(hours=i) for i in range(hours)]
    return [
        f"{at:%Y-%m-%d %H:%M:%S},{100 + i % 7},{110 + i % 7},90,{105 + i % 7},{i % 5}" for i, at in enumerate(stamps)
    ]


def write(path: Path, rows: list[str], header: str = HEADER) -> Path:
    """Write lines as text, compressed as the name says."""
    text = ("\n".join([header, *rows]) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(text))
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return an empty lake."""
    return Lake(tmp_path / "lake")


@pytest.fixture
def read(lake: Lake) -> Pull:
    """Return what pulls paths through a layout."""

    def run(layout: str, *paths: Path, **settings: str) -> tuple[list[Account], list[str]]:
        return pull(lake, load(layout), paths, settings=settings, now=NOW, tell=lambda _: None)

    return run


def counts(account: Account) -> tuple[int, int, int, int]:
    """Return the account, which has to close."""
    assert account.error is None, account.error
    assert account.read == account.accepted + account.duplicate + account.quarantined
    return account.read, account.accepted, account.duplicate, account.quarantined


# ------------------------------------------------------------------------------------------------ small files


def test_each_row_is_accepted_duplicate_or_quarantined(lake: Lake, read: Pull, tmp_path: Path) -> None:
    sound = lines(5)
    rows = [*sound, sound[0], "2023-02-01 00:00:00,x,1,1,1,1", "2023-02-01", "", ",,,,,", '2023-02-01,"1']
    (account,), _ = read("binance-1h", write(tmp_path / "BTCUSDT_1h.csv", rows))
    assert counts(account) == (11, 5, 1, 5)
    kept = lake.scan(QUARANTINE).sort("row").collect()
    assert kept["row"].to_list() == [7, 8, 9, 10, 11]
    assert kept["reason"].to_list() == [
        "open: 'x' is not a number",
        "1 cells, the header has 6",
        "empty row",
        "empty row",
        "half a line, a stray quote, or a cell too long: unexpected end of data",
    ]
    assert kept["original"].to_list()[1] == "2023-02-01"
    assert kept["original"].to_list()[4] == '2023-02-01,"1'
    ran = lake.scan(RUNS).collect().row(0, named=True)
    assert [ran[name] for name in ("status", "read", "accepted", "duplicate", "quarantined")] == ["ok", 11, 5, 1, 5]


def test_what_is_told_grows_until_the_account_closes(lake: Lake, tmp_path: Path) -> None:
    file = write(tmp_path / "BTCUSDT.csv", lines(25, datetime(2023, 1, 1, tzinfo=UTC)))
    told: list[Account] = []
    pull(lake, load("binance-1h"), [file], settings={}, now=NOW, tell=told.append, rows_per_batch=10)
    assert [(each.status, each.read) for each in told] == [
        ("reading", 0),
        ("reading", 10),
        ("reading", 20),
        ("reading", 25),
        ("ok", 25),
    ]


def test_a_second_pull_is_a_no_op_and_a_changed_layout_reads_again(lake: Lake, read: Pull, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT_1h.csv.gz", lines(30))
    read("binance-1h", path)
    before = [lake.version(table) for table in (BARS, QUARANTINE, RUNS)]
    (account,), _ = read("binance-1h", path)
    assert (account.status, *counts(account)) == ("unchanged", 0, 0, 0, 0)
    assert [lake.version(table) for table in (BARS, QUARANTINE, RUNS)] == before
    mine = tmp_path / "mine.toml"
    shipped = Path(str(load.__code__.co_filename)).parent / "layouts" / "binance-1h.toml"
    mine.write_text(shipped.read_text().replace("15s", "20s"))
    (account,), _ = read(str(mine), path)
    assert counts(account) == (30, 0, 30, 0)
    (account,), _ = read("binance-1h", path, base="ETH")
    assert counts(account) == (30, 30, 0, 0)
    assert set(lake.scan(BARS).collect()["symbol"]) == {"BTC-USDT", "ETH-USDT"}


def test_batches_do_not_change_what_is_read(tmp_path: Path) -> None:
    rows = lines(1000)
    rows[10:10] = ["broken", rows[3]]
    path = write(tmp_path / "BTCUSDT_1h.csv", rows)
    found = []
    for size in (97, 400, 5000):
        lake = Lake(tmp_path / f"lake{size}")
        pull(lake, load("binance-1h"), [path], settings={}, now=NOW, tell=lambda _: None, rows_per_batch=size)
        found.append((content(lake), lake.scan(RUNS).select("read", "accepted", "quarantined").collect().row(0)))
    assert found[0] == found[1] == found[2]
    assert found[0][1] == (1002, 1000, 1)


def content(lake: Lake) -> list[list[tuple[object, ...]]]:
    """Return all that a lake says, but for when it was written."""
    tables = [*FACTS.values(), QUARANTINE]
    return [sorted(lake.scan(table).drop("ingested_at").collect().rows(), key=repr) for table in tables]


def test_quoted_cells_may_span_lines_and_hold_delimiters(lake: Lake, read: Pull, tmp_path: Path) -> None:
    text = '5-7-2022 04:24;{};Me;btc;"two\nlines; and ""quotes""";Title;https://a.org/1'
    path = write(tmp_path / "cryptonews.csv", [text], "date;sentiment;source;subject;text;title;url")
    (account,), _ = read("cryptonews", path)
    assert counts(account) == (1, 1, 0, 0)
    row = lake.scan(NEWS).collect().row(0, named=True)
    assert row["text"] == 'two\nlines; and "quotes"'
    assert row["observed_at"] == datetime(2022, 7, 5, 4, 24, tzinfo=UTC)


def test_a_stray_quote_takes_no_other_line_with_it(lake: Lake, read: Pull, tmp_path: Path) -> None:
    rows = lines(9000)
    rows[3990] = '"' + rows[3990]  # near the end of a block: the next one is reached for
    rows[100] = rows[100].replace(",", ',"', 1)
    rows[120] = rows[120].replace(",", ',"', 1)
    (account,), _ = read("binance-1h", write(tmp_path / "BTCUSDT_1h.csv", rows))
    assert counts(account) == (9000, 8997, 0, 3)
    kept = lake.scan(QUARANTINE).sort("row").collect()
    assert kept["row"].to_list() == [101, 121, 3991]
    assert kept["original"].to_list() == [rows[100], rows[120], rows[3990]]


def test_quoted_or_not_a_row_is_the_same(tmp_path: Path) -> None:
    plain = [*lines(5000), "half a", ""]
    quoted = [",".join(f'"{cell}"' for cell in line.split(",")) for line in plain[:-2]] + plain[-2:]
    found = []
    for name, rows in {"plain": plain, "quoted": quoted}.items():
        lake = Lake(tmp_path / name)
        path = write(tmp_path / name / "BTCUSDT.csv", rows)
        pull(lake, load("binance-1h"), [path], settings={}, now=NOW, tell=lambda _: None)
        found.append((lake.scan(BARS).sort("observed_at").collect(), lake.scan(QUARANTINE).collect().sort("row")))
    assert found[0][0].equals(found[1][0])
    assert found[0][1].select("row", "reason", "original").equals(found[1][1].select("row", "reason", "original"))


def test_text_that_is_not_utf8_is_set_aside(lake: Lake, read: Pull, tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_1h.csv"
    path.write_bytes("\n".join(["\ufeff" + HEADER, *lines(2)]).encode() + b"\n2023-02-01 00:00:00,\xff,1,1,1,1\n")
    (account,), _ = read("binance-1h", path)
    assert counts(account) == (3, 2, 0, 1)
    kept = lake.scan(QUARANTINE).collect().row(0, named=True)
    assert (kept["reason"], kept["original"]) == ("not valid utf-8", r"2023-02-01 00:00:00,\xff,1,1,1,1")


def test_other_encodings_are_declared(lake: Lake, read: Pull, tmp_path: Path) -> None:
    shipped = Path(str(load.__code__.co_filename)).parent / "layouts" / "binance-1h.toml"
    (tmp_path / "mine.toml").write_text(shipped.read_text() + '\n[format]\nencoding = "utf-16"\n')
    path = tmp_path / "BTCUSDT_1h.csv"
    path.write_bytes("\n".join([HEADER, *lines(3)]).encode("utf-16"))
    (account,), _ = read(str(tmp_path / "mine.toml"), path)
    assert counts(account) == (3, 3, 0, 0)
    path.write_bytes(path.read_bytes()[:-1])
    (account,), _ = read(str(tmp_path / "mine.toml"), path)
    assert "is not utf-16" in str(account.error)


def test_json_lines_that_are_cut_or_have_another_shape_are_set_aside(lake: Lake, read: Pull, tmp_path: Path) -> None:
    sound = {
        "id": "a1", "title": "Up &amp; away", "url": "", "created_utc": 1650000000.0, "subreddit": "Bitcoin",
        "selftext": "[removed]", "first_seen_utc": "2022-05-01T00:00:00Z", "score": 3, "num_comments": 1,
    }  # fmt: skip
    rows = [
        json.dumps(sound)[:40],
        json.dumps(sound),
        json.dumps({**sound, "id": "a2", "mood": 1}),
        json.dumps({name: value for name, value in sound.items() if name != "created_utc"}),
        json.dumps({**sound, "id": "a3", "title": "\ud800Up &amp; away"}),
        json.dumps({**sound, "id": "a4", "created_utc": 1650000000}),
        "[1]",
    ]
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(rows))
    (account,), _ = read("reddit-first-seen", path)
    assert counts(account) == (7, 3, 0, 4)
    reasons = lake.scan(QUARANTINE).sort("row").collect()["reason"].to_list()
    assert reasons[0].startswith("half a line, or no JSON")
    assert reasons[1:] == ["field 'mood' is not declared", "no field 'created_utc'", "not a JSON object"]
    posts = lake.scan(POSTS).sort("id").collect()
    assert posts.select("channel", "id", "text", "title").rows() == [
        ("bitcoin", "a1", None, "Up &amp; away"),
        ("bitcoin", "a3", None, "Up &amp; away"),
        ("bitcoin", "a4", None, "Up &amp; away"),
    ]


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("a.csv.gz", lambda whole: whole[: len(whole) // 2], "is damaged or cannot be read"),
        ("a.csv.gz", lambda whole: whole[:-6] + b"\0\0" + whole[-4:], "is damaged or cannot be read"),
        ("a.csv.gz", lambda whole: b"no gzip at all", "is damaged or cannot be read"),
        ("a.csv.xz", lambda whole: whole[:-20], "is damaged or cannot be read"),
        ("a.csv", lambda whole: b"", "is empty"),
        ("a.csv", lambda whole: b"when,price\n1,2\n", "no column 'datetime' for observed_at; there is 'when', 'price'"),
        ("a.csv", lambda whole: whole.replace(b"volume", b"volume,trades"), "column 'trades' is not declared"),
        ("a.csv", lambda whole: whole.replace(b"close", b"high"), "column 'high' is there twice"),
        ("a.csv", lambda whole: b"\xff\xfe\n", "the header is not utf-8; the layout's format.encoding says"),
        ("a.csv", lambda whole: b"<p>" * 9000, "there is '" + "<p>" * 13 + "<…'"),
        ("a.csv", lambda whole: b"\0" * 5000, "no column 'datetime'"),
        ("a.csv.gz", lambda whole: gzip.compress(b""), "is empty"),
        ("a.csv", lambda whole: whole.replace(b"-", b"/"), "not one of the first 4000 rows can be read: observed_at: "),
    ],
)
def test_a_file_that_cannot_be_believed_changes_nothing_and_leaves_the_others(
    lake: Lake, read: Pull, tmp_path: Path, name: str, damage: Callable[[bytes], bytes], says: str
) -> None:
    path = write(tmp_path / "BTCUSDT" / name, lines(4000))
    path.write_bytes(damage(path.read_bytes()))
    good = write(tmp_path / "BTCUSDT_ok.csv", lines(3))
    (bad, fine), _ = read("binance-1h", path, good)
    assert bad.status == "failed"
    assert isinstance(bad.error, BadInput | Drifted)
    assert says in str(bad.error)
    assert str(path) in str(bad.error)
    assert counts(fine) == (3, 3, 0, 0)
    assert lake.scan(BARS).collect().height == 3
    assert "failed: " in lake.scan(RUNS).sort("accepted").collect()["status"][0]


def test_a_row_of_data_is_never_taken_for_a_header(lake: Lake, read: Pull, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Date,Close,High,Low,Open,Volume\n2014-09-17,2,3,1,2,9\n2014-09-18,2,3,1,2,9\n")
    (account,), _ = read("yfinance-long-1d", path)
    assert "a header row begins with ['2014-09-17'], not ['']" in str(account.error)
    (account,), _ = read("yfinance-1d", path)
    assert isinstance(account.error, Drifted)
    assert lake.version(BARS) is None


def test_bars_of_another_length_are_refused(lake: Lake, read: Pull, tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT.csv", lines(2000)[::24])
    (account,), _ = read("binance-1h", path)
    assert "most bars do not lie 1h apart" in str(account.error)
    assert lake.version(BARS) is None


def test_a_layout_without_a_header_refuses_what_it_cannot_read(lake: Lake, read: Pull, tmp_path: Path) -> None:
    (account,), _ = read("bitfinex-1m", write(tmp_path / "BTCUSD.csv", lines(50)))
    assert "not one of the first 51 rows can be read" in str(account.error)
    assert lake.version(QUARANTINE) is None


def test_a_path_that_has_no_stamp_needs_one_by_hand(read: Pull, tmp_path: Path) -> None:
    path = write(tmp_path / "X.csv", ["2017-01-01,1"], "DATE,X")
    (account,), _ = read("fred-committed", path)
    assert "give --set stamp=" in str(account.error)
    (account,), _ = read("fred-committed", path, stamp="15.4.2017")
    assert "the stamp '15.4.2017' is not an instant" in str(account.error)
    (account,), _ = read("fred-committed", path, stamp="2017-04-15")
    assert counts(account) == (1, 1, 0, 0)


def test_a_missing_path_or_an_unknown_setting_stops_before_anything(lake: Lake, read: Pull, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file or folder"):
        read("binance-1h", tmp_path / "nowhere.csv")
    with pytest.raises(BadInput, match="has no setting 'colour'"):
        read("binance-1h", write(tmp_path / "BTCUSDT.csv", lines(1)), colour="red")
    assert lake.version(BARS) is None


def test_what_a_file_does_not_say_has_to_be_given(lake: Lake, read: Pull, tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", lines(1))
    (account,), _ = read("binance-1h", path)
    assert "give --set base=…" in str(account.error)
    (account,), _ = read("binance-1h", path, base="ETH", quote="USDT")
    assert counts(account) == (1, 1, 0, 0)
    assert lake.scan(BARS).collect()["symbol"].to_list() == ["ETH-USDT"]


def test_a_folder_is_read_in_order_and_what_is_not_claimed_is_named(read: Pull, tmp_path: Path) -> None:
    write(tmp_path / "in" / "b" / "BTCUSDT_2.csv", lines(2))
    write(tmp_path / "in" / "BTCUSDT_1.csv.gz", lines(3))
    (tmp_path / "in" / "notes.txt").write_text("x")
    accounts, skipped = read("binance-1h", tmp_path / "in")
    assert [Path(each.origin).name for each in accounts] == ["BTCUSDT_1.csv.gz", "BTCUSDT_2.csv"]
    assert [counts(each) for each in accounts] == [(3, 3, 0, 0), (2, 0, 2, 0)]
    assert [Path(each).name for each in skipped] == ["notes.txt"]
    with pytest.raises(BadInput, match=r"holds no file called \*-\?\?\?\?"):
        read("reddit-crawl", tmp_path / "in")


def test_any_name_is_a_name(lake: Lake, read: Pull, tmp_path: Path) -> None:
    names = [b"BTCUSDT [1] \xc3\xbc.csv", b"BTCUSDT \xff.csv", b"BTCUSDT a\nb.csv"]
    for i, name in enumerate(names):
        write(tmp_path / "in" / os.fsdecode(name), lines(i + 1))
    accounts, _ = read("binance-1h", tmp_path / "in")
    assert {Path(each.origin).name for each in accounts} == {
        r"BTCUSDT \xff.csv",
        r"BTCUSDT a\nb.csv",
        "BTCUSDT [1] ü.csv",
    }
    assert [each.error for each in accounts] == [None] * 3
    assert lake.scan(RUNS).collect().height == 3


def test_hidden_files_and_pipes_are_skipped_and_a_link_into_nowhere_fails(read: Pull, tmp_path: Path) -> None:
    write(tmp_path / "in" / "BTCUSDT.csv", lines(2))
    (tmp_path / "in" / "BTCUSDT_gone.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "in" / "._BTCUSDT.csv").write_bytes(b"\0\5\x16\7")
    os.mkfifo(tmp_path / "in" / "BTCUSDT_pipe.csv")
    (good, gone), skipped = read("binance-1h", tmp_path / "in")
    assert counts(good) == (2, 2, 0, 0)
    assert "No such file" in str(gone.error)
    assert [Path(each).name for each in skipped] == ["._BTCUSDT.csv", "BTCUSDT_pipe.csv"]
    with pytest.raises(BadInput, match="no file that can be read twice"):
        read("binance-1h", tmp_path / "in" / "BTCUSDT_pipe.csv")


def test_a_cell_without_end_costs_its_own_row_only(lake: Lake, read: Pull, tmp_path: Path) -> None:
    rows = lines(5)
    rows[2] = f'2023-02-01 00:00:00,1,1,1,1,"{"9" * 1_000_000}"'
    (account,), _ = read("binance-1h", write(tmp_path / "home" / "BTCUSDT.csv", rows))
    assert counts(account) == (5, 4, 0, 1)
    assert lake.scan(QUARANTINE).collect()["original"][0] == rows[2]


def bundle(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """Write an archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members:
                archive.writestr(name, text)
        return path
    with tarfile.open(path, "w:" + path.suffix[1:]) as tar:  # type: ignore[call-overload]
        for name, text in members:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return path


BATCH = "datetime,headline,summary,source,url"


@pytest.mark.parametrize("kind", ["tar.xz", "tar.gz", "zip"])
def test_batches_in_an_archive_were_seen_when_the_manifest_says(
    lake: Lake, read: Pull, tmp_path: Path, kind: str
) -> None:
    first = f"{BATCH}\n2025-05-04T10:00:00.000Z,Up,,A,https://a.org/1\n".encode()
    again = f"{BATCH},categories,tags\n2025-05-04T10:00:00.000Z,Up,,A,https://a.org/1,x,y\n".encode()
    later = (
        f"{BATCH}\n2025-05-04T10:00:00,Down,,A,https://a.org/2\n2025-05-04 10:05:00,Flat,,A,https://a.org/3\n".encode()
    )
    lost = f"{BATCH}\n2025-05-04T10:00:00.000Z,Lost,,A,https://a.org/4\n".encode()
    members = [
        ("bitcoin_news_1.csv", first),
        ("x/bitcoin_news_2.csv", again),
        ("bitcoin_news_1.csv", later),
        ("bitcoin_news_4.csv", b"hi"),
        ("bitcoin_news_5.csv", lost),
        ("README.txt", b"no batch"),
        ("../../bitcoin_news_6.csv", b""),
    ]
    if kind == "zip":
        members = [(name if i != 2 else "bitcoin_news_3.csv", text) for i, (name, text) in enumerate(members)]
    bundle(tmp_path / f"batches.{kind}", members)
    third = "bitcoin_news_3.csv" if kind == "zip" else "bitcoin_news_1.csv"
    manifest = ["path,commit_time", "bitcoin_news_1.csv,2025-05-04T13:00:00+02:00"]
    manifest += ["x/bitcoin_news_2.csv,2025-05-04T12:00:00+00:00", f"{third},2025-05-04T20:00:00+02:00"]
    manifest += ["bitcoin_news_4.csv,2025-05-04T20:00:00+02:00"]
    (tmp_path / "MANIFEST.csv").write_text("\r\n".join(manifest))
    (account,), _ = read("news-batches", tmp_path / f"batches.{kind}")
    assert counts(account) == (6, 3, 1, 2)
    skipped = [each.rpartition("!")[2] for each in account.skipped]
    assert skipped == ["README.txt", "../../bitcoin_news_6.csv (empty)"]
    found = lake.scan(NEWS).sort("title").select("title", "available_at", "available_at_estimated").collect().rows()
    evening = datetime(2025, 5, 4, 18, tzinfo=UTC)
    assert found == [
        ("Down", evening, False),
        ("Flat", evening, False),
        ("Up", datetime(2025, 5, 4, 11, tzinfo=UTC), False),
    ]
    kept = lake.scan(QUARANTINE).sort("row").select("origin", "reason", "original").collect().rows()
    assert kept[0][0].endswith("!bitcoin_news_4.csv")
    assert kept[0][1].startswith("the file has another shape: no column 'datetime'")
    assert kept[0][2] == "hi"
    assert kept[1][1] == "available_at: the file is not listed in MANIFEST.csv"


def test_an_empty_member_of_an_archive_is_named(read: Pull, tmp_path: Path) -> None:
    text = ("\n".join([HEADER, *lines(3)]) + "\n").encode()
    archive = bundle(tmp_path / "bars.zip", [("BTCUSDT_a.csv", text), ("BTCUSDT_b.csv", b"")])
    (account,), _ = read("binance-1h", archive)
    assert counts(account) == (3, 3, 0, 0)
    assert [Path(each).name for each in account.skipped] == ["bars.zip!BTCUSDT_b.csv (empty)"]


def test_a_folder_of_batches_lies_beside_its_manifest(lake: Lake, read: Pull, tmp_path: Path) -> None:
    row = "2025-05-04T10:00:00.000Z,Up,,A,https://a.org/1"
    write(tmp_path / "in" / "bitcoin_news_1.csv", [row], BATCH)
    write(tmp_path / "in" / "x" / "bitcoin_news_2.csv", [row], BATCH)
    listed = ["bitcoin_news_1.csv,2025-05-04T20:00:00+02:00", "x/bitcoin_news_2.csv,2025-05-04T12:00:00+02:00"]
    write(tmp_path / "in" / "MANIFEST.csv", listed, "path,commit_time")
    accounts, skipped = read("news-batches", tmp_path / "in")
    # The same bytes in another place were seen at another time.
    assert [counts(each) for each in accounts] == [(1, 1, 0, 0), (1, 1, 0, 0)]
    assert skipped == []
    assert lake.scan(NEWS).collect()["available_at"].min() == datetime(2025, 5, 4, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (b"", "has 0 columns 'path', should have one"),
        (b"path,path,commit_time\n", "has 2 columns 'path', should have one"),
        (b"path,commit_time\nx,\xe9\n", "is no comma separated utf-8"),
        (b'path,commit_time\nx,"2025\n', "is no comma separated utf-8"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_said(read: Pull, tmp_path: Path, manifest: bytes, says: str) -> None:
    path = write(tmp_path / "bitcoin_news_1.csv", ["2025-05-04T10:00:00.000Z,Up,,A,https://a.org/1"], BATCH)
    (tmp_path / "MANIFEST.csv").write_bytes(manifest)
    (account,), _ = read("news-batches", path)
    assert says in str(account.error)


def test_an_archive_without_its_manifest_or_cut_off_is_refused(lake: Lake, read: Pull, tmp_path: Path) -> None:
    text = f"{BATCH}\n2025-05-04T10:00:00.000Z,Up,,A,https://a.org/1\n".encode()
    noise = random.Random(1).randbytes(50_000).hex().encode()
    path = bundle(tmp_path / "batches.tar.xz", [("bitcoin_news_1.csv", text), ("bitcoin_news_2.csv", noise)])
    (account,), _ = read("news-batches", path)
    assert "no MANIFEST.csv" in str(account.error)
    (tmp_path / "MANIFEST.csv").write_text("path,commit_time\n")
    path.write_bytes(path.read_bytes()[:-3000])
    (account,), _ = read("news-batches", path)
    assert "is damaged" in str(account.error)
    assert lake.version(NEWS) is None


def test_a_file_that_unpacks_without_end_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"\0" * 3_000_000))
    with (
        pytest.raises(BadInput, match="unpacks to more than 1000000 bytes"),
        decoded(Named(path=path, origin="bomb", home=tmp_path), ("*.csv",), largest=1_000_000),
    ):
        pass


KILLED = """
import os, signal, sys, threading
from datetime import datetime, UTC
from pathlib import Path
from backsight_features import delta
from backsight_features.lake import Lake
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3].isdigit():
    left, append = int(sys.argv[3]), delta.append
    def dying(*given, **named):
        # Before the commit of that number: what happens between two leaves nothing behind.
        global left
        if left == 0:
            die()
        left -= 1
        append(*given, **named)
    delta.append = dying
else:
    threading.Timer(float(sys.argv[3]), die).start()
pull(Lake(sys.argv[1]), load("binance-1h"), [Path(sys.argv[2])], settings={},
     now=datetime(2026, 6, 1, tzinfo=UTC), tell=lambda _: None, rows_per_batch=400)
"""


@pytest.mark.parametrize("place", ["folder", "object store"])
def test_killed_anywhere_and_pulled_again_the_lake_is_as_if_undisturbed(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = tmp_path if place == "folder" else request.getfixturevalue("s3_root")
    rows = lines(2000)
    rows[500:500] = ["half a", rows[7], "2023-02-01 00:00:00,x,1,1,1,1"]
    rows[1500:1500] = ["2023-02-01 00:00:00,y,1,1,1,1"]
    path = write(tmp_path / "BTCUSDT_1h.csv", rows)

    def whole(lake: Lake) -> Account:
        accounts, _ = pull(
            lake, load("binance-1h"), [path], settings={}, now=NOW, tell=lambda _: None, rows_per_batch=400
        )
        return accounts[0]

    undisturbed = Lake(f"{root}/undisturbed")
    assert counts(whole(undisturbed)) == (2004, 2000, 1, 3)
    expected = content(undisturbed)
    stored = []
    for commits in (0, 3, 6):
        lake = Lake(f"{root}/{commits}")
        child = subprocess.run([sys.executable, "-c", KILLED, str(lake.root), str(path), str(commits)], check=False)
        assert child.returncode == -9
        stored.append(lake.scan(BARS).collect().height)
        account = whole(lake)
        assert account.read == 2004
        assert account.read == account.accepted + account.duplicate + account.quarantined
        assert content(lake) == expected
        assert whole(lake).status == "unchanged"
    assert stored[0] == 0 < stored[1] < stored[2] <= 2000


@pytest.mark.prove
def test_a_storm_of_kills_over_several_files_leaves_what_an_undisturbed_pull_does(tmp_path: Path) -> None:
    for i in range(3):  # half of each file lies in the one before, where some of it said something else
        rows = lines(3000, datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=1470 * i))
        rows[100] = rows[100].replace(",90,", f",{80 + i},")
        rows[1600] = rows[1600].replace(",90,", f",{80 + i},")
        rows[500:500] = ["half a", rows[7], f"2023-02-01 00:00:00,x{i},1,1,1,1"]
        rows[2000:2000] = ['2023-02-01,"', f"2023-02-01 00:00:00,y{i},1,1,1,1"]
        write(tmp_path / "in" / f"BTCUSDT_{i}.csv.gz", rows)

    def whole(lake: Lake) -> list[Account]:
        layout = load("binance-1h")
        return pull(lake, layout, [tmp_path / "in"], settings={}, now=NOW, tell=lambda _: None, rows_per_batch=400)[0]

    undisturbed = Lake(tmp_path / "undisturbed")
    began = perf_counter()
    assert [counts(each) for each in whole(undisturbed)] == [
        (3005, 3000, 1, 4),
        (3005, 1472, 1529, 4),
        (3005, 1472, 1529, 4),
    ]
    lasts = perf_counter() - began
    expected = content(undisturbed)
    draw = random.Random(11)
    kills = within = 0
    for i in range(8):
        lake = Lake(tmp_path / f"lake{i}")
        for _ in range(5):
            delay = str(draw.uniform(0, lasts))
            command = [sys.executable, "-c", KILLED, str(lake.root), str(tmp_path / "in"), delay]
            child = subprocess.run(command, check=False, capture_output=True)
            assert child.returncode in (0, -9), child.stderr
            kills += child.returncode == -9
            within += 0 < lake.scan(BARS).collect().height < 5944
        for account in whole(lake):
            assert (account.status, account.read) in (("ok", 3005), ("unchanged", 0))
            assert account.read == account.accepted + account.duplicate + account.quarantined
        assert content(lake) == expected
        closed = lake.scan(RUNS).collect()
        assert closed["read"].to_list() == [3005] * 3
    assert kills >= 30
    assert within >= 10, "too few kills fell within a pull: choose other delays"


def test_the_command_prints_accounts_and_ends_with_the_error_of_a_file(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "BTCUSDT_a.csv", lines(3)), write(tmp_path / "BTCUSDT_b.csv", [], "x")
    arguments = ["--home", str(tmp_path / "home"), "pull", "dump", "--layout", "binance-1h", "--json", str(good)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0
    (file,) = json.loads(done.stdout)["files"]
    assert (file["status"], file["read"], file["accepted"]) == ("ok", 3, 3)
    done = CliRunner().invoke(cli, [*arguments, str(bad)])
    assert isinstance(done.exception, Drifted)
    assert [each["status"] for each in json.loads(done.stdout)["files"]] == ["unchanged", "failed"]
    done = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "runs", "--json"])
    ran = json.loads(done.stdout)
    assert [each["status"].partition(":")[0] for each in ran] == ["failed", "ok"]
    assert datetime.fromisoformat(ran[0]["started_at"]) <= datetime.fromisoformat(ran[0]["finished_at"])
    assert ran[0]["run"] != ran[1]["run"]
    done = CliRunner().invoke(cli, ["pull", "dump", "--layouts"])
    assert "binance-1h" in done.stdout
    done = CliRunner().invoke(cli, ["pull", "dump", "--layout", "binance-1h"])
    assert done.exit_code == 2


# ------------------------------------------------------------------------------------------------- real files

# layout, file or folder, settings, facts read, accepted, duplicate, quarantined
REAL = [
    ("binance-1h", "ohlcv/binance_BTCUSDT_1h_2017-2024.csv.gz", {}, (57511, 57511, 0, 0)),
    ("cryptodatadownload", "ohlcv/cdd_bitstamp_BTCUSD_1h.csv.gz", {}, (37387, 37387, 0, 0)),
    ("cryptodatadownload", "ohlcv/cdd_bitstamp_BTCUSD_d.csv.gz", {}, (2823, 2823, 0, 0)),
    ("coinbase-candles", "ohlcv/coinbase_BTC-USD_5m_2022-04-01.csv.gz", {}, (16049, 16049, 0, 0)),
    ("perp-1m", "ohlcv/btc-perp-20211231-20220201_1m.csv.gz", {"venue": "x"}, (45031, 45031, 0, 0)),
    ("yahoo-1d", "ohlcv/yahoo_BTC-USD_d_2016-2021.csv", {}, (1855, 1851, 0, 4)),
    ("yfinance-1d", "ohlcv/yfinance_BTC-USD_d_multiheader.csv", {}, (1043, 1043, 0, 0)),
    ("yfinance-long-1d", "ohlcv/yahoo_crypto_long.csv", {}, (3807, 3807, 0, 0)),
    ("bitfinex-1m", "ohlcv/bitfinex_1m/BTCUSD_2017_merged.csv.gz", {}, (505209, 505209, 0, 0)),
    ("fear-greed", "sentiment_index/FnG_index_21_22.csv", {}, (546, 546, 0, 0)),
    ("fred-date-value", "macro/codex_date_value", {}, (75445, 75445, 0, 0)),
    ("fred-snapshot", "macro/fredgraph_DATE", {}, (3304, 3304, 0, 0)),
    ("fred-snapshot", "macro/fredgraph_DATE_2017", {}, (2900, 2900, 0, 0)),
    ("fred-committed", "macro/vintages/fredcast_history", {}, (5793, 5793, 0, 0)),
    ("alfred-intervals", "macro/vintages/midasml_alfred_intervals_shared.csv.gz", {}, (6497, 6497, 0, 0)),
    ("gdp-releases", "macro/vintages/gdpc1_releases_first_second_third.csv", {}, (2204, 2203, 1, 0)),
    ("gdpnow", "macro/vintages/atlantafedgdpnow.csv", {}, (1801, 1801, 0, 0)),
    ("cryptonews", "news/cryptonews_semicolon_2021-2022.csv.gz", {}, (7524, 7524, 0, 0)),
    ("bitcoin-sentiments", "news/bitcoin_sentiments_21_24.csv.gz", {}, (11295, 11293, 2, 0)),
    ("bitcoin-sentiments", "news/bitcoin_finbert_processed_21_24.csv.gz", {}, (11295, 11293, 2, 0)),
    ("news-first-seen", "news/mouadja02_news_dedup_2025-05.csv.gz", {}, (6271, 6271, 0, 0)),
    ("news-batches", "news/mouadja02_batches", {}, (44676, 1561, 42948, 167)),
    ("reddit-first-seen", "reddit/anatosun_bitcoin_posts_first_seen.jsonl.gz", {}, (3144, 3144, 0, 0)),
    ("reddit-first-seen", "reddit/anatosun_cryptomarkets_posts_first_seen.jsonl.gz", {}, (1621, 1621, 0, 0)),
    ("reddit-first-seen", "reddit/anatosun_ethereum_posts_first_seen.jsonl.gz", {}, (1493, 1493, 0, 0)),
    ("reddit-first-seen", "reddit/anatosun_bitcoinbeginners_posts_first_seen.jsonl.gz", {}, (1112, 1112, 0, 0)),
    ("reddit-first-seen-counts", "reddit/anatosun_ethereum_posts_first_seen.jsonl.gz", {}, (1493, 1493, 0, 0)),
    ("reddit-counts", "reddit/anatosun_score_observations_shared.csv.gz", {}, (10118, 10116, 0, 2)),
    ("reddit-crawl", "reddit/anatosun_raw_samples", {}, (12, 12, 0, 0)),
    ("reddit-crawl-counts", "reddit/anatosun_raw_samples", {}, (12, 12, 0, 0)),
    ("reddit-search", "reddit/zanmark_reddit_posts_2025-02_noauthor.csv.gz", {}, (1164, 1123, 41, 0)),
]


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Lake]:
    """Return what pulls a real file into a lake of its own, once."""
    lakes: dict[tuple[str, str], Lake] = {}
    settings = {(layout, path): given for layout, path, given, _ in REAL}

    def lake_of(layout: str, path: str) -> Lake:
        if (layout, path) not in lakes:
            lake = lakes[layout, path] = Lake(tmp_path_factory.mktemp("lake"))
            given = settings[layout, path]
            accounts, _ = pull(lake, load(layout), [shared_data / path], settings=given, now=NOW, tell=lambda _: None)
            assert [each.error for each in accounts if each.error] == []
        return lakes[layout, path]

    return lake_of


@pytest.mark.parametrize(("layout", "path", "settings", "expected"), REAL, ids=[f"{r[0]}:{r[1]}" for r in REAL])
def test_the_accounts_of_each_real_file_close(
    real: Callable[[str, str], Lake],
    layout: str,
    path: str,
    settings: dict[str, str],
    expected: tuple[int, int, int, int],
) -> None:
    lake = real(layout, path)
    runs = lake.scan(RUNS).collect()
    assert tuple(runs.select("read", "accepted", "duplicate", "quarantined").sum().row(0)) == expected
    facts = lake.scan(load(layout).table).collect()
    assert facts.height == expected[1]
    assert lake.scan(QUARANTINE).collect().height == expected[3]
    assert (facts["available_at"] >= facts["observed_at"]).all()
    assert (facts["available_at"] <= NOW).all()


@pytest.mark.parametrize(
    ("path", "cut"), [("1h", datetime(2020, 10, 12, 9, tzinfo=UTC)), ("d", datetime(2018, 2, 28, tzinfo=UTC))]
)
def test_the_swapped_volumes_of_cryptodatadownload_are_put_right(
    real: Callable[[str, str], Lake], path: str, cut: datetime
) -> None:
    bars = real("cryptodatadownload", f"ohlcv/cdd_bitstamp_BTCUSD_{path}.csv.gz").scan(BARS).collect()
    ratio = pl.col("quote_volume") / pl.col("volume") / pl.col("close")
    for era in (bars.filter(pl.col("observed_at") <= cut), bars.filter(pl.col("observed_at") > cut)):
        ratios = era.filter(pl.col("volume") > 0).select(ratio).to_series()
        assert ratios.len() > 1000
        assert ratios.median() == pytest.approx(1, abs=0.01)
        assert ratios.min() > 0.8  # type: ignore[operator]
        assert ratios.max() < 1.25  # type: ignore[operator]


def test_bitfinex_columns_are_taken_as_the_api_orders_them(real: Callable[[str, str], Lake]) -> None:
    bars = real("bitfinex-1m", "ohlcv/bitfinex_1m/BTCUSD_2017_merged.csv.gz").scan(BARS).sort("observed_at").collect()
    assert bars.select((pl.col("high") >= pl.col("low")).all()).item()
    first = bars.row(4 - 1, named=True)
    assert (first["open"], first["close"], first["high"], first["low"]) == (967.37, 967.39, 967.4, 967.37)
    assert bars["observed_at"][0] == datetime(2017, 1, 1, 0, 1, tzinfo=UTC)
    assert set(bars["symbol"]) == {"BTC-USD"}


def test_the_perpetual_is_stamped_at_its_close(real: Callable[[str, str], Lake]) -> None:
    bars = real("perp-1m", "ohlcv/btc-perp-20211231-20220201_1m.csv.gz").scan(BARS).collect()
    assert bars["observed_at"].min() == datetime(2021, 12, 31, 23, 1, tzinfo=UTC)
    assert bars["volume"].null_count() == bars.height
    assert bars["quote_volume"].median() > 10_000  # type: ignore[operator]


def test_the_empty_days_of_yahoo_are_in_quarantine(real: Callable[[str, str], Lake]) -> None:
    kept = real("yahoo-1d", "ohlcv/yahoo_BTC-USD_d_2016-2021.csv").scan(QUARANTINE).sort("row").collect()
    assert set(kept["reason"]) == {"empty row"}
    days = [json.loads(each)["Date"] for each in kept["original"]]
    assert days == ["2020-04-17", "2020-10-09", "2020-10-12", "2020-10-13"]


def test_days_of_crypto_news_come_before_months(real: Callable[[str, str], Lake]) -> None:
    news = real("cryptonews", "news/cryptonews_semicolon_2021-2022.csv.gz").scan(NEWS).collect()
    title = "Bitcoin Returns Above USD 20K, Ethereum Rallies, CEL Keeps Outperforming"
    row = news.filter(pl.col("title") == title).row(0, named=True)
    assert row["observed_at"] == datetime(2022, 7, 5, 4, 24, tzinfo=UTC)
    assert row["available_at"] == datetime(2022, 7, 5, 5, 24, tzinfo=UTC)
    assert news["observed_at"].max() == row["observed_at"]
    midnight = news.filter(pl.col("observed_at").dt.time() == datetime(2022, 1, 1, tzinfo=UTC).time())
    assert midnight.height == 129
    assert (midnight["available_at"] - midnight["observed_at"] == timedelta(days=1)).all()


def test_news_with_dates_only_are_not_known_on_their_day(real: Callable[[str, str], Lake]) -> None:
    news = real("bitcoin-sentiments", "news/bitcoin_sentiments_21_24.csv.gz").scan(NEWS).collect()
    late = news.filter(pl.col("observed_at") >= datetime(2024, 1, 1, tzinfo=UTC))
    assert late.height == 1334
    assert (late["available_at"] - late["observed_at"] == timedelta(days=1)).all()
    assert news["available_at_estimated"].all()


def test_batches_of_news_were_seen_when_they_were_committed(real: Callable[[str, str], Lake]) -> None:
    lake = real("news-batches", "news/mouadja02_batches")
    news = lake.scan(NEWS).collect()
    assert not news["available_at_estimated"].any()
    assert news["available_at"].min() == datetime(2025, 5, 4, 19, 33, 43, tzinfo=UTC)
    kept = lake.scan(QUARANTINE).filter(pl.col("original") == "hi").collect()
    assert kept["origin"][0].endswith("!05062025/bitcoin_news_2025-05-06_00-21.csv")


def test_vintages_are_known_at_the_end_of_their_day_in_new_york(real: Callable[[str, str], Lake]) -> None:
    facts = real("alfred-intervals", "macro/vintages/midasml_alfred_intervals_shared.csv.gz").scan(MACRO).collect()
    january = facts.filter(
        (pl.col("series") == "CPIAUCSL") & (pl.col("observed_at") == datetime(2010, 1, 1, tzinfo=UTC))
    ).sort("available_at")
    assert january["available_at"][0] == datetime(2010, 2, 20, 5, tzinfo=UTC)
    assert january["value"][0] == pytest.approx(0.1671086067837723)
    assert set(facts["units"]) == {"pch"}


def test_the_first_releases_of_gdp_before_the_archive_are_only_estimated(real: Callable[[str, str], Lake]) -> None:
    facts = real("gdp-releases", "macro/vintages/gdpc1_releases_first_second_third.csv").scan(MACRO).collect()
    quarter = facts.filter(
        (pl.col("units") == "lin") & (pl.col("observed_at") == datetime(2025, 10, 1, tzinfo=UTC))
    ).sort("available_at")
    assert quarter["value"].to_list() == [24111.83, 24065.956]
    assert quarter["available_at"][0] == datetime(2026, 2, 21, 5, tzinfo=UTC)
    old = facts.filter(pl.col("available_at") < datetime(1993, 1, 1, tzinfo=UTC))
    assert old.filter("available_at_estimated").height > 150


def test_snapshots_of_two_days_are_two_vintages(real: Callable[[str, str], Lake]) -> None:
    facts = real("fred-committed", "macro/vintages/fredcast_history").scan(MACRO).sort("available_at").collect()
    march = facts.filter((pl.col("series") == "PAYEMS") & (pl.col("observed_at") == datetime(2017, 3, 1, tzinfo=UTC)))
    assert march.select("value", "available_at").rows() == [
        (145858.0, datetime(2017, 4, 16, 4, tzinfo=UTC)),
        (145823.0, datetime(2017, 6, 19, 4, tzinfo=UTC)),
    ]


def test_counts_are_known_when_they_were_taken(real: Callable[[str, str], Lake]) -> None:
    counted = real("reddit-counts", "reddit/anatosun_score_observations_shared.csv.gz").scan(REACTIONS).collect()
    assert (counted["available_at"] == counted["observed_at"]).all()
    crawled = real("reddit-crawl-counts", "reddit/anatosun_raw_samples").scan(REACTIONS).collect()
    assert set(crawled["channel"]) == {"bitcoin", "cryptomarkets", "btc"}
    assert crawled["observed_at"].min() == datetime(2022, 5, 20, 1, 40, 3, tzinfo=UTC)


def test_a_posts_text_is_empty_where_it_only_links(real: Callable[[str, str], Lake]) -> None:
    posts = real("reddit-first-seen", "reddit/anatosun_bitcoin_posts_first_seen.jsonl.gz").scan(POSTS).collect()
    assert posts["text"].null_count() == 1645
    assert not posts["available_at_estimated"].any()
