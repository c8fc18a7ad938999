"""What can go wrong with FRED: a passing fault leaves no trace, a lasting one is an error, and nothing is ever lost."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.errors import BacksightError
from backsight_features.lake import Lake
from backsight_features.schemas import COVERAGE, MACRO, QUARANTINE, RUNS
from backsight_ingest.accounts import Account
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.fred import Fred
from backsight_ingest.sources.fredgraph import Fredgraph
from backsight_ingest.sources.macro import KeylessMacro, Macro

KEY = "0123456789abcdef0123456789abcdef"
SERIES = "GDPC1"
MEGABYTE = 1_000_000

Ask = Callable[[Lake, Web], Account]
Make = Callable[..., Web]
Expect = Callable[[Lake], None]

PATIENT = {"idle": timedelta(seconds=20), "total": timedelta(seconds=60)}
HASTY = {"idle": timedelta(seconds=0.3), "total": timedelta(seconds=0.5)}


@pytest.fixture(params=["macro", "keyless"])
def way(request: pytest.FixtureRequest) -> str:
    """Return how the series is asked for."""
    return str(request.param)


@pytest.fixture
def path(way: str) -> str:
    """Return the path of the request that meets the fault."""
    return "/fred/series/observations" if way == "macro" else "/fredgraph/"


@pytest.fixture
def ask(way: str, clock: Clock, tmp_path: Path) -> Ask:
    """Return what pulls the series once."""

    def once(lake: Lake, web: Web) -> Account:
        if way == "keyless":
            job: Any = KeylessMacro(SERIES, Fredgraph(web), lake, clock, cadence=timedelta(days=92))
        else:
            job = Macro(SERIES, Fred(KEY, web), lake, clock, cadence=timedelta(days=92))
        (account,) = pull(lake, [job], locks=tmp_path / "locks", clock=clock)
        return account

    return once


def facts(lake: Lake) -> pl.DataFrame:
    rows = lake.scan(MACRO).drop("ingested_at").collect()
    return rows.sort(rows.columns)


@pytest.fixture(scope="module")
def undisturbed() -> dict[object, pl.DataFrame]:
    """Return what was found without faults, by way and newest vintage: the same each time."""
    return {}


@pytest.fixture
def expect_whole(
    way: str, world: FakeWorld, ask: Ask, make_web: Make, undisturbed: dict[object, pl.DataFrame], tmp_path: Path
) -> Expect:
    """Return the check that a lake holds what it would without any fault: as much as the world knows, and the same."""

    def expect(lake: Lake) -> None:
        releases = world.fred.truth(SERIES)
        case = (way, max(release.realtime_start for release in releases))
        if case not in undisturbed:
            world.clear()
            other = Lake(tmp_path / "undisturbed")
            assert ask(other, make_web(**PATIENT)).error is None
            undisturbed[case] = facts(other)
        known = len(releases) if way == "macro" else len({release.date for release in releases})
        assert undisturbed[case].height == known
        assert facts(lake).equals(undisturbed[case])

    return expect


def expect_no_key(lake: Lake, *said: object) -> None:
    assert KEY not in " ".join(map(str, said))
    for table in (RUNS, COVERAGE, QUARANTINE, MACRO):
        assert KEY not in lake.scan(table).collect().write_csv()
    assert not any(KEY.encode() in file.read_bytes() for file in Path(lake.root).rglob("*") if file.is_file())


# what it is called, the fault, how long it waits at least
PASSING = [
    ("429 with Retry-After in seconds", Fault.too_many_requests(7), timedelta(seconds=7)),
    ("429 with Retry-After as a date", Fault.too_many_requests(9, as_date=True), timedelta(seconds=8)),
    ("429 without Retry-After", Fault.too_many_requests(), timedelta(seconds=0.5)),
    ("500", Fault.server_error(500), timedelta(seconds=0.5)),
    ("503", Fault.server_error(503), timedelta(seconds=0.5)),
    ("timeout", Fault.timeout(), timedelta(seconds=0.5)),
    ("slow drip", Fault.drip(0.1), timedelta(seconds=0.5)),
    ("reset", Fault.reset(), timedelta(seconds=0.5)),
    ("short body", Fault.short_body(), timedelta(seconds=0.5)),
    ("cut document of valid length", Fault.cut_body(), timedelta(seconds=0.5)),
    ("HTML with 200", Fault.html(), timedelta(seconds=0.5)),
    ("empty 200", Fault.empty(), timedelta(seconds=0.5)),
]
SLOW = ("timeout", "slow drip")

LASTING = [
    *((name, fault, Transient) for name, fault, _ in PASSING),
    ("redirect loop", Fault.redirect_loop(), Refused),
    ("10x too large", Fault.too_large(40 * MEGABYTE), Refused),
    ("10x too large, in chunks", Fault.too_large(40 * MEGABYTE, announced=False), Refused),
    ("gzip bomb", Fault.gzip_bomb(40 * MEGABYTE), Refused),
    ("clock skew", Fault.clock_skew(ahead=7200), ClockSkew),
    ("clock skew, behind", Fault.clock_skew(ahead=-7200), ClockSkew),
]
# Without a key the transport is the same one; what an answer has to be is another thing.
BODIES = {"500", "cut document of valid length", "HTML with 200", "empty 200", "10x too large", "clock skew"}
WAYS = [("macro", *case) for case in LASTING] + [("keyless", *case) for case in LASTING if case[0] in BODIES]


@pytest.mark.parametrize("way", ["macro"])
@pytest.mark.parametrize(("name", "fault", "wait"), PASSING, ids=[name for name, *_ in PASSING])
def test_a_passing_fault_leaves_no_trace(
    name: str,
    fault: Fault,
    wait: timedelta,
    world: FakeWorld,
    clock: Any,
    make_web: Make,
    lake: Lake,
    path: str,
    ask: Ask,
    told: list[str],
    expect_whole: Expect,
) -> None:
    world.fault(path, fault, times=1 if name in SLOW else 2)
    account = ask(lake, make_web(**(HASTY if name in SLOW else PATIENT)))
    assert account.error is None, account.error
    assert told
    assert max(clock.waits) >= wait
    expect_no_key(lake, *told)
    expect_whole(lake)


@pytest.mark.parametrize(("way", "name", "fault", "kind"), WAYS, ids=[f"{way}, {name}" for way, name, *_ in WAYS])
def test_a_lasting_fault_is_an_error_and_loses_nothing(
    name: str,
    fault: Fault,
    kind: type[BacksightError],
    world: FakeWorld,
    clock: Any,
    make_web: Make,
    lake: Lake,
    path: str,
    ask: Ask,
    told: list[str],
    expect_whole: Expect,
) -> None:
    world.fault(path, fault, times=-1)
    begun = clock.elapsed()
    web = make_web(**(HASTY if name in SLOW else PATIENT))
    if name in SLOW:
        web = replace(web, retry=Retry(clock, attempts=3, tell=told.append))
    account = ask(lake, web)
    assert isinstance(account.error, kind), account.error
    assert clock.elapsed() - begun < timedelta(minutes=6)
    assert (account.status, account.accepted) == ("failed", 0)
    assert lake.scan(MACRO).collect().is_empty()
    assert lake.watermark(MACRO, f"pull:{account.origin}") is None
    expect_no_key(lake, account.error, *told)
    world.clear()
    assert ask(lake, make_web(**PATIENT)).error is None
    expect_whole(lake)


@pytest.mark.parametrize(
    ("fault", "duplicates"),
    [(Fault.duplicate_page(), True), (Fault.out_of_order_page(), False)],
    ids=["duplicate page", "out-of-order page"],
)
def test_a_page_in_disorder_is_put_in_order(
    fault: Fault,
    duplicates: bool,
    world: FakeWorld,
    make_web: Make,
    lake: Lake,
    path: str,
    ask: Ask,
    expect_whole: Expect,
) -> None:
    world.fault(path, fault, times=-1)
    account = ask(lake, make_web(**PATIENT))
    assert account.error is None
    assert account.quarantined == 0
    assert account.duplicate == (account.accepted if duplicates else 0)
    expect_whole(lake)


def test_an_answer_of_just_before_a_release_is_no_end_of_it(
    world: FakeWorld, make_web: Make, lake: Lake, ask: Ask, expect_whole: Expect
) -> None:
    web = make_web(**PATIENT)
    released = max(release.realtime_start for release in world.fred.truth(SERIES))
    world.now = datetime(released.year, released.month, released.day, 13, 30, 20, tzinfo=UTC)
    world.fault("/fred", Fault.unfinished_bar(), times=2)
    assert ask(lake, web).error is None
    world.clear()
    assert ask(lake, web).accepted > 0
    expect_whole(lake)


@pytest.mark.parametrize("value", ["NaN", "n/a"])
def test_a_value_that_is_none_is_set_aside_with_its_row(
    value: str, world: FakeWorld, make_web: Make, lake: Lake, path: str, ask: Ask
) -> None:
    world.fault(path, Fault.nasty("value", value, every=50))
    account = ask(lake, make_web(**PATIENT))
    assert account.error is None
    assert account.quarantined > 0
    assert account.read == account.accepted + account.quarantined
    waiting = lake.scan(QUARANTINE).collect()
    assert waiting.height == account.quarantined
    assert waiting["reason"].str.contains(f"value: '{value}' is not a number", literal=True).all()
    assert waiting["original"].str.contains(f'"value":"{value}"', literal=True).all()


@pytest.mark.parametrize("way", ["macro"])
@pytest.mark.parametrize("fault", [Fault.html(), Fault.empty(), Fault.cut_body(), Fault.out_of_order_page()])
def test_the_list_of_vintages_is_whole_too(
    fault: Fault, world: FakeWorld, make_web: Make, lake: Lake, ask: Ask, expect_whole: Expect
) -> None:
    world.fault("/fred/series/vintagedates", fault)
    assert ask(lake, make_web(**PATIENT)).error is None
    expect_whole(lake)
