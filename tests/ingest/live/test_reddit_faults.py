"""Whatever goes wrong on the way from Reddit: it passes, or is an error with a name, and nothing is lost."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import to_us
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import COVERAGE, POSTS, QUARANTINE, REACTIONS, RUNS
from backsight_ingest.accounts import Account
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.reddit import Subreddit
from backsight_ingest.sources.reddit_client import Client, Credentials

PATIENCE, IMPATIENCE = timedelta(seconds=5), timedelta(seconds=0.25)
"""For an answer; the latter where none will come."""

SECRET = "planted-0123456789"
LARGEST = 512 * 1024
PAUSE = timedelta(hours=72)
"""Between the run before and the one that is disturbed: two pages of posts, and of the last week more than these."""

LISTING, LOOKS, TOKEN = "/reddit/r/", "/reddit/api/info", "/reddit/api/v1/access_token"

SLOW = {Fault.timeout().wire, Fault.drip().wire}
WRITTEN = (POSTS, REACTIONS, COVERAGE, QUARANTINE)

PASSING = {
    "429 with seconds": Fault.too_many_requests(7),
    "429 with a date": Fault.too_many_requests(7, as_date=True),
    "429 without": Fault.too_many_requests(),
    "500": Fault.server_error(),
    "503": Fault.server_error(503),
    "timeout": Fault.timeout(),
    "slow drip": Fault.drip(0.02),
    "reset": Fault.reset(),
    "short body": Fault.short_body(),
    "cut JSON": Fault.cut_body(),
    "HTML with 200": Fault.html(),
    "empty 200": Fault.empty(),
    "error in the body": Fault.in_band({"message": "Too Many Requests", "error": 429}),
}
FINAL = {
    "clock skew": (Fault.clock_skew(), ClockSkew),
    "redirect loop": (Fault.redirect_loop(), Refused),
    "10x too large": (Fault.too_large(10 * LARGEST), Refused),
    "10x too large, not announced": (Fault.too_large(10 * LARGEST, announced=False), Refused),
    "gzip bomb": (Fault.gzip_bomb(10 * LARGEST), Refused),
}


@pytest.fixture
def run(
    make_web: Callable[..., Web], clock: Clock, told: list[str], lake: Lake, tmp_path: Path
) -> Callable[..., Account]:
    """Return one run of a job; its account."""

    def run(patience: timedelta = PATIENCE) -> Account:
        limits = {"largest": LARGEST, "idle": patience, "total": 2 * patience}
        web = replace(make_web(**limits), retry=Retry(clock, attempts=4, tell=told.append))
        client = Client(web, Credentials(client_id="app", client_secret=SECRET, user_agent="python:tests:1"))
        job = Subreddit(lake, web, client, "bitcoin", recheck=timedelta(days=7))
        (account,) = pull(lake, [job], locks=tmp_path / "locks", clock=clock)
        return account

    return run


@pytest.fixture
def undisturbed(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """Let a run happen, and time pass; return what the lake would hold after an undisturbed run."""
    world.reddit.cap = 300
    before, after = (tmp_path_factory.getbasetemp() / f"reddit-{name}" for name in ("before", "after"))
    if not after.exists():
        assert run().status == "ok"
        shutil.copytree(lake.root, before)
        world.advance(PAUSE)
        assert run().status == "ok"
        shutil.copytree(lake.root, after)
        shutil.rmtree(lake.root)
        world.advance(-PAUSE)
    shutil.copytree(before, lake.root)
    world.advance(PAUSE)
    world.clear()
    return said(Lake(after), world.now)


def said(lake: Lake, until: datetime) -> pl.DataFrame:
    """Return what the lake says of the posts before an instant, and which were counted since the run before."""
    counts = lake.scan(REACTIONS).filter(pl.col("observed_at") > until - PAUSE / 2).select("id").unique()
    posts = lake.scan(POSTS).filter(pl.col("observed_at") < until).select("id", *POSTS.content).unique()
    counted = counts.with_columns(counted=pl.lit(True))
    return posts.join(counted, on="id", how="left").sort("id", "title", "text", nulls_last=True).collect()


def hides_secrets(lake: Lake, told: list[str], error: BacksightError | None) -> bool:
    files = [path for path in Path(lake.root).rglob("*") if path.is_file()]
    runs = lake.scan(RUNS).collect().write_csv()
    texts = [str(error), runs, *told, *(path.read_bytes().decode("latin-1") for path in files)]
    return len(files) > 10 and not any(secret in text for text in texts for secret in (SECRET, "token-"))


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_waited_for(
    fault: Fault,
    world: FakeWorld,
    clock: Clock,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: pl.DataFrame,
    told: list[str],
) -> None:
    start = world.now
    world.fault(TOKEN, fault)
    world.fault(LISTING, fault, times=2, skip=1)  # once the first page is there
    world.fault(LOOKS, fault)
    account = run(IMPATIENCE if fault.wire in SLOW else PATIENCE)
    assert (account.status, account.error) == ("ok", None)
    assert said(lake, start).equals(undisturbed)
    assert len(told) >= 4
    waits = sorted(wait.total_seconds() for wait in clock.waits)[-4:]  # type: ignore[attr-defined]
    assert waits[0] >= (7 if "Retry-After" in fault.headers or fault.retry_date else 0.5)
    assert hides_secrets(lake, told, None)


LASTING = {name: (fault, Transient) for name, fault in PASSING.items()} | FINAL


@pytest.mark.parametrize(
    ("place", "fault", "error"),
    [
        *((LISTING, *each) for each in LASTING.values()),
        *((TOKEN, *LASTING[name]) for name in ("500", "cut JSON", "redirect loop")),
    ],
    ids=[*LASTING, "token: 500", "token: cut JSON", "token: redirect loop"],
)
def test_what_lasts_is_an_error_that_leaves_the_lake_as_it_was(
    place: str,
    fault: Fault,
    error: type[BacksightError],
    world: FakeWorld,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: pl.DataFrame,
    told: list[str],
) -> None:
    start, versions = world.now, [lake.version(table) for table in WRITTEN]
    world.fault(place, fault, times=-1, skip=1 if place == LISTING else 0)
    account = run(IMPATIENCE if fault.wire in SLOW else PATIENCE)
    assert account.status == "failed"
    assert type(account.error) is error
    assert "reddit" in str(account.error)
    assert world.now - start < timedelta(minutes=1)
    assert [lake.version(table) for table in WRITTEN] == versions
    assert hides_secrets(lake, told, account.error)


def test_the_next_run_makes_up_for_one_that_failed(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, undisturbed: pl.DataFrame
) -> None:
    start = world.now
    world.fault(LISTING, Fault.html(), times=-1, skip=1)
    assert run().status == "failed"
    world.clear()
    assert run().status == "ok"
    assert said(lake, start).equals(undisturbed)


def test_what_was_there_before_a_failure_stays(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, undisturbed: pl.DataFrame
) -> None:
    start, reached = world.now, lake.watermark(POSTS, "pull:reddit:bitcoin")
    world.fault(LOOKS, Fault.server_error(), times=-1)
    account = run()
    assert account.status == "failed"
    assert account.accepted > 0
    assert lake.watermark(POSTS, "pull:reddit:bitcoin") == to_us(start) != reached
    world.clear()
    assert run().status == "ok"
    assert said(lake, start).equals(undisturbed)


@pytest.mark.parametrize(
    "fault",
    [Fault.duplicate_page(), Fault.out_of_order_page()],
    ids=["duplicate page", "out-of-order page"],
)
def test_pages_in_any_order_and_number_say_the_same(
    fault: Fault, world: FakeWorld, run: Callable[..., Account], lake: Lake, undisturbed: pl.DataFrame
) -> None:
    start = world.now
    world.fault("/reddit/", fault, times=-1)
    account = run()
    assert account.status == "ok"
    assert account.quarantined == 0
    assert said(lake, start).equals(undisturbed)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.page_again(), "came once more"),
        (Fault.rewrite(lambda rows: []), "is empty though the one before it said that there is more"),
    ],
    ids=["page before once more", "empty page"],
)
def test_a_page_that_contradicts_the_one_before_is_asked_for_again(
    fault: Fault,
    says: str,
    world: FakeWorld,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: pl.DataFrame,
    told: list[str],
) -> None:
    start = world.now
    world.fault(LISTING, fault, skip=1)
    assert run().status == "ok"
    assert says in told[0]
    assert said(lake, start).equals(undisturbed)


def test_what_a_page_from_a_cache_does_not_show_comes_with_the_next(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, undisturbed: pl.DataFrame
) -> None:
    start = world.now
    world.fault(LISTING, Fault.unfinished_bar(behind=4 * 3600), times=-1)
    assert run().status == "ok"
    assert said(lake, start).height < undisturbed.height
    world.clear()
    world.advance(timedelta(minutes=5))
    assert run().status == "ok"
    assert said(lake, start)["id"].unique().sort().equals(undisturbed["id"].unique().sort())
