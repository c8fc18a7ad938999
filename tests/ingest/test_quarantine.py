"""What is in quarantine can be counted, seen, and tried again through a mended layout."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, MACRO, NEWS, POSTS, RESOLUTIONS
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull
from backsight_ingest.quarantine import counts, replay, waiting
from click.testing import CliRunner

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)

BARS_TOML = """
kind = "bars"
[columns]
observed_at = "t"
open = "o"
high = "h"
low = "l"
close = "c"
volume = "v"
[constants]
venue = "mine"
symbol = "BTC-USD"
timeframe = "1h"
[observed]
formats = ["%Y-%m-%d %H:%M"]
[available]
lag = "15s"
"""
ROWS = """t,o,h,l,c,v
2023-01-01 00:00,1,2,1,2,5
2023-01-01 01:00,1,2,1,n/a,5
01.01.2023 02:00,1,2,1,2,5
01.01.2023 00:00,1,2,1,2,5
2023-01-01 03:00,1
2023-01-01 04:00,9,2,1,2,5
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Return a lake into which a file with five bad rows was pulled."""
    lake = Lake(tmp_path / "home" / "lake")
    (tmp_path / "mine.toml").write_text(BARS_TOML)
    (tmp_path / "rows.csv").write_text(ROWS)
    (account,), _ = pull(
        lake, load(str(tmp_path / "mine.toml")), [tmp_path / "rows.csv"], settings={}, now=NOW, tell=lambda _: None
    )
    assert (account.read, account.accepted, account.quarantined) == (6, 1, 5)
    return lake


def mend(tmp_path: Path) -> None:
    """Let the layout read the dates that it could not."""
    text = BARS_TOML.replace('["%Y-%m-%d %H:%M"]', '["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"]')
    (tmp_path / "mine.toml").write_text(text)


def test_like_reasons_are_counted_together(lake: Lake) -> None:
    found = dict(counts(lake).select("reason", "rows").iter_rows())
    assert found == {
        "observed_at: '…' is not an instant as declared": 2,
        "close: '…' is not a number": 1,
        "2 cells, the header has 6": 1,
        "open and close must lie between low and high": 1,
    }


def test_what_a_mended_layout_reads_leaves_the_quarantine_once(lake: Lake, tmp_path: Path) -> None:
    (unmended,) = replay(lake, now=LATER)
    assert (unmended.read, unmended.accepted, unmended.quarantined) == (5, 0, 5)
    mend(tmp_path)
    (done,) = replay(lake, now=LATER)
    assert (done.read, done.accepted, done.duplicate, done.quarantined) == (5, 1, 1, 3)
    bars = lake.scan(BARS).sort("observed_at").collect()
    assert bars["observed_at"].dt.hour().to_list() == [1, 3]
    assert bars["ingested_at"][1] == LATER
    resolved = lake.scan(RESOLUTIONS).sort("row").select("row", "outcome").collect().rows()
    assert resolved == [(3, "accepted"), (4, "duplicate")]
    assert sorted(waiting(lake).select("row").collect()["row"]) == [2, 5, 6]
    (again,) = replay(lake, now=LATER)
    assert (again.read, again.accepted, again.quarantined) == (3, 0, 3)
    assert lake.scan(BARS).collect().height == 2


def test_a_replay_that_was_cut_off_after_the_facts_ends_the_same(lake: Lake, tmp_path: Path) -> None:
    mend(tmp_path)
    path = tmp_path / "rows.csv"
    layout = load(str(tmp_path / "mine.toml"))
    pull(lake, layout, [path], settings={}, now=LATER, tell=lambda _: None)  # the facts are there, the resolutions not
    done = list(replay(lake, now=LATER))
    assert sum(each.duplicate for each in done) == 2
    assert sum(each.accepted for each in done) == 0
    assert lake.scan(BARS).collect().height == 2


def test_a_layout_that_is_gone_is_an_error_of_its_rows_only(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").unlink()
    (done,) = replay(lake, now=LATER)
    assert "no such file" in str(done.error)
    assert done.quarantined == 5
    mend(tmp_path)
    (tmp_path / "mine.toml").rename(tmp_path / "other.toml")
    (done,) = replay(lake, now=LATER, layout=str(tmp_path / "other.toml"))
    assert done.accepted == 1


def test_settings_and_sightings_are_remembered(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    (tmp_path / "MANIFEST.csv").write_text("path,commit_time\nbitcoin_news_1.csv,2025-05-04T13:00:00+02:00\n")
    path = tmp_path / "bitcoin_news_1.csv"
    path.write_text("datetime,headline,summary,source,url\n4 May 2025 10:00,Up,,A,https://a.org/1\n")
    pull(lake, load("news-batches"), [path], settings={}, now=NOW, tell=lambda _: None)
    shipped = Path(str(load.__code__.co_filename)).parent / "layouts"
    text = (shipped / "news-batches.toml").read_text()
    (tmp_path / "mine.toml").write_text(
        text.replace('formats = ["%Y-%m-%dT%H:%M:%S%.fZ"', 'formats = ["%d %B %Y %H:%M"')
    )
    (done,) = replay(lake, now=LATER, layout=str(tmp_path / "mine.toml"))
    assert done.accepted == 1
    assert lake.scan(NEWS).collect()["available_at"].to_list() == [datetime(2025, 5, 4, 11, tzinfo=UTC)]

    series = tmp_path / "series.csv"
    series.write_text("date,value\n2023-03-01,1 5\n")
    pull(
        lake, load("fred-date-value"), [series], settings={"series": "MINE", "lag": "9d"}, now=NOW, tell=lambda _: None
    )
    text = (shipped / "fred-date-value.toml").read_text().replace("[columns]", '[format]\nthousands = " "\n[columns]')
    (tmp_path / "macro.toml").write_text(text)
    (done,) = replay(lake, now=LATER, layout=str(tmp_path / "macro.toml"))
    fact = lake.scan(MACRO).collect().row(0, named=True)
    assert (fact["series"], fact["value"]) == ("MINE", 15.0)
    assert fact["available_at"] == datetime(2023, 3, 11, 5, tzinfo=UTC)


VERSIONS_TOML = """
kind = "macro"
[columns]
observed_at = "t"
[constants]
series = "X"
units = "lin"
[observed]
formats = ["%Y-%m-%d"]
[available]
base = "column"
formats = ["%Y-%m-%d"]
[[versions]]
columns = { available_at = "d1", value = "v1" }
[[versions]]
columns = { available_at = "d2", value = "v2" }
"""


def test_of_a_row_that_holds_several_facts_only_the_one_that_waits_is_tried(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    mine, rows = tmp_path / "mine.toml", tmp_path / "rows.csv"
    mine.write_text(VERSIONS_TOML)
    rows.write_text("t,d1,v1,d2,v2\n2023-01-01,2023-02-01,5,2023-03-01,6 1\n2023-02-01,2023-03-01,7,2023-04-01,8\n")
    (account,), _ = pull(lake, load(str(mine)), [rows], settings={}, now=NOW, tell=lambda _: None)
    assert (account.read, account.accepted, account.quarantined) == (4, 3, 1)
    mine.write_text(VERSIONS_TOML + '[format]\nthousands = " "\n')
    (done,) = replay(lake, now=LATER)
    assert (done.read, done.accepted, done.duplicate, done.quarantined) == (1, 1, 0, 0)
    assert sorted(lake.scan(MACRO).collect()["value"]) == [5.0, 7.0, 8.0, 61.0]


def test_an_object_with_a_field_too_many_is_read_once_it_is_declared(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    shipped = Path(str(load.__code__.co_filename)).parent / "layouts" / "reddit-first-seen.toml"
    row = {
        "id": "a1", "title": "Up", "url": "", "created_utc": 1650000000.0, "subreddit": "Bitcoin",
        "selftext": "", "first_seen_utc": "2022-05-01T00:00:00Z",
    }  # fmt: skip
    lines = [row, {**row, "id": "a2", "mood": {"happy": 1}}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pull(lake, load("reddit-first-seen"), [tmp_path / "posts.jsonl"], settings={}, now=NOW, tell=lambda _: None)
    (done,) = replay(lake, now=LATER)
    assert done.quarantined == 1
    (tmp_path / "mine.toml").write_text(shipped.read_text().replace('"stickied"', '"stickied", "mood"'))
    (done,) = replay(lake, now=LATER, layout=str(tmp_path / "mine.toml"))
    assert done.accepted == 1
    assert lake.scan(POSTS).sort("id").collect()["id"].to_list() == ["a1", "a2"]


def test_the_commands_list_show_and_replay(lake: Lake, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "quarantine", *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert len(json.loads(run("list", "--json"))) == 4
    assert "n/a" in run("show", "--reason", "not a number")
    (shown,) = json.loads(run("show", "--reason", "cells", "--json"))
    assert (shown["row"], shown["original"]) == (5, "2023-01-01 03:00,1")
    assert json.loads(run("show", "--layout", "other", "--json")) == []
    assert "nothing of that" in run("show", "--layout", "other")
    mend(tmp_path)
    (done,) = json.loads(run("replay", "--json"))
    assert (done["read"], done["accepted"], done["duplicate"], done["quarantined"]) == (5, 1, 1, 3)
    assert "rows.csv" in run("replay")
    done = CliRunner().invoke(cli, ["--home", str(tmp_path / "home"), "runs", "--json"])
    ran = [(each["verb"], each["read"], each["quarantined"]) for each in json.loads(done.stdout)]
    assert ran == [("quarantine replay", 3, 3), ("quarantine replay", 5, 3), ("pull dump", 6, 5)]


def test_a_table_cuts_what_is_as_long_as_a_book(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(BARS_TOML)
    (tmp_path / "rows.csv").write_text(ROWS + "2023-01-01 09:00,1,2,1,2," + "x" * 5000 + "\n")
    home = ["--home", str(tmp_path / "home")]
    CliRunner().invoke(
        cli, [*home, "pull", "dump", "--layout", str(tmp_path / "mine.toml"), str(tmp_path / "rows.csv")]
    )
    show = [*home, "quarantine", "show", "--reason", "x" * 100]
    assert "x" * 5000 in json.loads(CliRunner().invoke(cli, [*show, "--json"]).stdout)[0]["original"]
    assert "x" * 5000 not in CliRunner().invoke(cli, show).stdout


def test_nothing_waits_in_an_empty_lake(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert counts(lake).is_empty()
    assert list(replay(lake, now=NOW)) == []
    assert isinstance(waiting(lake).collect(), pl.DataFrame)


CCXT = Path(str(load.__code__.co_filename)).parent / "layouts" / "ccxt.toml"


def mended_ccxt(tmp_path: Path) -> str:
    """Return a layout of one's own that reads prices with thousands separators."""
    path = tmp_path / "mine.toml"
    path.write_text(CCXT.read_text().replace("[format]", '[format]\nthousands = ","'))
    return str(path)


def pulled(desk: Any) -> None:
    """Pull six bars of which one has a close that is no number, and one a close that only a mended layout reads."""
    job = desk.job()
    job.closes = {1: "NaN", 3: "1,00"}
    account = desk.pull(job, 4.1)
    assert (account.read, account.accepted, account.quarantined) == (4, 2, 2)
    account = desk.pull(job, 6.1)
    assert (account.read, account.accepted, account.quarantined) == (2, 2, 0)


def test_a_bar_that_a_live_job_set_aside_is_read_through_a_mended_layout(desk: Any, tmp_path: Path) -> None:
    pulled(desk)
    (unmended,) = replay(desk.lake, now=desk.time(9))
    assert (unmended.origin, unmended.accepted, unmended.quarantined) == ("prices:toy:BTC-USD:1h", 0, 2)
    (done,) = replay(desk.lake, now=desk.time(9), layout=mended_ccxt(tmp_path))
    assert (done.read, done.accepted, done.quarantined) == (2, 1, 1)
    bars = desk.lake.scan(BARS).sort("observed_at").collect()
    assert bars["observed_at"].to_list() == [desk.time(n) for n in (1, 3, 4, 5, 6)]
    fixed = bars.row(2, named=True)
    assert (fixed["venue"], fixed["symbol"], fixed["timeframe"], fixed["close"]) == ("toy", "BTC-USD", "1h", 100.0)
    assert fixed["available_at"] == desk.time(4) + timedelta(seconds=15)
    assert fixed["ingested_at"] == desk.time(9)
    (reason,) = waiting(desk.lake).collect()["reason"]
    assert reason == "close: 'NaN' is not a number"
    # The same bad record again, as of a page that is asked for twice, does not wait twice.
    assert desk.pull(desk.job(), 6.2).read == 0
    assert waiting(desk.lake).collect().height == 1


def test_what_came_late_and_was_set_aside_is_not_known_before_it_came(desk: Any, tmp_path: Path) -> None:
    job = desk.job()
    job.missing, job.closes = {2}, {0: "1,00", 2: "1,00"}
    desk.pull(job, 4.1)
    job.missing = set()
    account = desk.pull(job, 8.1)
    assert (account.accepted, account.quarantined) == (4, 1)
    list(replay(desk.lake, now=desk.time(20), layout=mended_ccxt(tmp_path)))
    known = desk.lake.scan(BARS).filter(pl.col("observed_at").is_in([desk.time(1), desk.time(3)])).sort("observed_at")
    # Bar 0 was there in time; bar 2 was not there yet when it was first asked for, so nobody had it before 08:06.
    assert known.select("available_at", "available_at_estimated").collect().rows() == [
        (desk.time(1) + timedelta(seconds=15), True),
        (desk.time(8.1), False),
    ]


def test_a_bar_that_was_not_finished_does_not_become_one_by_waiting(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    (tmp_path / "mine.toml").write_text(BARS_TOML)
    (tmp_path / "rows.csv").write_text("t,o,h,l,c,v\n2023-01-01 00:00,1,2,1,2,5\n2023-01-01 01:00,1,2,1,2,5\n")
    then = datetime(2023, 1, 1, 1, 30, tzinfo=UTC)
    pull(lake, load(str(tmp_path / "mine.toml")), [tmp_path / "rows.csv"], settings={}, now=then, tell=lambda _: None)
    (done,) = replay(lake, now=NOW)
    assert (done.read, done.accepted, done.quarantined) == (1, 0, 1)
    assert "lies in the future" in waiting(lake).collect()["reason"][0]


NEWS_TOML = """
kind = "news"
[columns]
observed_at = "t"
title = "title"
url = "url"
[observed]
formats = ["%Y-%m-%d"]
[available]
lag = "1h"
"""


def test_a_text_that_was_stamped_later_was_there_when_it_was_set_aside(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    mine, rows = tmp_path / "mine.toml", tmp_path / "rows.csv"
    mine.write_text(NEWS_TOML)
    rows.write_text("t,title,url\n2026-05-01,Sure,https://a.org/1\n01.01.2027,Odd,https://a.org/2\n")
    pull(lake, load(str(mine)), [rows], settings={}, now=NOW, tell=lambda _: None)
    mine.write_text(NEWS_TOML.replace('["%Y-%m-%d"]', '["%Y-%m-%d", "%d.%m.%Y"]'))
    (done,) = replay(lake, now=datetime(2028, 1, 1, tzinfo=UTC))
    assert done.accepted == 1
    odd = lake.scan(NEWS).filter(pl.col("title") == "Odd").collect().row(0, named=True)
    assert (odd["observed_at"], odd["available_at"], odd["available_at_estimated"]) == (NOW, NOW, True)


def test_rows_beyond_what_is_held_at_once_are_in_one_account(desk: Any, tmp_path: Path) -> None:
    one, other = desk.job(), desk.job("prices:toy:ETH-USD:1h")
    one.closes, other.closes = dict.fromkeys(range(4), "1,00"), {2: "1,00", 3: "NaN"}
    desk.pull(other, 4.1)
    desk.pull(one, 4.2)
    done = list(replay(desk.lake, now=desk.time(20), layout=mended_ccxt(tmp_path), rows_at_once=3))
    assert [(each.origin, each.read, each.accepted, each.quarantined) for each in done] == [
        (other.name, 2, 1, 1),
        (one.name, 4, 4, 0),
    ]


def test_half_a_surrogate_pair_stops_no_replay(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    shipped = CCXT.with_name("reddit-first-seen.toml").read_text()
    row = {
        "id": "a1", "title": "Up", "url": "", "created_utc": 1650000000.0, "subreddit": "Bitcoin",
        "selftext": "", "first_seen_utc": "2022-05-01T00:00:00Z",
    }  # fmt: skip
    lines = [row, {**row, "id": "a2", "title": "Do\ud800wn", "mood": 1}]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pull(lake, load("reddit-first-seen"), [tmp_path / "posts.jsonl"], settings={}, now=NOW, tell=lambda _: None)
    (tmp_path / "mine.toml").write_text(shipped.replace('"stickied"', '"stickied", "mood"'))
    (done,) = replay(lake, now=LATER, layout=str(tmp_path / "mine.toml"))
    assert done.accepted == 1
    assert lake.scan(POSTS).filter(pl.col("id") == "a2").collect()["title"].to_list() == ["Down"]


def test_jobs_are_told_apart(desk: Any, tmp_path: Path) -> None:
    pulled(desk)
    (tmp_path / "mine.toml").write_text(BARS_TOML)
    (tmp_path / "rows.csv").write_text(ROWS)
    layout = load(str(tmp_path / "mine.toml"))
    pull(desk.lake, layout, [tmp_path / "rows.csv"], settings={}, now=NOW, tell=lambda _: None)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["--home", str(desk.home), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    live, files = "prices:toy:BTC-USD:1h", f"dump:{layout.name}"
    listed = json.loads(run("quarantine", "list", "--json"))
    assert {each["job"]: each["rows"] for each in listed if each["reason"] == "close: '…' is not a number"} == {
        live: 2,
        files: 1,
    }
    assert [each["job"] for each in json.loads(run("quarantine", "list", "--job", "prices:*", "--json"))] == [live]
    assert "nothing of that" in run("quarantine", "list", "--job", "books:*")
    shown = json.loads(run("quarantine", "show", "--job", live, "--json"))
    assert {each["reason"] for each in shown} == {"close: 'NaN' is not a number", "close: '1,00' is not a number"}
    assert {each["job"] for each in shown} == {live}
    assert live in run("quarantine", "show", "--job", "prices:*")
    assert live not in run("quarantine", "show", "--job", "dump:*")
    (tmp_path / "mine.toml").write_text(BARS_TOML)
    (done,) = json.loads(run("quarantine", "replay", "--job", "dump:*", "--json"))
    assert (done["origin"], done["read"]) == (str(tmp_path / "rows.csv"), 5)
    assert {each["verb"] for each in json.loads(run("runs", "--job", "prices:*", "--json"))} == {"pull prices"}
