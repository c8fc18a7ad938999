"""What can go wrong between ccxt and an exchange: it passes and nothing is lost, or it is told and nothing is lost."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us
from backsight_features.errors import SourceError
from backsight_features.lake import Lake
from backsight_features.schemas import BARS
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.faults import ClockSkew, Refused, Transient
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_markets import market
from backsight_ingest.sources.prices import Prices

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SINCE = NOW.replace(second=0) - 90 * MINUTE
PATIENT = timedelta(seconds=10)
SLOW = ("timeout", "slow drip")
"""Faults that last until they are given up."""
SECRET = "correct-horse-battery"
BARS_OF = {
    "binance": ("BTC/USDT", "/binance/api/v3/klines"),
    "kraken": ("BTC/USD", "/kraken/0/public/OHLC"),
    "coinbase": ("BTC/USD", "/coinbase/api/v3/brokerage/market/products/BTC-USD/candles"),
    "coinbaseexchange": ("BTC/USD", "/coinbaseexchange/products/BTC-USD/candles"),
    "bitstamp": ("BTC/USD", "/bitstamp/api/v2/ohlc"),
    "bitfinex": ("BTC/USD", "/bitfinex/v2/candles"),
}

PASSING = {
    "429 with Retry-After seconds": Fault.too_many_requests(7),
    "429 with Retry-After date": Fault.too_many_requests(7, as_date=True),
    "429 without": Fault.too_many_requests(),
    "500": Fault.server_error(500),
    "503": Fault.server_error(503),
    "timeout": Fault.timeout(),
    "slow drip": Fault.drip(),
    "reset": Fault.reset(),
    "short body": Fault.short_body(),
    "cut JSON of valid length": Fault.cut_body(),
    "HTML with 200": Fault.html(),
    "empty 200": Fault.empty(),
}
CONTENT = {
    "duplicate page": Fault.duplicate_page(),
    "out-of-order page": Fault.out_of_order_page(),
    "unfinished bar": Fault.unfinished_bar(60),
}
FINAL = {
    "clock skew": (Fault.clock_skew(3600), ClockSkew, "its clock says 2024-05-17T13:30"),
    "redirect loop": (Fault.redirect_loop(), Refused, "redirects without end"),
    "10x too large": (Fault.too_large(40_000_000), Refused, "holds more than 4,194,304 bytes"),
    "10x too large in chunks": (Fault.too_large(40_000_000, announced=False), Refused, "holds more than"),
    "gzip bomb": (Fault.gzip_bomb(40_000_000), Refused, "holds more than 4,194,304 bytes"),
}
IN_BAND = {
    "kraken: EAPI:Rate limit": ("kraken", Fault.kraken_rate_limit(), Transient),
    "binance: -1003 with 200": ("binance", Fault.binance_rate_limit(), Transient),
    "binance: -1003 with 400": ("binance", Fault.binance_rate_limit(status=400), Transient),
    "binance: 418": ("binance", Fault.server_error(418), Transient),
    "binance: 451": ("binance", Fault.in_band({"code": 0, "msg": "from a restricted location"}, status=451), Refused),
    "binance: -1121": ("binance", Fault.in_band({"code": -1100, "msg": "Illegal characters"}, status=400), Refused),
    "coinbase: 404": ("coinbase", Fault.in_band({"error": "NOT_FOUND", "message": "x"}, status=404), Refused),
    "coinbaseexchange: 403": ("coinbaseexchange", Fault.in_band({"message": "Forbidden"}, status=403), Refused),
    "bitfinex: 11010 with 200": ("bitfinex", Fault.in_band(["error", 11010, "ratelimit: error"]), Transient),
    "bitfinex: 20060": ("bitfinex", Fault.in_band(["error", 20060, "maintenance"], status=503), Transient),
    "kraken: no such list": ("kraken", Fault.in_band({"error": [], "result": {}}), Transient),
    "bitstamp: no such list": ("bitstamp", Fault.in_band({}), Transient),
    "binance: a word": ("binance", Fault.in_band("maintenance"), Transient),
    "binance: all rows null": ("binance", Fault.null_rows(every=1), Transient),
}


class Line:
    """A venue, and what is pulled of it through a proxy whose address holds a secret."""

    def __init__(self, world: FakeWorld, web: Web, folder: Path, told: list[str]) -> None:
        self.world, self.folder, self.told = world, folder, told
        self.web = replace(
            web,
            limits=replace(web.limits, idle=PATIENT, total=PATIENT),
            endpoint=world.url.replace("http://", f"http://trader:{SECRET}@"),
            retry=Retry(web.clock, attempts=3, tell=told.append),
        )
        self.lake = Lake(folder / "lake")

    def fault(self, venue: str, label: str, fault: Fault, times: int = 1) -> None:
        self.world.fault(BARS_OF[venue][1], fault, times=times)
        if label in SLOW:
            limits = replace(self.web.limits, idle=timedelta(seconds=0.3), total=timedelta(seconds=0.6))
            self.web = replace(self.web, limits=limits)

    def pull(self, venue: str, *, until: datetime | None = None) -> Account:
        job = self.job(venue)
        [account] = pull(self.lake, [job], locks=self.folder / "locks", clock=self.web.clock, since=SINCE, until=until)
        return account

    def job(self, venue: str) -> Prices:
        return Prices(Exchange(venue, self.web), market(venue, BARS_OF[venue][0]), "1m", tell=self.told.append)

    def reached(self, venue: str) -> datetime | None:
        reached = coverage.read(self.lake, self.job(venue).name, BARS).reached
        return None if reached is None else from_us(reached)

    def hold_against_the_truth(self, venue: str, account: Account) -> None:
        """Check that the lake has what an undisturbed run would have put there, and nothing that nobody may see."""
        bars = self.lake.scan(BARS).sort("observed_at").collect()
        opens = (pl.col("observed_at") - MINUTE).dt.epoch("ms")
        rows = [list(row) for row in bars.select(opens, "open", "high", "low", "close", "volume").iter_rows()]
        reached = self.reached(venue)
        assert reached is not None
        assert rows == self.world.exchange.truth(venue, BARS_OF[venue][0], "1m", SINCE, reached)
        assert bars.select((pl.col("available_at") - pl.col("observed_at") == timedelta(seconds=15)).all()).item()
        assert account.quarantined == 0

    def keep_the_secret(self, account: Account) -> None:
        assert SECRET not in f"{account.error!r} {account.error} {self.told}"
        for file in self.folder.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


@pytest.fixture
def line(world: FakeWorld, web: Web, tmp_path: Path, told: list[str]) -> Iterator[Line]:
    world.exchange.has_outages = False
    # Made up beforehand, so that no request takes long.
    for venue in BARS_OF:
        world.exchange.truth(venue, BARS_OF[venue][0], "1m", SINCE, NOW)
    return Line(world, web, tmp_path, told)


@pytest.mark.parametrize("label", PASSING)
def test_what_passes_is_waited_for_and_nothing_is_lost(line: Line, label: str) -> None:
    line.fault("binance", label, PASSING[label], times=2)
    account = line.pull("binance")
    assert account.status == "ok"
    assert len(line.told) == 2
    line.hold_against_the_truth("binance", account)
    assert line.reached("binance") >= NOW.replace(second=0)
    if "Retry-After" in label:
        assert sum(1 for wait in line.web.clock.waits if wait >= timedelta(seconds=7)) >= 2  # type: ignore[attr-defined]
    line.keep_the_secret(account)


@pytest.mark.parametrize("label", PASSING)
def test_what_does_not_pass_is_told_and_the_next_run_goes_on(line: Line, label: str) -> None:
    line.fault("binance", label, PASSING[label], times=-1)
    before = line.web.clock.elapsed()
    failed = line.pull("binance")
    assert isinstance(failed.error, Transient)
    assert failed.status == "failed"
    assert line.web.clock.elapsed() - before < timedelta(minutes=5)
    assert (failed.read, line.reached("binance")) == (0, None)
    line.keep_the_secret(failed)
    line.world.clear()
    line.world.advance(timedelta(minutes=3))
    account = line.pull("binance")
    assert account.status == "ok"
    line.hold_against_the_truth("binance", account)


@pytest.mark.parametrize("label", CONTENT)
def test_a_page_in_disorder_changes_nothing(line: Line, label: str) -> None:
    line.fault("binance", label, CONTENT[label])
    account = line.pull("binance")
    assert account.status == "ok"
    line.hold_against_the_truth("binance", account)
    line.world.advance(timedelta(minutes=3))
    line.hold_against_the_truth("binance", line.pull("binance"))
    assert line.reached("binance") >= NOW.replace(second=0) + 3 * MINUTE


@pytest.mark.parametrize("label", FINAL)
def test_what_asking_again_does_not_change_is_told_at_once(line: Line, label: str) -> None:
    fault, kind, said = FINAL[label]
    line.fault("binance", label, fault)
    failed = line.pull("binance")
    assert type(failed.error) is kind
    assert said in str(failed.error)
    assert (line.told, failed.read, line.reached("binance")) == ([], 0, None)
    line.keep_the_secret(failed)
    account = line.pull("binance")
    assert account.status == "ok"
    line.hold_against_the_truth("binance", account)


@pytest.mark.parametrize("venue", ["kraken", "coinbase", "coinbaseexchange", "bitstamp", "bitfinex"])
@pytest.mark.parametrize(
    "label", ["cut JSON of valid length", "HTML with 200", "empty 200", "out-of-order page", "unfinished bar"]
)
def test_what_other_exchanges_do_with_it(line: Line, venue: str, label: str) -> None:
    line.fault(venue, label, {**PASSING, **CONTENT}[label], times=1 if label in CONTENT else 2)
    account = line.pull(venue)
    assert account.status == "ok"
    assert len(line.told) == (0 if label in CONTENT else 2)
    line.hold_against_the_truth(venue, account)


@pytest.mark.parametrize("label", IN_BAND)
def test_an_error_in_the_body_is_one(line: Line, label: str) -> None:
    venue, fault, kind = IN_BAND[label]
    line.fault(venue, label, fault, times=-1)
    failed = line.pull(venue)
    assert type(failed.error) is kind, failed.error
    assert len(line.told) == (2 if kind is Transient else 0)
    assert (failed.read, line.reached(venue)) == (0, None)
    line.keep_the_secret(failed)
    line.world.clear()
    account = line.pull(venue)
    assert account.status == "ok"
    line.hold_against_the_truth(venue, account)


def test_markets_that_cannot_be_loaded_are_an_error_too(line: Line) -> None:
    line.world.fault("/binance/api/v3/exchangeInfo", Fault.html(), times=-1)
    failed = line.pull("binance")
    assert isinstance(failed.error, SourceError)
    assert "status 200, but no whole JSON document" in str(failed.error)
    line.world.clear()
    line.world.fault("/binance/api/v3/exchangeInfo", Fault.cut_body(), times=2)
    account = line.pull("binance")
    assert account.status == "ok"
    line.hold_against_the_truth("binance", account)
