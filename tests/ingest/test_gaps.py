"""What is missing of live jobs: why, for how long, and when it is asked for again."""

import json
from datetime import timedelta
from typing import Any

import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_ingest.gaps import KEEPERS, Gap, chooser, time_lines, watermarks
from backsight_ingest.layouts import load
from backsight_ingest.sources.books import Books
from backsight_ingest.sources.macro import KeylessMacro, Macro
from backsight_ingest.sources.news_feeds import Feed
from backsight_ingest.sources.prices import Prices
from backsight_ingest.sources.reddit import Subreddit
from backsight_ingest.sources.trades import TradedPrices
from click.testing import CliRunner

BTC, ETH = "prices:toy:BTC-USD:1h", "prices:toy:ETH-USD:1h"


def holey(desk: Any) -> None:
    """Pull hours 2 to 8, of which 3 is a hole and 5 is lost, and, long before, hours -10 to -8."""
    job = desk.job(BTC)
    job.missing, job.lost = {3}, {5}
    desk.pull(job, 6.5)
    desk.pull(job, 8.5)
    desk.pull(job, 8.6, since=-10, until=-8)


def test_what_is_missing_has_a_reason_and_holes_a_time_at_which_they_are_due(desk: Any) -> None:
    holey(desk)
    (line,) = time_lines(desk.lake).values()
    assert (line.job, line.cadence) == (BTC, timedelta(hours=1))
    assert (line.first, line.reached, line.filled) == (desk.time(-10), desk.time(8), desk.time(8))
    unasked, hole, lost = line.gaps
    assert unasked == Gap(job=BTC, status="unasked", since=desk.time(-8), until=desk.time(2))
    assert lost == Gap(
        job=BTC, status="lost", since=desk.time(5), until=desk.time(6), reason="gone", asked_at=desk.time(6.5)
    )
    # Asked for at 6.5 first, two and a half hours after its end, so not again at 8.5, but from 9 on.
    assert hole == Gap(
        job=BTC,
        status="hole",
        since=desk.time(3),
        until=desk.time(4),
        reason="no bar",
        asked_at=desk.time(6.5),
        due_at=desk.time(9),
    )
    assert [line.total(status) / timedelta(hours=1) for status in ("hole", "lost", "unasked", "whole")] == [1, 1, 10, 6]
    assert line.share == pytest.approx(6 / 18)


def test_a_time_line_is_filled_up_to_where_something_was_there(desk: Any) -> None:
    job = desk.job(BTC)
    job.missing = {4, 5, 6, 7}
    desk.pull(job, 4.5)
    desk.pull(job, 8.5)
    line = time_lines(desk.lake)[BTC]
    assert (line.filled, line.reached) == (desk.time(4), desk.time(8))


def test_a_time_line_without_anything_is_filled_up_to_where_it_begins(desk: Any) -> None:
    job = desk.job(BTC)
    job.missing = {0, 1, 2, 3}
    desk.pull(job, 4.5)
    line = time_lines(desk.lake)[BTC]
    assert (line.filled, line.reached, line.share) == (desk.time(0), desk.time(4), 0.0)


def test_jobs_are_chosen_by_patterns(desk: Any) -> None:
    for name in (BTC, ETH):
        desk.pull(desk.job(name), 4.5)
    assert list(time_lines(desk.lake)) == [BTC, ETH]
    assert list(time_lines(desk.lake, chooser(["*:ETH-*"]))) == [ETH]
    assert list(time_lines(desk.lake, chooser([], without=["*:ETH-*"]))) == [BTC]
    assert list(time_lines(desk.lake, chooser(["books:*"]))) == []
    assert watermarks(desk.lake, [ETH, "macro:CPIAUCSL"])["macro:CPIAUCSL"] is None


@pytest.mark.parametrize("job", [Prices, TradedPrices, Books, Subreddit, Macro, KeylessMacro, Feed])
def test_watermarks_are_looked_for_where_jobs_keep_them(job: Any) -> None:
    assert load(job.layouts[-1]).table is KEEPERS[job.verb.removeprefix("pull ")]


def test_a_job_of_no_known_kind_is_named(desk: Any) -> None:
    with pytest.raises(BadInput, match="weather:berlin: no job is of kind weather; there are prices"):
        watermarks(desk.lake, ["weather:berlin"])


def test_the_command_shows_totals_and_every_gap(desk: Any) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["--home", str(desk.home), "gaps", *arguments])

    assert run().stdout == "no live source was ever pulled\n"
    holey(desk)
    desk.pull(desk.job(ETH), 8.5)
    shown = run().stdout.splitlines()
    assert shown[1].split() == [
        BTC,
        "2024-04-30",
        "14:00:00",
        "2024-05-01",
        "08:00:00",
        "33.33",
        "%",
        "1h",
        "1h",
        "10h",
    ]
    assert [line.split()[1] for line in shown[5:]] == ["lost", "hole", "unasked"]
    assert "again from" in shown[4]
    assert "and 2 more" in run("--limit", "1").stdout
    (document,) = json.loads(run("--job", "*:BTC-*", "--json").stdout)["jobs"]
    assert (document["hole_s"], document["lost_s"], document["unasked_s"]) == (3600, 3600, 36000)
    assert [gap["status"] for gap in document["gaps"]] == ["unasked", "hole", "lost"]
    assert document["gaps"][1]["due_at"] == "2024-05-01T09:00:00+00:00"
    unknown = run("--job", "prices:kraken:*")
    assert isinstance(unknown.exception, BadInput)
    assert "no such job" in str(unknown.exception)
