"""Order books over HTTP, through ccxt: one look, as it was when it was there."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BadInput, SourceError
from backsight_features.lake import Lake
from backsight_features.schemas import BOOKS, QUARANTINE
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.web import Web
from backsight_ingest.sources.books import Books, snapshot
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_markets import market

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
SYMBOLS = {
    "binance": "BTC/USDT",
    "kraken": "BTC/USD",
    "coinbase": "BTC/USD",
    "coinbaseexchange": "BTC/USD",
    "bitstamp": "BTC/USD",
    "bitfinex": "BTC/USD",
}
DEPTH = "/binance/api/v3/depth"


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Return a way to the world that is patient: it may take a while to make up a book."""
    return make_web(idle=timedelta(seconds=10), total=timedelta(seconds=10))


@pytest.fixture
def look(lake: Lake, tmp_path: Path) -> Callable[..., Account]:
    """Return what looks once and gives the account."""

    def look(web: Web, venue: str = "binance", **settings: timedelta) -> Account:
        job = Books(Exchange(venue, web), market(venue, SYMBOLS[venue]), **settings)
        [account] = pull(lake, [job], locks=tmp_path / "locks", clock=web.clock)
        return account

    return look


def cells(bids: list[list[object]], asks: list[list[object]]) -> dict[str, float | None]:
    """Return the numbers of a snapshot."""
    [row] = snapshot(bids, asks, at=0).to_dicts()
    return {name: None if text is None else float(text) for name, text in row.items() if name != "time"}


def test_depth_adds_up_what_lies_within_half_a_percent_of_the_middle() -> None:
    # The middle is 100: 50 basis points reach from 99.5 to 100.5.
    found = cells([[99.9, 1], [99.5, 2], [99.4, 4], [90, 8]], [[100.1, 3], [100.4, 5], [100.6, 7]])
    assert found == {
        "bid": 99.9,
        "ask": 100.1,
        "bid_size": 1,
        "ask_size": 3,
        "bid_depth": 3,
        "ask_depth": 8,
        "reach_bp": 50,
    }


def test_depth_reaches_as_far_as_both_sides_go() -> None:
    # Bids end 20 basis points from the middle, so that asks further away are not compared with nothing.
    found = cells([[99.9, 1], [99.8, 2]], [[100.1, 3], [100.15, 4], [100.3, 9]])
    assert found["reach_bp"] == pytest.approx(20)
    assert (found["bid_depth"], found["ask_depth"]) == (3, 7)


def test_levels_may_come_in_any_order_and_as_text() -> None:
    straight = cells([["99.9", "1"], ["99.8", "2"]], [["100.1", "3"], ["100.2", "1"]])
    assert cells([["99.8", "2"], ["99.9", "1"]], [["100.2", "1"], ["100.1", "3"]]) == straight
    assert (straight["bid"], straight["bid_size"], straight["ask"], straight["ask_size"]) == (99.9, 1, 100.1, 3)


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_book_is_known_from_when_it_was_there(
    world: FakeWorld, web: Web, lake: Lake, look: Callable[..., Account], venue: str
) -> None:
    account = look(web, venue)
    assert (account.status, account.accepted) == ("ok", 1)
    [book] = lake.scan(BOOKS).collect().to_dicts()
    bids, asks = world.exchange.book(venue, SYMBOLS[venue], 1000)
    assert [book["bid"], book["bid_size"]] == bids[0]
    assert [book["ask"], book["ask_size"]] == asks[0]
    assert book["observed_at"] == book["available_at"] == world.now
    assert not book["available_at_estimated"]
    assert 0 < book["reach_bp"] <= 50
    middle = (book["bid"] + book["ask"]) / 2
    within = [size for price, size in bids if (middle - price) * 10_000 / middle <= book["reach_bp"] + 1e-9]
    assert book["bid_depth"] == pytest.approx(sum(within))
    assert (book["venue"], book["symbol"]) == (venue, SYMBOLS[venue].replace("/", "-"))


def test_each_look_is_one_more_and_a_stretch_without_any_is_lost(
    world: FakeWorld, web: Web, lake: Lake, look: Callable[..., Account]
) -> None:
    look(web)
    world.advance(timedelta(minutes=1))
    look(web)
    assert lake.scan(BOOKS).collect().height == 2
    assert {each.status for each in coverage.read(lake, "books:binance:BTC-USDT", BOOKS).stretches} == {"whole"}
    since = world.now
    world.advance(timedelta(minutes=9))
    look(web)
    [lost] = [each for each in coverage.read(lake, "books:binance:BTC-USDT", BOOKS).stretches if each.status == "lost"]
    assert since <= from_us(lost.span.start) < since + timedelta(seconds=1)
    assert from_us(lost.span.stop) >= since + timedelta(minutes=9)
    assert "nobody looked" in lost.reason
    world.advance(timedelta(minutes=9))
    look(web, every=timedelta(minutes=5))
    stretches = coverage.read(lake, "books:binance:BTC-USDT", BOOKS).stretches
    assert sum(each.status == "lost" for each in stretches) == 1


def test_no_older_book_can_be_asked_for(web: Web, lake: Lake) -> None:
    job = Books(Exchange("binance", web), market("binance", "BTC/USDT"))
    with pytest.raises(BadInput, match="a book is what it is now; leave out --since and --until"):
        plan(lake, job, since=NOW - timedelta(days=1), until=None, now=NOW)


CROSSED = Fault.rewrite(lambda rows: [["99999999.00", "1.0"], *rows])
UNSOUND = {
    "crossed": (CROSSED, "ask must lie above bid: a crossed book is none"),
    "empty side": (Fault.rewrite(lambda rows: []), "bid is empty; bid_size is empty; "),
    "NaN": (Fault.nasty("price", "NaN"), "bid: 'nan for "),
    "null": (Fault.nasty("amount", None), "bid: '37"),
    "negative size": (Fault.nasty("amount", "-1", every=1), "bid_size must be a finite number above 0"),
    "null level": (Fault.null_rows(), "bid: 'None for None' is not a number"),
}


@pytest.mark.parametrize("label", UNSOUND)
def test_a_book_that_is_none_is_set_aside(
    world: FakeWorld, web: Web, lake: Lake, look: Callable[..., Account], label: str
) -> None:
    fault, reason = UNSOUND[label]
    world.fault(DEPTH, fault, times=2)
    first, _ = look(web), world.advance(timedelta(minutes=1))
    second = look(web)
    assert [(each.status, each.accepted, each.quarantined) for each in (first, second)] == [("ok", 0, 1)] * 2
    aside = lake.scan(QUARANTINE).collect()
    # The same twice is two looks, not one that came twice.
    assert aside.height == 2
    assert aside["reason"].str.contains(reason, literal=True).all()
    assert look(web).accepted == 1


PASSING = {
    "429 with Retry-After": Fault.too_many_requests(5),
    "500": Fault.server_error(500),
    "timeout": Fault.timeout(),
    "reset": Fault.reset(),
    "cut JSON": Fault.cut_body(),
    "HTML with 200": Fault.html(),
    "empty 200": Fault.empty(),
    "-1003 with 200": Fault.binance_rate_limit(),
}
FINAL = {
    "redirect loop": (Fault.redirect_loop(), Refused),
    "too large": (Fault.too_large(40_000_000), Refused),
    "clock skew": (Fault.clock_skew(3600), ClockSkew),
}


@pytest.mark.parametrize("label", PASSING)
def test_what_passes_is_waited_for(
    world: FakeWorld, web: Web, lake: Lake, told: list[str], look: Callable[..., Account], label: str
) -> None:
    if label == "timeout":
        world.exchange.book("binance", "BTC/USDT", 1)
        web = replace(web, limits=replace(web.limits, idle=timedelta(seconds=0.5), total=timedelta(seconds=1)))
    world.fault(DEPTH, PASSING[label], times=2)
    assert look(web).status == "ok"
    assert len(told) >= 2
    [book] = lake.scan(BOOKS).collect().to_dicts()
    # Known from when the answer was there that held it, not from the first question.
    assert book["observed_at"] == world.now
    assert world.now > NOW + timedelta(seconds=1)


@pytest.mark.parametrize("label", FINAL)
def test_what_does_not_pass_is_told(
    world: FakeWorld, web: Web, lake: Lake, look: Callable[..., Account], label: str
) -> None:
    fault, kind = FINAL[label]
    world.fault(DEPTH, fault)
    failed = look(web)
    assert type(failed.error) is kind
    assert isinstance(failed.error, SourceError)
    assert lake.scan(BOOKS).collect().is_empty()
    assert look(web).accepted == 1


def test_a_book_that_somebody_kept_is_none(
    world: FakeWorld, web: Web, lake: Lake, told: list[str], look: Callable[..., Account]
) -> None:
    world.fault("/coinbase/api/v3/brokerage/market/product_book", Fault.unfinished_bar(600), times=-1)
    failed = look(web, "coinbase")
    assert type(failed.error) is Transient
    assert "a book that it stamped 2024-05-17 12:2" in str(failed.error)
    assert len(told) == 5
    assert lake.watermark(BOOKS, "pull:books:coinbase:BTC-USD") is None
    world.clear()
    assert look(web, "coinbase").accepted == 1
    assert lake.scan(BOOKS).select(pl.col("observed_at")).collect().item() >= NOW
    assert coverage.read(lake, "books:coinbase:BTC-USD", BOOKS).reached > to_us(NOW)
