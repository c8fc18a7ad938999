"""Series of FRED with their vintages: on every day the lake says what the world said on that day, and no more."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features import delta
from backsight_features.clocks import from_us
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import MACRO
from backsight_ingest.accounts import Account
from backsight_ingest.layouts import load
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Refused
from backsight_ingest.live.job import Job
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.web import Web
from backsight_ingest.sources.fred import FIRST_DAY, Fred
from backsight_ingest.sources.fredgraph import Fredgraph
from backsight_ingest.sources.macro import KeylessMacro, Macro
from backsight_ingest.sources.macro_series import curated

KEY = "0123456789abcdef0123456789abcdef"
DAY = timedelta(days=1)
MONTH = timedelta(days=31)
ARCHIVED = ("CPIAUCSL", "PAYEMS", "GDPC1", "ICSA")
OBSERVATIONS = "/fred/series/observations"

MakeJob = Callable[..., Job]
Run = Callable[..., Account]


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Return a way on which nobody is in a hurry: nothing here is slow on purpose."""
    return make_web(idle=timedelta(seconds=20), total=timedelta(seconds=60))


@pytest.fixture
def macro(web: Web, lake: Lake, clock: Clock) -> MakeJob:
    fred = Fred(KEY, web)
    return lambda series, **lag: Macro(series, fred, lake, clock, cadence=MONTH, **lag)


@pytest.fixture
def keyless(web: Web, lake: Lake, clock: Clock) -> MakeJob:
    graph = Fredgraph(web)
    return lambda series, **lag: KeylessMacro(series, graph, lake, clock, cadence=MONTH, **lag)


@pytest.fixture
def run(lake: Lake, clock: Clock, tmp_path: Path) -> Run:
    """Return what runs a job once; it has to end well."""

    def once(job: Job, **options: Any) -> Account:
        (account,) = pull(lake, [job], locks=tmp_path / "locks", clock=clock, **options)
        assert account.error is None, account.error
        return account

    return once


def facts(lake: Lake, series: str) -> pl.DataFrame:
    """Return all versions, and the day in New York in the course of which, or at whose end, each was known."""
    known = (pl.col("available_at") - timedelta(microseconds=1)).dt.convert_time_zone("America/New_York").dt.date()
    rows = lake.scan(MACRO).filter(pl.col("series") == series).sort("observed_at", "available_at", "ingested_at")
    return rows.select(
        period=pl.col("observed_at").dt.date(),
        day=known,
        value="value",
        at="available_at",
        rule="available_at_estimated",
    ).collect()


def steps(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each day on which what was known of a period became another value; where these agree, each day does."""
    ends = rows.select("period", "day", "value").unique(["period", "day"], keep="last", maintain_order=True)
    ends = ends.sort("period", "day", maintain_order=True)
    before = pl.col("value").shift().over("period")
    first = pl.int_range(pl.len()).over("period") == 0
    return ends.filter(first | pl.col("value").ne_missing(before))


def truth(world: FakeWorld, series: str) -> pl.DataFrame:
    releases = world.fred.truth(series)
    columns = {"period": pl.Date, "day": pl.Date, "value": pl.String}
    return pl.DataFrame(releases, schema=columns, orient="row").with_columns(
        pl.col("value").replace(".", None).cast(pl.Float64)
    )


def known_at(rows: pl.DataFrame, day: date) -> dict[date, float | None]:
    """Return the last value of each period known by the end of a day."""
    last = rows.filter(pl.col("day") <= day).unique("period", keep="last", maintain_order=True)
    return dict(last.select("period", "value").iter_rows())


def agrees(world: FakeWorld, lake: Lake, series: str) -> bool:
    """Return whether lake and world agree on every day."""
    return steps(facts(lake, series)).equals(steps(truth(world, series)))


# ------------------------------------------------------------------------------------------------- whole histories


@pytest.mark.parametrize("series", ARCHIVED)
def test_on_every_day_the_lake_knows_what_the_world_knew(
    series: str, world: FakeWorld, lake: Lake, macro: MakeJob, run: Run
) -> None:
    account = run(macro(series))
    # Not one release is lost, and not one invented.
    assert (account.read, account.accepted, account.quarantined) == (len(world.fred.truth(series)),) * 2 + (0,)
    assert agrees(world, lake, series)
    for day in (date(2011, 3, 1), date(2019, 2, 12), world.now.date()):
        said = {period: None if v == "." else float(v) for period, v in world.fred.known_at(series, day).items()}
        assert known_at(facts(lake, series), day) == said


def test_a_long_history_comes_in_pieces_within_the_limit(
    world: FakeWorld, lake: Lake, macro: MakeJob, run: Run
) -> None:
    account = run(macro("DFF"))
    releases = world.fred.truth("DFF")
    vintages = {release.realtime_start for release in releases}
    assert len(vintages) > 4100
    asked = [hit.query for hit in world.hits(OBSERVATIONS)]
    assert len(asked) == 3
    # FRED refuses an end that lies after its today, and knows no vintage before its calendar begins.
    assert asked[0]["realtime_start"] == str(FIRST_DAY)
    assert all(date.fromisoformat(query["realtime_end"]) in vintages for query in asked)
    # Each piece begins with the last day of the one before; what held on it is known.
    assert [query["realtime_start"] for query in asked[1:]] == [query["realtime_end"] for query in asked[:-1]]
    assert (account.accepted, account.quarantined) == (len(releases), 0)
    assert agrees(world, lake, "DFF")
    world.advance(30 * DAY)
    assert run(macro("DFF")).accepted == len(world.fred.truth("DFF")) - len(releases)
    assert agrees(world, lake, "DFF")


@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4, 5, 6])
def test_cut_off_between_any_two_commits_it_goes_on(
    stopped_at: int, world: FakeWorld, lake: Lake, macro: MakeJob, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    commit, commits = delta.append, 0

    def die(*args: Any, **kwargs: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == stopped_at:
            raise Killed
        commit(*args, **kwargs)

    def twice() -> None:
        run(macro("GDPC1"))
        world.advance(100 * DAY)
        run(macro("GDPC1"))

    with monkeypatch.context() as patched:
        patched.setattr(delta, "append", die)
        with pytest.raises(Killed):
            twice()
    run(macro("GDPC1"))
    assert agrees(world, lake, "GDPC1")
    assert facts(lake, "GDPC1").height == len(world.fred.truth("GDPC1"))


def test_values_of_elsewhere_are_not_mixed_with_vintages(
    world: FakeWorld, lake: Lake, clock: Clock, macro: MakeJob, keyless: MakeJob, run: Run, tmp_path: Path
) -> None:
    run(keyless("CPIAUCSL"))
    (account,) = pull(lake, [macro("CPIAUCSL")], locks=tmp_path / "locks", clock=clock)
    assert isinstance(account.error, BadInput)
    assert "the lake holds CPIAUCSL from pull:fred-date-value" in str(account.error)


def test_vintages_that_are_gone_for_a_while_are_not_missed(
    world: FakeWorld, lake: Lake, clock: Clock, macro: MakeJob, run: Run, tmp_path: Path
) -> None:
    run(macro("GDPC1"))
    world.advance(100 * DAY)
    message = "Bad Request.  The series does not exist in ALFRED but may exist in FRED."
    body = f'<error code="400" message="{message}" />'.encode()
    world.fault("/fred/series/vintagedates", Fault(name="gone", status=400, body=body, content_type="text/xml"))
    (account,) = pull(lake, [macro("GDPC1")], locks=tmp_path / "locks", clock=clock)
    assert isinstance(account.error, Refused)
    assert run(macro("GDPC1")).accepted > 0
    assert agrees(world, lake, "GDPC1")


# ------------------------------------------------------------------------------------------------- day by day


@pytest.mark.parametrize("series", ["CPIAUCSL", "ICSA"])
def test_each_pull_brings_what_is_new(series: str, world: FakeWorld, lake: Lake, macro: MakeJob, run: Run) -> None:
    there, hour = 0, timedelta(hours=1)
    for wait in (0 * DAY, 2 * hour, 3 * DAY, 17 * hour, 90 * DAY):  # from Friday on, an hour before what comes out
        world.advance(wait)
        account = run(macro(series))
        before, there = there, len(world.fred.truth(series))
        assert (account.accepted, account.quarantined) == (there - before, 0)
        assert agrees(world, lake, series)


def test_a_pull_without_a_new_vintage_asks_for_no_observation(world: FakeWorld, macro: MakeJob, run: Run) -> None:
    run(macro("GDPC1"))
    world.advance(DAY)
    world.log.clear()
    run(macro("GDPC1"))
    assert world.hits(OBSERVATIONS) == []
    assert len(world.log) == 1


def test_only_new_vintages_are_asked_for(world: FakeWorld, macro: MakeJob, run: Run) -> None:
    run(macro("PAYEMS"))
    covered = world.now.date() - DAY
    world.advance(70 * DAY)
    world.log.clear()
    run(macro("PAYEMS"))
    (asked,) = world.hits(OBSERVATIONS)
    assert date.fromisoformat(asked.query["realtime_start"]) == covered
    assert date.fromisoformat(asked.query["realtime_end"]) > covered


def test_a_day_that_is_not_over_is_asked_for_again(world: FakeWorld, lake: Lake, macro: MakeJob, run: Run) -> None:
    def reached() -> datetime:
        at = lake.watermark(MACRO, coverage.app("macro:ICSA"))
        assert at is not None
        return from_us(at)

    world.now = datetime(2024, 5, 23, 13, 0, tzinfo=UTC)  # a Thursday, half an hour before the release
    run(macro("ICSA"))
    today = datetime(2024, 5, 23, tzinfo=UTC)
    assert reached() == today
    world.advance(timedelta(hours=1))
    first = run(macro("ICSA"))
    assert first.accepted > 0
    assert reached() == today
    again = run(macro("ICSA"))
    assert (again.accepted, again.duplicate) == (0, first.accepted)
    # In St. Louis it is still Thursday.
    world.now = datetime(2024, 5, 24, 5, 30, tzinfo=UTC)
    run(macro("ICSA"))
    assert reached() == today
    world.now = datetime(2024, 5, 24, 6, 30, tzinfo=UTC)
    last = run(macro("ICSA"))
    assert (last.accepted, last.duplicate) == (0, first.accepted)
    assert reached() == today + DAY
    assert agrees(world, lake, "ICSA")


@pytest.mark.parametrize("series", ["CPIAUCSL", "ICSA"])
def test_what_replaces_a_value_on_its_day_is_known_from_the_end_of_the_day(
    series: str, world: FakeWorld, lake: Lake, macro: MakeJob, run: Run
) -> None:
    released = max(r.realtime_start for r in world.fred.truth(series) if r.realtime_start.month == 4)
    world.now = datetime(released.year, released.month, released.day, 14, 0, tzinfo=UTC)
    newest = max(world.fred.truth(series), key=lambda release: (release.realtime_start, release.date))

    def wrong(rows: list[Any]) -> list[Any]:
        return [{**row, "value": "1.5"} if row["date"] == str(newest.date) else row for row in rows]

    world.fault(OBSERVATIONS, Fault.rewrite(wrong), skip=0, times=2)
    run(macro(series))
    for wait in (timedelta(hours=1), timedelta(hours=1), DAY, DAY):
        world.advance(wait)
        run(macro(series))
    versions = facts(lake, series).filter(pl.col("period") == newest.date)
    end = datetime.combine(released + DAY, datetime.min.time(), UTC) + timedelta(hours=4)
    early = datetime.combine(released, datetime.min.time(), UTC) + timedelta(hours=12, minutes=30)
    assert versions["value"].to_list() == [1.5, float(newest.value)]
    assert versions["at"].to_list() == [early if series == "CPIAUCSL" else end, end]
    assert agrees(world, lake, series)


def test_nothing_is_asked_for_after_until(world: FakeWorld, lake: Lake, macro: MakeJob, run: Run) -> None:
    run(macro("PAYEMS"), until=datetime(2020, 1, 1, tzinfo=UTC))
    assert facts(lake, "PAYEMS")["day"].max() == date(2019, 12, 6)
    run(macro("PAYEMS"), until=datetime(2020, 1, 1, tzinfo=UTC))
    run(macro("PAYEMS"))
    assert agrees(world, lake, "PAYEMS")


def test_a_plan_asks_nobody(world: FakeWorld, lake: Lake, macro: MakeJob, run: Run) -> None:
    since = datetime(2024, 1, 1, tzinfo=UTC)
    forward = plan(lake, macro("GDPC1"), since=since, until=None, now=world.now).forward
    assert forward is not None
    assert (from_us(forward.start).date(), from_us(forward.stop).date()) == (FIRST_DAY, date(2024, 5, 18))
    assert world.log == []
    run(macro("GDPC1"))
    forward = plan(lake, macro("GDPC1"), since=since, until=None, now=world.now).forward
    assert forward is not None
    assert (from_us(forward.start).date(), from_us(forward.stop).date()) == (date(2024, 5, 17), date(2024, 5, 18))


# ------------------------------------------------------------------------------------------------- when it was known


def test_releases_at_half_past_eight_are_known_then(lake: Lake, macro: MakeJob, run: Run) -> None:
    run(macro("CPIAUCSL"))
    found = facts(lake, "CPIAUCSL")
    in_new_york = found["at"].dt.convert_time_zone("America/New_York")
    first = found["day"].min()
    assert isinstance(first, date)
    archive = found["day"] == first
    assert set(in_new_york.filter(~archive).dt.strftime("%H:%M:%S")) == {"08:30:00"}
    # What the first vintage holds may have been published before, and at another time of the day.
    assert set(in_new_york.filter(archive).dt.strftime("%H:%M:%S")) == {"00:00:00"}
    assert found["rule"].to_list() == archive.to_list()


def test_other_vintages_are_known_from_the_end_of_their_day(lake: Lake, macro: MakeJob, run: Run) -> None:
    run(macro("GDPC1"))
    at = facts(lake, "GDPC1")["at"].dt.convert_time_zone("America/New_York")
    assert set(at.dt.strftime("%H:%M:%S")) == {"00:00:00"}


def test_a_withdrawn_value_is_null_from_its_vintage_on(world: FakeWorld, lake: Lake, macro: MakeJob, run: Run) -> None:
    run(macro("ICSA"))
    withdrawn = {(r.date, r.realtime_start) for r in world.fred.truth("ICSA") if r.value == "."}
    assert withdrawn
    nulls = facts(lake, "ICSA").filter(pl.col("value").is_null())
    assert set(nulls.select("period", "day").iter_rows()) == withdrawn


def test_a_period_that_is_left_out_is_null_from_that_day_on(
    world: FakeWorld, lake: Lake, macro: MakeJob, run: Run
) -> None:
    gone, day = date(2012, 1, 1), date(2020, 6, 1)

    def left_out(rows: list[Any]) -> list[Any]:
        kept = [row for row in rows if row["date"] != str(gone) or row["realtime_start"] < str(day)]
        ends = {**kept[-1], "date": str(gone), "realtime_end": str(day - DAY)}
        last = max((row for row in kept if row["date"] == str(gone)), key=lambda row: row["realtime_start"])
        assert last["realtime_end"] > str(day)
        kept[kept.index(last)] = {**last, "realtime_end": ends["realtime_end"]}
        return kept

    world.fault(OBSERVATIONS, Fault.rewrite(left_out))
    run(macro("CPIAUCSL"))
    versions = facts(lake, "CPIAUCSL").filter(pl.col("period") == gone)
    assert versions.select("day", "value").row(-1) == (day, None)


# ------------------------------------------------------------------------------------------------- without vintages


def saying(day: date, value: str) -> Fault:
    """Return the fault of an answer in which a period has another value."""
    return Fault.rewrite(lambda rows: [{**row, "value": value} if row["date"] == str(day) else row for row in rows])


WAYS = [("macro", OBSERVATIONS), ("keyless", "/fredgraph/")]


@pytest.mark.parametrize("way", [way for way, _ in WAYS])
def test_without_vintages_a_rule_says_when(
    way: str, world: FakeWorld, lake: Lake, run: Run, request: pytest.FixtureRequest
) -> None:
    run(request.getfixturevalue(way)("DGS10"))
    found, said = facts(lake, "DGS10"), truth(world, "DGS10")
    assert found["rule"].all()
    both = found.join(said, on="period", suffix="_said")
    assert both.height == found.height == said.height
    assert both["value"].equals(both["value_said"])
    # Never too early, and nearly always the very day: the world has fewer holidays.
    assert (both["day"] >= both["day_said"]).all()
    assert (both["day"] == both["day_said"]).mean() > 0.9


@pytest.mark.parametrize(("way", "path"), WAYS)
def test_what_was_not_there_when_last_asked_was_not_known_then(
    way: str, path: str, world: FakeWorld, lake: Lake, run: Run, request: pytest.FixtureRequest
) -> None:
    job = request.getfixturevalue(way)("DGS10")
    world.fault(path, Fault.unfinished_bar(behind=3 * 86_400))  # an answer of three days before
    run(job)
    assert facts(lake, "DGS10")["period"].max() == date(2024, 5, 10)
    world.advance(4 * DAY)
    seen = world.now
    account = run(job)
    found = facts(lake, "DGS10").filter(pl.col("period") > date(2024, 5, 10))
    late = found.filter(~pl.col("rule"))
    # By the rule they were out when the source was first asked, and they were not.
    assert late["period"].to_list() == [date(2024, 5, 13), date(2024, 5, 14), date(2024, 5, 15)]
    assert all(timedelta(0) <= at - seen < timedelta(minutes=1) for at in late["at"])
    # Of the others the rule says that they came out since then.
    by_rule = found.filter("rule")
    assert by_rule["period"].to_list() == [date(2024, 5, 16), date(2024, 5, 17)]
    assert by_rule["day"].to_list() == [date(2024, 5, 17), date(2024, 5, 20)]
    assert account.accepted == found.height
    assert run(job).accepted == 0


@pytest.mark.parametrize(("way", "path"), WAYS)
def test_a_change_is_known_when_it_is_seen_also_back_to_what_was(
    way: str, path: str, world: FakeWorld, lake: Lake, run: Run, request: pytest.FixtureRequest
) -> None:
    job, day = request.getfixturevalue(way)("DGS10"), date(2024, 5, 8)
    (said,) = [
        float(value) for period, value in world.fred.known_at("DGS10", world.now.date()).items() if period == day
    ]
    run(job)
    seen = []
    for value in ("9.99", None, None):
        world.advance(timedelta(hours=5))
        seen.append(world.now)
        if value is not None:
            world.fault(path, saying(day, value))
        run(job)
    found = facts(lake, "DGS10").filter(pl.col("period") == day)
    assert found["value"].to_list() == [said, 9.99, said]
    assert found["rule"].to_list() == [True, False, False]
    delays = [at - then for at, then in zip(found["at"].to_list()[1:], seen[:2], strict=True)]
    assert all(timedelta(0) <= delay < timedelta(minutes=1) for delay in delays)


def test_without_a_key_come_the_values_of_now(world: FakeWorld, lake: Lake, keyless: MakeJob, run: Run) -> None:
    account = run(keyless("CPIAUCSL"))
    now = world.fred.known_at("CPIAUCSL", world.now.date())
    assert account.accepted == len(now)
    found = facts(lake, "CPIAUCSL")
    assert dict(found.select("period", "value").iter_rows()) == {p: float(v) for p, v in now.items()}
    assert found["rule"].all()
    assert {hit.path for hit in world.log} == {"/fredgraph/fredgraph.csv"}


def test_a_series_without_vintages_needs_a_rule_or_a_lag(keyless: MakeJob, lake: Lake) -> None:
    with pytest.raises(
        BadInput, match="no rule says how long after its date XYZ is published; give one like --lag 45d"
    ):
        keyless("XYZ")
    assert keyless("XYZ", lag="45d").variables == {"series": "XYZ", "lag": "45d"}


def test_the_curated_series_have_rules_and_both_layouts_of_dumps_the_same_ones() -> None:
    rules = load("fred-date-value").published
    assert rules == load("fred-snapshot").published
    assert set(curated()) <= set(rules)
    assert len(curated()) == 20
    assert {"CPIAUCSL", "UNRATE", "DGS10", "VIXCLS", "DTWEXBGS"} <= set(curated())  # features read them
