"""Whatever goes wrong on the way from the news: it passes, or is an error with a name, and nothing is lost."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import COVERAGE, NEWS, QUARANTINE, RUNS
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.job import Job
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news_feeds import Feed
from backsight_ingest.sources.news_gdelt import Gdelt
from backsight_ingest.sources.news_newsapi import NewsApi
from backsight_ingest.sources.news_search import Search

PATIENCE, IMPATIENCE = timedelta(seconds=10), timedelta(seconds=0.4)
"""For an answer; the latter where none will come."""

SECRET = "planted-0123456789"
LARGEST = 256 * 1024
PAUSE = timedelta(hours=5)
"""Between the run before and the one that is disturbed."""

WORDS = "bitcoin OR ethereum OR fed OR binance OR miners"
WRITTEN = (NEWS, COVERAGE, QUARANTINE)
SLOW = {Fault.timeout().wire, Fault.drip().wire}

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
    "cut XML or JSON": Fault.cut_body(),
    "HTML with 200": Fault.html(),
    "empty 200": Fault.empty(),
}
FINAL = {
    "clock skew": (Fault.clock_skew(), ClockSkew),
    "redirect loop": (Fault.redirect_loop(), Refused),
    "10x too large": (Fault.too_large(10 * LARGEST), Refused),
    "10x too large, not announced": (Fault.too_large(10 * LARGEST, announced=False), Refused),
    "gzip bomb": (Fault.gzip_bomb(10 * LARGEST), Refused),
    "404": (Fault.server_error(404), Refused),
    "XML bomb": (
        Fault(name="xml bomb", status=200, body=b'<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><rss>&b;</rss>'),
        Refused,
    ),
}
LASTING = {name: (fault, Transient) for name, fault in PASSING.items()} | FINAL

IN_BAND = {
    "newsapi": Fault.in_band({"status": "error", "code": "rateLimited", "message": f"too many of {SECRET}"}),
    "gdelt": Fault(name="line", status=200, body=b"Please limit requests to one every 5 seconds."),
}
SAME = ("429 with seconds", "cut XML or JSON", "HTML with 200", "empty 200")
"""What is tried on the archives too: each kind of body has a check of its own."""

KINDS = ("news", "newsapi", "gdelt")
ELSEWHERE = [(kind, name) for kind in ("newsapi", "gdelt") for name in SAME]


def job(kind: str, web: Web) -> Job:
    if kind == "news":
        return Feed(web, f"https://wire.example.com/feed.rss?key={SECRET}")
    return Search(web, NewsApi(web, {"NEWSAPI_KEY": SECRET}) if kind == "newsapi" else Gdelt(web), WORDS)


@pytest.fixture
def run(
    make_web: Callable[..., Web], clock: Clock, told: list[str], lake: Lake, tmp_path: Path
) -> Callable[..., Account]:
    """Return one run of a job; its account."""

    def run(kind: str, patience: timedelta = PATIENCE) -> Account:
        limits = {"largest": LARGEST, "idle": patience, "total": 2 * patience}
        web = replace(make_web(**limits), retry=Retry(clock, attempts=4, tell=told.append))
        (account,) = pull(lake, [job(kind, web)], locks=tmp_path / "locks", clock=clock)
        assert account.read == account.accepted + account.duplicate + account.quarantined
        return account

    return run


@pytest.fixture
def undisturbed(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], pl.DataFrame]:
    """Return what lets a run happen, and time pass, and tells what the lake would hold after an undisturbed run."""

    def undisturbed(kind: str) -> pl.DataFrame:
        before, after = (tmp_path_factory.getbasetemp() / f"news-{kind}-{name}" for name in ("before", "after"))
        start = world.now
        if not after.exists():
            assert run(kind).status == "ok"
            shutil.copytree(lake.root, before)
            world.now = start + PAUSE
            assert run(kind).status == "ok"
            shutil.copytree(lake.root, after)
            shutil.rmtree(lake.root)
        shutil.copytree(before, lake.root)
        world.now = start + PAUSE
        world.clear()
        return said(Lake(after), world.now)

    return undisturbed


def said(lake: Lake, until: datetime) -> pl.DataFrame:
    """Return what the lake says of articles published before an instant, and what is lost."""
    news = lake.scan(NEWS).filter(pl.col("observed_at") < until).select("id", *NEWS.content)
    lost = lake.scan(COVERAGE).filter(pl.col("status") == coverage.LOST)
    return pl.concat([news, lost.select(title="reason", observed_at="until")], how="diagonal").sort(pl.all()).collect()


def hides_secrets(lake: Lake, told: list[str], error: BacksightError | None) -> bool:
    files = [path for path in Path(lake.root).rglob("*") if path.is_file()]
    runs = lake.scan(RUNS).collect().write_csv()
    texts = [str(error), runs, *told, *(path.read_bytes().decode("latin-1") for path in files)]
    return len(files) > 5 and not any(SECRET in text for text in texts)


@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("news", name) for name in PASSING), *ELSEWHERE, ("newsapi", "in band"), ("gdelt", "in band")],
)
def test_what_passes_is_waited_for(
    kind: str,
    name: str,
    world: FakeWorld,
    clock: Clock,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: Callable[[str], pl.DataFrame],
    told: list[str],
) -> None:
    expected, start = undisturbed(kind), world.now
    fault = IN_BAND[kind] if name == "in band" else PASSING[name]
    world.fault(f"/{kind}/", fault, times=2)
    account = run(kind, IMPATIENCE if fault.wire in SLOW else PATIENCE)
    assert (account.status, account.error) == ("ok", None)
    assert said(lake, start).equals(expected)
    assert len(told) >= 2, "one line for each wait"
    waits = sorted(wait.total_seconds() for wait in clock.waits)[-2:]  # type: ignore[attr-defined]
    assert waits[0] >= (7 if "Retry-After" in fault.headers or fault.retry_date else 0.5)
    assert hides_secrets(lake, told, None)


@pytest.mark.parametrize(("kind", "name"), [*(("news", name) for name in LASTING), *ELSEWHERE, ("newsapi", "404")])
def test_what_lasts_is_an_error_that_leaves_the_lake_as_it_was_and_the_next_run_makes_up_for_it(
    kind: str,
    name: str,
    world: FakeWorld,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: Callable[[str], pl.DataFrame],
    told: list[str],
) -> None:
    expected, start, versions = undisturbed(kind), world.now, [lake.version(table) for table in WRITTEN]
    fault, error = LASTING[name]
    world.fault(f"/{kind}/", fault, times=-1)
    account = run(kind, IMPATIENCE if fault.wire in SLOW else PATIENCE)
    assert account.status == "failed"
    assert type(account.error) is error
    assert world.now - start < timedelta(minutes=1)
    assert [lake.version(table) for table in WRITTEN] == versions
    assert hides_secrets(lake, told, account.error)
    world.clear()
    assert run(kind).status == "ok"
    assert said(lake, start).equals(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault",
    [Fault.duplicate_page(), Fault.out_of_order_page()],
    ids=["duplicate page", "out-of-order page"],
)
def test_pages_in_any_order_and_number_say_the_same(
    kind: str,
    fault: Fault,
    world: FakeWorld,
    run: Callable[..., Account],
    lake: Lake,
    undisturbed: Callable[[str], pl.DataFrame],
) -> None:
    expected, start = undisturbed(kind), world.now
    world.fault(f"/{kind}/", fault, times=-1)
    account = run(kind)
    assert (account.status, account.error) == ("ok", None)
    assert said(lake, start).equals(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stale_answer_of_a_cache_loses_nothing(
    kind: str, world: FakeWorld, run: Callable[..., Account], lake: Lake, undisturbed: Callable[[str], pl.DataFrame]
) -> None:
    """A cache that is an hour behind shows the world as it was; what it lacks comes with the next answer."""
    expected, start = undisturbed(kind), world.now
    world.fault(f"/{kind}/", Fault.unfinished_bar(3600))
    assert run(kind).status == "ok"
    assert run(kind).status == "ok"
    assert said(lake, start).equals(expected)


@pytest.mark.parametrize(("kind", "field"), [("news", "date"), ("newsapi", "publishedAt"), ("gdelt", "seendate")])
def test_what_is_stamped_in_the_future_is_known_from_now_and_once(
    kind: str, field: str, world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    later = {
        "date": "Sat, 18 May 2024 10:00:00 GMT",
        "publishedAt": "2024-05-18T10:00:00Z",
        "seendate": "20240518T100000Z",
    }
    world.fault(f"/{kind}/", Fault.nasty(field, later[field]), times=-1)
    first, again = run(kind), run(kind)
    assert (first.error, again.error, again.accepted) == (None, None, 0)
    future = lake.scan(NEWS).filter(pl.col("available_at_estimated")).collect()
    assert future.height > 0
    assert (future["observed_at"] == future["available_at"]).all()
    assert future["available_at"].max() < world.now + timedelta(seconds=1)  # type: ignore[operator]
