"""The pull of live sources: killed anywhere it goes on from there, and what comes late was not known before."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_features import delta
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import Busy
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, COVERAGE, QUARANTINE, RUNS
from backsight_features.spans import Span
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock, signals
from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.faults import Interrupted, Refused
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.quarantine import replay, waiting

HOUR = timedelta(hours=1)
NOON = datetime(2024, 5, 1, 12, 0, 30, tzinfo=UTC)
STEP = 3_600_000_000


class Hands(Clock):
    """A clock that is set by hand."""

    def __init__(self, now: datetime = NOON) -> None:
        super().__init__()
        self.time = now

    def now(self) -> datetime:
        return self.time


class Hours:
    """A venue of hourly bars, some of which are not there (yet), or not sound.

    Parameters
    ----------
    clock : Clock
        The venue's too.
    missing, unsound : set of int
        Hours of 2024-05-01 whose bars are not there, or have no close.
    fails_at : int, optional
        The hour from which on it answers no more.
    """

    name = "prices:toy:BTC-USD:1h"
    verb = "pull prices"
    source = "toy"
    cadence = HOUR
    length = HOUR
    layouts = ("ccxt",)
    variables: Mapping[str, str] = {"venue": "toy", "base": "BTC", "quote": "USD", "timeframe": "1h"}
    lanes = 1
    page = 4

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.missing: set[int] = set()
        self.unsound: set[int] = set()
        self.fails_at: int | None = None
        self.price = 100
        self.asked: list[tuple[int, int]] = []
        self.gate: Callable[[], None] = lambda: None

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        end = to_us(until or now) // STEP * STEP
        start = end - 4 * STEP if coverage.reached is None else coverage.reached
        before = () if since is None else tuple(coverage.unasked(Span(to_us(since), start)))
        return Plan(
            forward=Span(start, end) if start < end else None,
            backfill=tuple(
                Span(a, min(a + 4 * STEP, s.stop)) for s in before for a in range(s.start, s.stop, 4 * STEP)
            ),
            again=coverage.due(now, shortest=HOUR, reach=HOUR),
        )

    def walk(self, span: Span) -> Iterator[Page]:
        for start in range(span.start, span.stop, self.page * STEP):
            stop = min(start + self.page * STEP, span.stop)
            self.gate()
            opens = {
                hour: t for t in range(start, stop, STEP) for hour in [(t - to_us(NOON.replace(hour=0))) // STEP + 1]
            }
            if self.fails_at is not None and max(opens) >= self.fails_at:
                raise Refused("toy: no more")
            self.asked.append((min(opens), max(opens)))
            there = {hour: t for hour, t in opens.items() if hour not in self.missing}
            close = ["" if hour in self.unsound else str(self.price) for hour in there]
            rows = {"timestamp": [str(t // 1000) for t in there.values()]}
            rows |= {name: [str(self.price)] * len(there) for name in ("open", "high", "low", "volume")}
            frame = pl.DataFrame({**rows, "close": close}, schema=dict.fromkeys([*rows, "close"], pl.String))
            holes = tuple(
                Hole(span=Span(t, t + STEP), reason="no bar") for hour, t in opens.items() if hour not in there
            )
            yield Page(span=Span(start, stop), records={"ccxt": frame}, fetched_at=self.clock.now(), holes=holes)


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def hours(clock: Hands) -> Hours:
    return Hours(clock)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def run(lake: Lake, hours: Hours, clock: Hands, tmp_path: Path) -> Callable[..., dict[str, object]]:
    """Return one run of the job: the account, as a script reads it."""

    def run(since: datetime | None = None, until: datetime | None = None) -> dict[str, object]:
        (account,) = pull(lake, [hours], locks=tmp_path / "locks", clock=clock, since=since, until=until)
        return account.as_dict()

    return run


def counts(account: dict[str, object]) -> tuple[object, ...]:
    return tuple(account[name] for name in ("status", "read", "accepted", "duplicate", "quarantined"))


def bars(lake: Lake) -> pl.DataFrame:
    return lake.scan(BARS).sort("observed_at", "available_at").collect()


def test_a_run_goes_on_where_the_last_one_ended(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    assert counts(run()) == ("ok", 4, 4, 0, 0)
    assert counts(run()) == ("ok", 0, 0, 0, 0)
    clock.time += 2 * HOUR
    assert counts(run()) == ("ok", 2, 2, 0, 0)
    assert hours.asked == [(8, 11), (12, 13)]
    assert bars(lake)["observed_at"].dt.hour().to_list() == [9, 10, 11, 12, 13, 14]
    assert bars(lake)["source"].unique().to_list() == ["pull:ccxt"]
    assert lake.watermark(BARS, coverage.app(hours.name)) == to_us(NOON.replace(hour=14, second=0))


def test_a_bar_that_was_asked_for_before_is_known_from_when_it_came(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    hours.missing = {10}
    run()
    clock.time += 2 * HOUR
    hours.missing = set()
    assert counts(run()) == ("ok", 3, 3, 0, 0)
    late = bars(lake).filter(pl.col("observed_at").dt.hour() == 11)
    assert late["available_at"].to_list() == [clock.time]
    assert late["available_at_estimated"].to_list() == [False]
    others = bars(lake).filter(pl.col("observed_at").dt.hour() != 11)
    assert (others["available_at"] - others["observed_at"]).unique().to_list() == [timedelta(seconds=15)]


def test_a_hole_is_asked_for_ever_more_seldom(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands
) -> None:
    hours.missing = {10}
    for _ in range(24):
        run()
        clock.time += HOUR
    again = [asked for asked in hours.asked if asked == (10, 10)]
    assert len(again) == 3  # its first is in the walk forward; then after 2, 4 and 8 hours more


def test_what_was_never_asked_for_is_filled_in_once(
    run: Callable[..., dict[str, object]], hours: Hours, lake: Lake
) -> None:
    run()
    midnight = NOON.replace(hour=0, second=0)
    assert counts(run(since=midnight)) == ("ok", 8, 8, 0, 0)
    assert counts(run(since=midnight)) == ("ok", 0, 0, 0, 0)
    assert bars(lake).height == 12
    before = bars(lake)
    assert (before["available_at"] - before["observed_at"]).unique().to_list() == [timedelta(seconds=15)]


def test_a_backfill_that_fails_goes_on_with_the_rest(
    run: Callable[..., dict[str, object]], hours: Hours, lake: Lake
) -> None:
    run()
    midnight = NOON.replace(hour=0, second=0)
    hours.fails_at = 5
    account = run(since=midnight)
    assert counts(account) == ("failed", 4, 4, 0, 0)
    assert account["error"] == "toy: no more"
    hours.fails_at = None
    assert counts(run(since=midnight)) == ("ok", 4, 4, 0, 0)
    assert bars(lake)["observed_at"].is_unique().all()


def test_lanes_bring_the_same_in_another_order(run: Callable[..., dict[str, object]], hours: Hours, lake: Lake) -> None:
    run()
    hours.lanes = 3
    barrier = threading.Barrier(3, timeout=60)
    hours.gate = barrier.wait  # nobody is answered before three have asked
    assert counts(run(since=NOON - timedelta(hours=16, seconds=30))) == ("ok", 12, 12, 0, 0)
    assert bars(lake)["observed_at"].to_list() == [NOON.replace(second=0) - i * HOUR for i in range(15, -1, -1)]


def test_a_lane_that_fails_ends_the_run_and_loses_nothing(
    run: Callable[..., dict[str, object]], hours: Hours, lake: Lake
) -> None:
    run()
    hours.lanes, hours.fails_at = 3, 6
    midnight = NOON.replace(hour=0, second=0)
    assert run(since=midnight)["error"] == "toy: no more"
    hours.fails_at = None
    assert run(since=midnight)["status"] == "ok"
    assert bars(lake).height == 12
    assert bars(lake)["observed_at"].is_unique().all()


def test_a_correction_is_known_from_when_it_was_seen(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    hours.missing = {10}
    run()
    clock.time += 2 * HOUR
    hours.price = 101
    hours.page = 1
    run()  # asks again for what lies around the hole only
    assert bars(lake).filter(pl.col("observed_at").is_duplicated()).is_empty()
    hours.missing = set()
    clock.time += 4 * HOUR
    run()
    assert bars(lake).filter(pl.col("observed_at").dt.hour() == 11)["close"].to_list() == [101]


def test_unsound_rows_wait_in_quarantine_once_and_can_be_replayed(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    hours.unsound = {9}
    hours.missing = {10}
    assert counts(run()) == ("ok", 3, 2, 0, 1)
    rows = waiting(lake).collect()
    assert rows.select("layout", "origin").rows() == [("ccxt", hours.name)]
    assert rows["reason"][0].startswith("close is empty")
    assert json.loads(rows["original"][0])["open"] == "100"
    # The same row comes again, with others around it: it was set aside before.
    hours.page = 9
    hours.unsound = {8, 9}
    clock.time += 24 * HOUR
    assert lake.scan(QUARANTINE).collect().height == 1
    done = list(replay(lake, now=clock.now()))
    assert [(each.origin, each.read, each.quarantined) for each in done] == [(hours.name, 1, 1)]


def test_records_that_come_twice_in_a_page_are_duplicates(
    lake: Lake, hours: Hours, clock: Hands, tmp_path: Path
) -> None:
    honest = hours.walk

    def twice(span: Span) -> Iterator[Page]:
        for page in honest(span):
            frame = page.records["ccxt"]
            yield Page(
                span=page.span, records={"ccxt": pl.concat([frame, frame.reverse()])}, fetched_at=page.fetched_at
            )

    hours.walk = twice  # type: ignore[method-assign]
    (account,) = pull(lake, [hours], locks=tmp_path, clock=clock)
    assert counts(account.as_dict()) == ("ok", 8, 4, 4, 0)


def test_one_run_of_a_job_at_a_time(run: Callable[..., dict[str, object]], hours: Hours, lake: Lake) -> None:
    inner: list[dict[str, object]] = []
    hours.gate = lambda: inner.append(run()) if not inner else None
    assert counts(run()) == ("ok", 4, 4, 0, 0)
    assert inner[0]["error"] == f"{hours.name}: another run of this job is going on"
    assert Busy.exit_code == 75
    assert bars(lake).height == 4


def test_one_job_that_fails_leaves_the_others_alone(lake: Lake, hours: Hours, clock: Hands, tmp_path: Path) -> None:
    other = Hours(clock)
    other.name, other.fails_at = "prices:toy:ETH-USD:1h", 0
    other.variables = {**other.variables, "base": "ETH"}
    accounts = pull(lake, [other, hours], locks=tmp_path, clock=clock)
    assert [counts(account.as_dict())[0] for account in accounts] == ["failed", "ok"]
    said = lake.scan(RUNS).sort("origin").select("origin", "verb", "source", "status", "accepted").collect()
    assert said.rows() == [
        (hours.name, "pull prices", "toy", "ok", 4),
        (other.name, "pull prices", "toy", "failed: toy: no more", 0),
    ]


def test_a_plan_asks_nobody_and_writes_nothing(lake: Lake, hours: Hours, clock: Hands) -> None:
    found = plan(lake, hours, since=None, until=None, now=clock.now())
    assert found.forward is not None
    assert from_us(found.forward.start) == NOON.replace(hour=8, second=0)
    assert hours.asked == []
    assert lake.version(COVERAGE) is None


def test_a_signal_ends_the_run_with_its_account(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    hours.page = 1
    pages = iter(range(3))

    def gate() -> None:
        if next(pages) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    hours.gate = gate
    before = signal.getsignal(signal.SIGTERM)
    with signals(clock):
        account = run()
    assert signal.getsignal(signal.SIGTERM) is before
    assert counts(account) == ("failed", 2, 2, 0, 0)
    assert account["error"] == "interrupted by signal 15; the next run goes on from here"
    with pytest.raises(Interrupted) as caught:
        clock.sleep(HOUR)  # no wait outlives the signal
    assert caught.value.exit_code == 143
    hours.gate = lambda: None
    assert counts(run()) == ("ok", 2, 2, 0, 0)
    assert bars(lake).height == 4


def test_a_clock_that_was_set_back_loses_nothing(
    run: Callable[..., dict[str, object]], hours: Hours, clock: Hands, lake: Lake
) -> None:
    run()
    clock.time -= 3 * HOUR
    assert counts(run()) == ("ok", 0, 0, 0, 0)
    clock.time += 4 * HOUR
    assert counts(run()) == ("ok", 1, 1, 0, 0)


def scenario(folder: Path) -> None:
    """Run the job with a hole and an unsound row, once more when the hole is filled, and fill in what lies before."""
    clock = Hands()
    hours = Hours(clock)
    hours.page, hours.missing, hours.unsound = 3, {10}, {9}
    lake = Lake(folder / "lake")
    midnight = NOON.replace(hour=0, second=0)
    pull(lake, [hours], locks=folder / "locks", clock=clock)
    clock.time += 2 * HOUR
    hours.missing = set()
    pull(lake, [hours], locks=folder / "locks", clock=clock, since=midnight)


def content(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, list[object]]:
    """Return the facts, the quarantine and the coverage that a scenario left."""
    lake = Lake(folder / "lake")
    facts = lake.scan(BARS).drop("ingested_at").sort(pl.all()).collect()
    aside = lake.scan(QUARANTINE).drop("ingested_at").sort(pl.all()).collect()
    found = coverage.read(lake, Hours.name, BARS)
    return facts, aside, [(each.span, each.status) for each in found.stretches]


class Killed(BaseException):
    """Nothing catches it."""


# Right after a commit is right before the next.
@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.prove)])
def test_cut_off_at_any_commit_it_goes_on_from_there(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What happens between two commits leaves nothing behind; `make prove` kills processes at any moment.
    append, left = delta.append, [0]

    def dying(*args: Any, **kwargs: Any) -> None:
        left[0] -= 1
        if left[0] == -1 and moment == "before":
            raise Killed
        append(*args, **kwargs)
        if left[0] == -1:
            raise Killed

    scenario(tmp_path / "whole")
    expected = content(tmp_path / "whole")
    commits = 0
    while True:
        folder = tmp_path / f"{commits}"
        left[0] = commits
        with monkeypatch.context() as patch:
            patch.setattr(delta, "append", dying)
            try:
                scenario(folder)
                break
            except Killed:
                commits += 1
        scenario(folder)
        facts, aside, stretches = content(folder)
        assert facts.equals(expected[0])
        assert aside.equals(expected[1])
        assert stretches == expected[2]
        runs = Lake(folder / "lake").scan(RUNS).collect()
        assert (runs["read"] == runs["accepted"] + runs["duplicate"] + runs["quarantined"]).all()
    assert commits > 12
