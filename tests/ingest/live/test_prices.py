"""Prices over HTTP, through ccxt: what an exchange has is in the lake, once, and what it did not give is noted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ccxt
import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, QUARANTINE
from backsight_features.spans import Span
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.coverage import Coverage, joined
from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.web import Web
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_errors import MEANING, translated
from backsight_ingest.sources.exchange_markets import market
from backsight_ingest.sources.exchange_traits import UNKNOWN
from backsight_ingest.sources.prices import Prices

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LAG = timedelta(seconds=15)
NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
SYMBOLS = {
    "binance": "BTC/USDT",
    "kraken": "BTC/USD",
    "coinbase": "BTC/USD",
    "coinbaseexchange": "BTC/USD",
    "bitstamp": "BTC/USD",
    "bitfinex": "BTC/USD",
}
PAGES = {"binance": 1000, "kraken": 720, "coinbase": 300, "coinbaseexchange": 300, "bitstamp": 1000, "bitfinex": 10_000}
BARS_OF = {
    venue: f"/{venue}/" + path
    for venue, path in {
        "binance": "api/v3/klines",
        "kraken": "0/public/OHLC",
        "coinbase": "api/v3/brokerage/market/products/BTC-USD/candles",
        "coinbaseexchange": "products/BTC-USD/candles",
        "bitstamp": "api/v2/ohlc",
        "bitfinex": "v2/candles",
    }.items()
}

Rows = list[list[float]]


class Desk:
    """One market of one venue, what is pulled of it and what is true of it."""

    def __init__(self, world: FakeWorld, web: Web, lake: Lake, locks: Path) -> None:
        self.world, self.web, self.lake, self.locks = world, web, lake, locks
        self.told: list[str] = []

    def job(self, venue: str, timeframe: str = "1m", *, kind: type[Prices] = Prices) -> Prices:
        exchange = Exchange(venue, self.web)
        return kind(exchange, market(venue, SYMBOLS[venue]), timeframe, tell=self.told.append)

    def pull(self, job: Prices, *, since: datetime | None = None, until: datetime | None = None) -> Account:
        [account] = pull(self.lake, [job], locks=self.locks, clock=self.web.clock, since=since, until=until)
        assert account.read == account.accepted + account.duplicate + account.quarantined
        return account

    def stored(self) -> Rows:
        """Return the bars of the lake as ccxt's rows."""
        bars = self.lake.scan(BARS).sort("observed_at").collect()
        length = timedelta(hours=1) if bars.height and bars["timeframe"][0] == "1h" else MINUTE
        opens = (pl.col("observed_at") - length).dt.epoch("ms").cast(pl.Float64)
        return [list(row) for row in bars.select(opens, "open", "high", "low", "close", "volume").iter_rows()]

    def truth(self, venue: str, since: datetime, until: datetime, timeframe: str = "1m") -> Rows:
        return self.world.exchange.truth(venue, SYMBOLS[venue], timeframe, since, until)

    def covered(self, job: Prices) -> Coverage:
        return coverage.read(self.lake, job.name, BARS)


@pytest.fixture
def desk(world: FakeWorld, make_web: Callable[..., Web], lake: Lake, tmp_path: Path) -> Desk:
    """Return a desk at a world without outages of its own; it needs a while to make up many bars."""
    world.exchange.has_outages = False
    patient = timedelta(seconds=10)
    return Desk(world, make_web(idle=patient, total=patient), lake, tmp_path / "locks")


def moved(venue: str, row: object, by: timedelta) -> object:
    """Return a row of a venue at another time."""
    place = {"coinbase": "start", "bitstamp": "timestamp"}.get(venue, 0)
    unit = timedelta(milliseconds=1) if venue in ("binance", "bitfinex") else timedelta(seconds=1)
    other = row.copy()
    other[place] = type(other[place])(int(other[place]) + by // unit)
    return other


# What an exchange has is what the lake has.


@pytest.mark.parametrize("venue", SYMBOLS)
def test_the_first_pull_takes_the_last_page_of_closed_bars_and_the_next_goes_on(desk: Desk, venue: str) -> None:
    job = desk.job(venue)
    first = desk.pull(job)
    begun = NOW.replace(second=0) - (PAGES[venue] - 1) * MINUTE
    reached = from_us(desk.covered(job).reached)
    # Nothing may be traded yet in the minute that is open, so that the one before waits.
    assert reached >= NOW.replace(second=0) - MINUTE
    assert desk.stored() == desk.truth(venue, begun, reached)
    assert (first.status, first.quarantined) == ("ok", 0)
    desk.world.advance(7 * MINUTE)
    second = desk.pull(job)
    reached = from_us(desk.covered(job).reached)
    assert reached >= NOW.replace(second=0) + 6 * MINUTE
    assert desk.stored() == desk.truth(venue, begun, reached)
    assert first.accepted + second.accepted == len(desk.stored())
    available = desk.lake.scan(BARS).select((pl.col("available_at") - pl.col("observed_at")).min()).collect().item()
    assert available == LAG


@pytest.mark.parametrize("venue", ["binance", "coinbase", "coinbaseexchange", "bitstamp", "bitfinex"])
def test_a_backfill_takes_what_was_never_asked_for(desk: Desk, venue: str) -> None:
    since = NOW.replace(second=0) - 21 * HOUR
    job = desk.job(venue)
    desk.pull(job, since=NOW - 2 * HOUR)
    account = desk.pull(job, since=since)
    assert account.status == "ok"
    covered = desk.covered(job)
    assert desk.stored() == desk.truth(venue, since, from_us(covered.reached))
    assert covered.unasked(Span(to_us(since), covered.reached)) == []
    asked = len(desk.world.log)
    assert desk.pull(job, since=since).read == 0
    assert {hit.path for hit in desk.world.log[asked:]} <= {hit.path for hit in desk.world.log[: asked // 2]}


def test_a_backfill_that_fails_goes_on_where_it_ended(desk: Desk) -> None:
    since = NOW.replace(second=0) - 3000 * MINUTE
    job = desk.job("coinbaseexchange")
    desk.world.fault(BARS_OF["coinbaseexchange"], Fault.in_band({"message": "not now"}, status=404), times=-1, skip=5)
    failed = desk.pull(job, since=since)
    assert isinstance(failed.error, Refused)
    assert 0 < failed.accepted < 2000
    desk.world.clear()
    done = desk.pull(desk.job("coinbaseexchange"), since=since)
    assert (done.status, done.duplicate) == ("ok", 0)
    assert done.read == len(desk.stored()) - failed.accepted
    assert desk.stored() == desk.truth("coinbaseexchange", since, NOW.replace(second=0))


def test_jobs_are_named_by_venue_symbol_and_length(desk: Desk) -> None:
    assert desk.job("kraken", "1h").name == "prices:kraken:BTC-USD:1h"
    swap = market("binance", "BTC/USDT:USDT")
    assert Prices(Exchange("binance", desk.web), swap, "1h").name == "prices:binance-usdt:BTC-USDT:1h"
    assert market("binance", "BTC/USD:BTC-241227").venue == "binance-btc-241227"
    assert desk.world.log == []


def test_spot_does_not_ask_where_contracts_are_listed(desk: Desk) -> None:
    desk.pull(desk.job("binance"), since=NOW - timedelta(minutes=5))
    assert desk.world.hits("/binance/fapi") == []
    exchange = Exchange("binance", desk.web, contracts=True)
    job = Prices(exchange, market("binance", "BTC/USDT:USDT"), "1m")
    assert isinstance(desk.pull(job).error, BadInput)
    assert desk.world.hits("/binance/fapi") != []


def test_a_plan_asks_nobody(desk: Desk) -> None:
    job = desk.job("binance")
    planned = plan(desk.lake, job, since=NOW - timedelta(days=3), until=None, now=NOW)
    stop = to_us(NOW.replace(second=0))
    assert planned.forward == Span(stop - 999 * 60_000_000, stop)
    assert sum(span.stop - span.start for span in planned.backfill) == (3 * 1440 - 999 - 1) * 60_000_000
    assert len(planned.backfill) == 4
    assert desk.world.log == []


def test_until_bounds_a_run(desk: Desk) -> None:
    job, until = desk.job("binance"), NOW - HOUR
    desk.pull(job, since=NOW - 2 * HOUR, until=until)
    assert desk.stored() == desk.truth("binance", NOW.replace(second=0) - 2 * HOUR + MINUTE, until.replace(second=0))


# Closed bars only.


def test_a_bar_that_is_open_by_the_clock_of_the_exchange_waits(desk: Desk) -> None:
    job = desk.job("binance")
    desk.world.fault("/binance/", Fault.clock_skew(-90), times=-1)
    desk.pull(job, since=NOW - HOUR)
    assert from_us(desk.covered(job).reached) == NOW.replace(minute=28, second=0)
    desk.world.clear()
    desk.pull(job)
    assert desk.stored() == desk.truth("binance", NOW.replace(second=0) - HOUR + MINUTE, NOW.replace(second=0))


def test_the_last_bar_of_a_kept_answer_waits_until_another_follows(desk: Desk) -> None:
    job = desk.job("binance")
    desk.world.fault(BARS_OF["binance"], Fault.unfinished_bar(60))
    desk.pull(job, since=NOW - HOUR)
    assert from_us(desk.covered(job).reached) == NOW.replace(minute=29, second=0)
    desk.pull(job)
    assert desk.stored() == desk.truth("binance", NOW.replace(second=0) - HOUR + MINUTE, NOW.replace(second=0))


# What is not there.


def test_what_is_filled_in_later_is_found_and_was_not_known_before(desk: Desk) -> None:
    start, end = NOW.replace(hour=11, minute=0, second=0), NOW.replace(hour=11, minute=30, second=0)
    desk.world.exchange.gap("binance", start, end, filled_at=NOW + 50 * MINUTE)
    job = desk.job("binance")
    desk.pull(job, since=NOW - 3 * HOUR)
    [hole] = desk.covered(job).holes
    assert (hole.span, hole.reason) == (Span(to_us(start), to_us(end)), "no bar")
    desk.world.advance(55 * MINUTE)
    desk.pull(job)
    assert desk.covered(job).holes == (hole,)
    desk.world.advance(10 * MINUTE)
    desk.pull(job)
    assert desk.covered(job).holes == ()
    begun = NOW.replace(second=0) - 3 * HOUR + MINUTE
    assert desk.stored() == desk.truth("binance", begun, from_us(desk.covered(job).reached))
    late = desk.lake.scan(BARS).filter(pl.col("observed_at").is_between(start + MINUTE, end)).collect()
    assert late.height == 30
    assert late["available_at"].min() > NOW + HOUR
    assert not late["available_at_estimated"].any()


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "coinbaseexchange", "bitfinex"])
def test_where_nothing_is_traded_there_is_no_bar_and_after_an_hour_no_hole(desk: Desk, venue: str) -> None:
    since = NOW.replace(second=0) - 6 * HOUR
    outage = since + 2 * HOUR
    desk.world.exchange.gap(venue, outage, outage + HOUR)
    job = desk.job(venue)
    desk.pull(job, since=since)
    quiet = [hole.span for hole in desk.covered(job).holes if hole.span.start != to_us(outage)]
    bars = len(desk.stored())
    assert bars < 5 * 60
    assert quiet
    assert all(span.stop > to_us(NOW - HOUR) for span in quiet if span.stop - span.start < 3_600_000_000)
    for _ in range(3):
        desk.world.advance(HOUR)
        desk.pull(job, until=NOW)
    left = [hole.span for hole in desk.covered(job).holes]
    # Asked for again it may be that a minute before or after the outage was quiet too.
    assert len(left) == 1
    assert left[0].start <= to_us(outage)
    assert left[0].stop >= to_us(outage + HOUR)
    assert len(desk.stored()) >= bars


@pytest.mark.parametrize("venue", ["binance", "bitfinex", "bitstamp", "coinbase"])
def test_an_outage_longer_than_a_page_is_stepped_over(desk: Desk, venue: str) -> None:
    page = min(PAGES[venue], 1000)
    end = NOW.replace(second=0) - 2 * HOUR
    start = end - (2 * page + 100) * MINUTE
    since = start - HOUR
    desk.world.exchange.gap(venue, start, end)
    job = desk.job(venue)
    account = desk.pull(job, since=since)
    covered = desk.covered(job)
    assert account.status == "ok"
    assert desk.stored() == desk.truth(venue, since, from_us(covered.reached))
    assert covered.unasked(Span(to_us(since), covered.reached)) == []
    longest = max(hole.stop - hole.start for hole in joined(hole.span for hole in covered.holes))
    assert longest >= (2 * page + 100) * 60_000_000


@pytest.mark.parametrize("venue", ["binance", "coinbase", "bitstamp"])
def test_rows_from_elsewhere_skip_nothing(desk: Desk, venue: str) -> None:
    page, now = PAGES[venue], NOW.replace(second=0)
    since = now - 5 * page * MINUTE // 2

    def strayed(rows: list[object]) -> list[object]:
        return [moved(venue, rows[0], 2 * page * MINUTE), moved(venue, rows[0], timedelta(days=-400))]

    desk.world.fault(BARS_OF[venue], Fault.rewrite(strayed), skip=1)
    job = desk.job(venue)
    desk.pull(job, since=since)
    holes = [hole.span.stop - hole.span.start for hole in desk.covered(job).holes]
    assert max(holes, default=0) <= PAGES[venue] * 60_000_000
    desk.world.advance(timedelta(days=9))
    desk.pull(job, until=now)
    assert desk.stored() == desk.truth(venue, since, now)


@pytest.mark.parametrize(("venue", "known"), [("binance", True), ("coinbase", False), ("bitstamp", False)])
def test_a_page_shorter_than_asked_for_is_not_the_end(desk: Desk, venue: str, known: bool) -> None:
    since, job = NOW.replace(second=0) - 9 * HOUR, desk.job(venue)
    if not known:  # newest first and cut, or oldest first and cut: of an exchange that is not known it may be either
        job._exchange.traits = UNKNOWN
    desk.world.fault(BARS_OF[venue], Fault.rewrite(lambda rows: rows[:130]), times=-1)
    account = desk.pull(job, since=since)
    assert account.status == "ok"
    assert desk.stored() == desk.truth(venue, since, from_us(desk.covered(job).reached))
    assert from_us(desk.covered(job).reached) == NOW.replace(second=0)


def test_an_exchange_that_keeps_little_says_what_is_lost_and_where_it_can_be_had(desk: Desk) -> None:
    since = NOW.replace(second=0) - 20 * HOUR
    job = desk.job("kraken")
    account = desk.pull(job, since=since)
    assert account.status == "ok"
    kept = NOW.replace(second=0) - 719 * MINUTE
    assert desk.stored() == desk.truth("kraken", kept, from_us(desk.covered(job).reached))
    [lost] = [stretch for stretch in desk.covered(job).stretches if stretch.status == "lost"]
    assert lost.span == Span(to_us(since), to_us(kept))
    [line] = desk.told
    assert "only the last 720 bars" in line
    assert "--from-trades" in line
    assert "--layout kraken-ohlcvt" in line
    assert lost.reason in line
    desk.pull(job, since=since)
    assert desk.told == [line]


# What is there and is not sound.


NASTY = [
    ("NaN", Fault.nasty("close", "NaN"), "close: 'NaN' is not a number", True),
    ("inf", Fault.nasty("high", "inf"), "high: 'inf' is not a number", True),
    ("null", Fault.nasty("open", None), "open is empty", True),
    ("null row", Fault.null_rows(), "empty row", True),
    ("no number", Fault.nasty("volume", "many"), "volume: 'many' is not a number", True),
    ("negative", Fault.nasty("low", "-1"), "low must be a finite number above 0", False),
    ("exchanged", Fault.high_below_low(), "open and close must lie between low and high", False),
]


@pytest.mark.parametrize(("fault", "reason", "again"), [each[1:] for each in NASTY], ids=[each[0] for each in NASTY])
def test_what_is_no_bar_is_set_aside_with_a_reason(desk: Desk, fault: Fault, reason: str, again: bool) -> None:
    job = desk.job("binance")
    desk.world.fault(BARS_OF["binance"], fault)
    account = desk.pull(job, since=NOW - HOUR)
    aside = desk.lake.scan(QUARANTINE).collect()
    assert aside["reason"].str.contains(reason, literal=True).all()
    assert (account.status, account.read) == ("ok", 59)
    assert account.quarantined + account.duplicate == 12
    assert account.accepted == len(desk.stored())
    # What cannot be read is asked for again; what the exchange clearly says is its word.
    assert len(desk.covered(job).holes) == (12 if again else 0)
    if again:
        desk.world.advance(2 * HOUR)
        desk.pull(job, until=NOW)
        assert desk.stored() == desk.truth("binance", NOW.replace(second=0) - 59 * MINUTE, NOW.replace(second=0))


def test_a_bar_off_the_grid_or_in_the_future_is_set_aside(desk: Desk) -> None:
    def strayed(rows: list[object]) -> list[object]:
        return [*rows, moved("binance", rows[0], timedelta(seconds=7)), moved("binance", rows[0], timedelta(days=9))]

    desk.world.fault(BARS_OF["binance"], Fault.rewrite(strayed))
    account = desk.pull(desk.job("binance"), since=NOW - HOUR)
    reasons = sorted(desk.lake.scan(QUARANTINE).collect()["reason"])
    assert (account.accepted, account.quarantined) == (59, 2)
    assert reasons == [
        "observed_at: 2024-05-17T11:32:07Z is no multiple of 1m",
        "observed_at: 2024-05-26T11:32:00Z lies in the future",
    ]


def test_a_bar_that_says_something_else_later_is_a_correction(desk: Desk) -> None:
    holes = [NOW.replace(minute=minute, second=0) for minute in (10, 12)]
    for at in holes:
        desk.world.exchange.gap("binance", at, at + MINUTE, filled_at=NOW + 3 * MINUTE)
    job = desk.job("binance")
    desk.pull(job, since=NOW - HOUR)
    desk.world.advance(20 * MINUTE)
    other = Fault.rewrite(lambda rows: [[*row[:5], "7777.5", *row[6:]] for row in rows])
    desk.world.fault(BARS_OF["binance"], other, skip=1)
    desk.pull(job)
    closed = NOW.replace(minute=12, second=0)
    versions = desk.lake.scan(BARS).filter(pl.col("observed_at") == closed).sort("available_at").collect()
    assert versions.height == 2
    assert versions["volume"][1] == 7777.5
    assert versions["available_at"].to_list()[0] == closed + LAG
    assert versions["available_at"].to_list()[1] > NOW + 20 * MINUTE


# Lengths and names.


def test_lengths_whose_bars_begin_elsewhere_are_refused(desk: Desk) -> None:
    # ccxt asks Bitstamp for three days and calls it a week.
    failed = desk.pull(desk.job("bitstamp", "1w"), since=datetime(2024, 4, 20, tzinfo=UTC))
    assert isinstance(failed.error, Drifted)
    assert "a bar of 1w begins at 2024-04-2" in str(failed.error)
    assert desk.lake.scan(BARS).collect().is_empty()


@pytest.mark.parametrize(("venue", "weekday"), [("binance", 0), ("bitfinex", 0), ("kraken", 3)])
def test_weeks_begin_where_a_venue_begins_them(desk: Desk, venue: str, weekday: int) -> None:
    account = desk.pull(desk.job(venue, "1w"), since=datetime(2024, 4, 28, tzinfo=UTC))
    closes = desk.lake.scan(BARS).collect()["observed_at"].sort().to_list()
    assert account.status == "ok"
    assert len(closes) == 2
    assert {close.weekday() for close in closes} == {weekday}
    assert closes[-1] <= NOW


def test_what_cannot_be_asked_for_is_refused_with_what_is_near(desk: Desk) -> None:
    with pytest.raises(BadInput, match=r"ccxt knows no exchange 'binanse'; near it: binance"):
        Exchange("binanse", desk.web)
    with pytest.raises(BadInput, match=r"binance has no bars of '7m'; it has: 1m, 3m, 5m"):
        desk.job("binance", "7m")
    with pytest.raises(BadInput, match=r"kraken has no bars of '2w'"):
        desk.job("kraken", "2w")
    with pytest.raises(BadInput, match=r"'BTCUSDT' is no market; write BTC/USDT"):
        market("binance", "BTCUSDT")
    missing = Prices(Exchange("binance", desk.web), market("binance", "BTC/USTD"), "1m")
    error = desk.pull(missing).error
    assert isinstance(error, BadInput)
    assert "binance has no market 'BTC/USTD'; near it: BTC/USDT" in str(error)


def test_every_exchange_that_ccxt_knows_can_be_asked(desk: Desk) -> None:
    lengths = {}
    for name in ccxt.exchanges:
        exchange, btc = Exchange(name, desk.web), market(name, "BTC/USDT")
        lengths[name] = [each for each in ("1m", "1h", "1d") if each in exchange.timeframes]
        planned = [
            plan(desk.lake, Prices(exchange, btc, each), since=None, until=None, now=NOW) for each in lengths[name]
        ]
        assert all(each.forward is not None for each in planned)
    assert sum(1 for each in lengths.values() if each) > 80
    with pytest.raises(BadInput, match=r"bit2c has no bars of '1h'; it has: none"):
        Prices(Exchange("bit2c", desk.web), market("bit2c", "BTC/NIS"), "1h")
    assert desk.world.log == []


def test_requests_keep_the_distance_that_each_costs(desk: Desk) -> None:
    begun = desk.web.clock.elapsed()
    desk.pull(desk.job("kraken"))
    # Three requests, two of them for the markets: a second each.
    assert len(desk.world.log) == 3
    assert desk.web.clock.elapsed() - begun > timedelta(seconds=1.5)
    desk.world.clear()
    waited = len(desk.web.clock.waits)
    desk.web = replace(desk.web, interval=timedelta(milliseconds=10), limiter=Limiter(desk.web.clock))
    desk.pull(desk.job("kraken"), since=NOW - 20 * HOUR)
    assert max(desk.web.clock.waits[waited:]) <= timedelta(milliseconds=10)


# What ccxt raises.


def _kinds(kind: type[Exception]) -> list[type[Exception]]:
    return [kind, *(each for child in kind.__subclasses__() for each in _kinds(child))]


def test_each_exception_of_ccxt_has_a_meaning() -> None:
    passing = {
        "CancelPending",
        "ChecksumError",
        "DDoSProtection",
        "ExchangeNotAvailable",
        "InvalidNonce",
        "NetworkError",
        "NullResponse",
        "OnMaintenance",
        "OperationFailed",
        "RateLimitExceeded",
        "RequestTimeout",
        "BadResponse",
    }
    given = {"ArgumentsRequired", "BadSymbol", "NotSupported"}
    refused = {
        "AccountNotEnabled",
        "AccountSuspended",
        "AddressPending",
        "AuthenticationError",
        "BadRequest",
        "BaseError",
        "ContractUnavailable",
        "DuplicateOrderId",
        "ExchangeClosedByUser",
        "ExchangeError",
        "InsufficientFunds",
        "InvalidAddress",
        "InvalidOrder",
        "InvalidProxySettings",
        "ManualInteractionNeeded",
        "MarginModeAlreadySet",
        "MarketClosed",
        "NoChange",
        "OperationRejected",
        "OrderImmediatelyFillable",
        "OrderNotCached",
        "OrderNotFillable",
        "OrderNotFound",
        "PermissionDenied",
        "RestrictedLocation",
        "UnsubscribeError",
    }
    found: dict[type, set[str]] = {Transient: set(), BadInput: set(), Refused: set()}
    for kind in _kinds(ccxt.BaseError):
        if kind.__module__ == "ccxt.base.errors":
            found[type(translated(kind("binance GET https://x.example/a?key=1 went wrong"), "binance"))].add(
                kind.__name__
            )
    assert found == {Transient: passing, BadInput: given, Refused: refused}
    assert {kind.__name__ for kind in MEANING} <= passing | given | refused
    said = str(translated(ccxt.ExchangeError("binance GET https://x.example/a?key=1 went\nwrong"), "binance"))
    assert said == "binance: GET went wrong (ExchangeError)"
