"""Bars from trades: exact, on the grid, with no trade lost at the border of a page."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, QUARANTINE
from backsight_features.spans import Span
from backsight_ingest.live import coverage
from backsight_ingest.live.pull import pull
from backsight_ingest.live.web import Web
from backsight_ingest.sources.exchange import Answer, Exchange
from backsight_ingest.sources.exchange_bars import Grid
from backsight_ingest.sources.exchange_markets import market
from backsight_ingest.sources.prices import Prices
from backsight_ingest.sources.trades import TradedPrices, bars

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
GRID = Grid(step=60_000_000)


def tape(*trades: tuple[float, str | None, str | None]) -> pl.DataFrame:
    """Return trades by their second; numbered in order."""
    return pl.DataFrame(
        [(int(second * 1e9), number, price, amount) for number, (second, price, amount) in enumerate(trades)],
        schema={"time": pl.Int64, "number": pl.Int64, "price": pl.String, "amount": pl.String},
        orient="row",
    )


def test_trades_make_the_bars_of_their_minutes() -> None:
    found = bars(tape((0, "10", "0.1"), (30, "9.5", "0.2"), (59.999999, "12", "0.3"), (180, "7", "1")), GRID).to_dicts()
    assert [
        (each["timestamp"], *(float(each[name]) for name in ("open", "high", "low", "close", "volume")))
        for each in found
    ] == [("0", 10, 12, 9.5, 12, 0.6), ("180000", 7, 7, 7, 7, 1)]


def test_the_order_is_that_of_time_and_number_and_volumes_are_not_rounded() -> None:
    mixed = tape((5, "3", "0.1"), (1, "1", "0.1"), (5, "4", "0.1")).sample(fraction=1, shuffle=True, seed=1)
    [bar] = bars(mixed, GRID).to_dicts()
    assert (bar["open"], bar["close"]) == ("1", "4")
    # 0.1 + 0.1 + 0.1 is no 0.3 in binary.
    assert float(bar["volume"]) == 0.3


@pytest.mark.parametrize(
    ("price", "amount", "cell", "text"),
    [
        ("NaN", "1", "close", "NaN"),
        (None, "1", "close", "null"),
        ("5", "inf", "volume", "inf"),
        ("5", None, "volume", "null"),
    ],
)
def test_a_trade_that_cannot_be_read_spoils_its_bar_and_no_other(
    price: str | None, amount: str | None, cell: str, text: str
) -> None:
    first, second = bars(tape((0, price, amount), (1, "5", "1"), (60, "5", "1")), GRID).to_dicts()
    assert first[cell] == text
    assert second[cell] in ("5", "1.000000000000000000")


class Tape:
    """An exchange that has nothing but trades: of a page at most a thousand, what comes after the cursor."""

    name, timeframes = "kraken", ("1m",)

    def __init__(self, trades: list[tuple[int, str, str]], settled: datetime) -> None:
        self.traits = Exchange("kraken", None).traits  # type: ignore[arg-type]
        self.asked: list[int] = []
        self._trades, self._settled = trades, settled

    def page(self, market: object) -> int:
        return 720

    def check(self, market: object) -> None:
        """All markets are there."""

    def trades(self, market: object, *, after_ns: int, count: int, known: bool) -> Answer[list[dict[str, Any]]]:
        self.asked.append(after_ns)
        page = [(i, each) for i, each in enumerate(self._trades) if each[0] > after_ns][:count]
        said = [
            {"info": [price, amount, f"{ns // 10**9}.{ns % 10**9:09}", "b", "m", "", i]}
            for i, (ns, price, amount) in page
        ]
        return Answer(said=said, settled=self._settled, fetched_at=self._settled)


def traded(exchange: Tape) -> TradedPrices:
    return TradedPrices(exchange, market("kraken", "BTC/USD"), "1m")  # type: ignore[arg-type]


def test_trades_of_one_instant_at_the_border_of_a_page_are_all_counted() -> None:
    start = to_us(NOW.replace(second=0) - HOUR)
    # 990 before, 30 at one nanosecond, around the thousandth; then one a second.
    times = [start * 1000 + i * 10**7 for i in range(990)] + [start * 1000 + 10**10] * 30
    times += [start * 1000 + 10**10 + i * 10**9 for i in range(1, 1500)]
    exchange = Tape([(at, "100", "0.25") for at in times], NOW)
    span = Span(start, start + 20 * 60_000_000)
    records = pl.concat(page.records["ccxt"] for page in traded(exchange).walk(span))
    within = [at for at in times if at < span.stop * 1000]
    assert records["volume"].cast(pl.Float64).sum() == len(within) * 0.25
    assert records["timestamp"].cast(pl.Int64).is_unique().all()
    assert len(exchange.asked) == 3


def test_a_page_of_one_instant_that_nothing_leads_past_is_refused() -> None:
    start = to_us(NOW.replace(second=0) - HOUR)
    exchange = Tape([((start + 1) * 1000, "100", "1")] * 1200, NOW)
    with pytest.raises(Drifted, match="1000 trades at 2024-05-17 11:30:00 fill a page, and nothing leads past them"):
        list(traded(exchange).walk(Span(start, start + 60_000_000)))


def test_the_last_bar_waits_until_its_time_is_over() -> None:
    start = to_us(NOW.replace(second=0) - 2 * MINUTE)
    exchange = Tape([((start + second * 10**6) * 1000, "100", "1") for second in (1, 61, 121, 130)], NOW)
    pages = list(traded(exchange).walk(Span(start, start + 5 * 60_000_000)))
    assert pages[-1].span.stop == to_us(NOW.replace(second=0))
    assert pl.concat(page.records["ccxt"] for page in pages)["volume"].cast(pl.Float64).to_list() == [1, 1]


@pytest.fixture
def patient(make_web: Callable[..., Web]) -> Web:
    return make_web(idle=timedelta(seconds=10), total=timedelta(seconds=10))


def test_what_an_exchange_no_longer_gives_as_bars_comes_from_its_trades(
    world: FakeWorld, patient: Web, lake: Lake, tmp_path: Path
) -> None:
    world.exchange.has_outages = False
    world.fault("/kraken/0/public/Trades", Fault.rewrite(lambda rows: []))
    world.fault("/kraken/0/public/Trades", Fault.duplicate_page())
    world.fault("/kraken/0/public/Trades", Fault.rewrite(lambda rows: []))
    world.fault("/kraken/0/public/Trades", Fault.out_of_order_page())
    since, btc = NOW.replace(second=0) - 18 * HOUR, market("kraken", "BTC/USD")
    exchange = Exchange("kraken", patient)
    kept = Prices(exchange, btc, "1m")
    rebuilt = TradedPrices(exchange, btc, "1m")
    accounts = [
        pull(lake, [job], locks=tmp_path / "locks", clock=patient.clock, since=since)[0]
        for job in (kept, rebuilt, rebuilt)
    ]
    assert [account.status for account in accounts] == ["ok", "ok", "ok"]
    assert accounts[1].accepted > 200
    assert accounts[2].read == 0
    covered = coverage.read(lake, kept.name, BARS)
    assert covered.stretches[0].span.start == to_us(since)
    assert covered.stretches[0].span.stop > to_us(NOW - 12 * HOUR)
    assert {stretch.status for stretch in covered.stretches} == {"whole", "hole"}
    stored = lake.scan(BARS).sort("observed_at").collect()
    opens = (pl.col("observed_at") - MINUTE).dt.epoch("ms")
    rows = [list(row) for row in stored.select(opens, "open", "high", "low", "close", "volume").iter_rows()]
    assert rows == world.exchange.truth("kraken", "BTC/USD", "1m", since, from_us(covered.reached))
    assert len(world.hits("/kraken/0/public/Trades")) >= 4


def test_trades_that_are_none_are_set_aside_as_the_bar_that_nobody_knows(
    world: FakeWorld, patient: Web, lake: Lake, tmp_path: Path
) -> None:
    world.exchange.has_outages = False
    world.fault("/kraken/0/public/Trades", Fault.nasty("price", "NaN", every=500))
    job = TradedPrices(Exchange("kraken", patient), market("kraken", "BTC/USD"), "1m")
    [account] = pull(lake, [job], locks=tmp_path / "locks", clock=patient.clock, since=NOW - 2 * HOUR, until=NOW - HOUR)
    assert account.status == "ok"
    assert account.quarantined >= 1
    assert lake.scan(QUARANTINE).collect()["reason"].str.ends_with("close: 'NaN' is not a number").all()
    covered = coverage.read(lake, job.name, BARS)
    assert covered.reached is None
    assert len(covered.holes) == account.quarantined
