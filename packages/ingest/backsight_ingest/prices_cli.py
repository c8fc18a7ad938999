"""``backsight pull prices`` and ``pull books``: bars and order books of any exchange that ccxt knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

from backsight_ingest.live_cli import Run, execute, live

if TYPE_CHECKING:
    from backsight_ingest.live.job import Job
    from backsight_ingest.live.web import Web

EXCHANGE = click.option("--exchange", required=True, metavar="NAME", help="As ccxt names it: binance, kraken.")
SYMBOL = click.option(
    "--symbol", "symbols", required=True, multiple=True, metavar="BASE/QUOTE", help="As ccxt names it; repeatable."
)


@click.command()
@EXCHANGE
@SYMBOL
@click.option(
    "--timeframe", "timeframes", multiple=True, default=("1h",), show_default=True, metavar="LENGTH", help="Repeatable."
)
@click.option("--from-trades", is_flag=True, help="Make bars that the exchange no longer gives from its trades.")
@live
@click.pass_obj
def prices(
    workspace: Workspace,
    exchange: str,
    symbols: tuple[str, ...],
    timeframes: tuple[str, ...],
    from_trades: bool,
    run: Run,
) -> None:
    """Pull the bars that closed since the last run; the first takes the last page of them.

    A job each for every symbol with every timeframe. What an exchange did not give is noted, and asked for again.

    \b
      backsight pull prices --exchange binance --symbol BTC/USDT --symbol ETH/USDT --timeframe 1m --timeframe 1h
      backsight pull prices --exchange coinbase --symbol BTC/USD --since 2020-01-01
      backsight pull prices --exchange kraken --symbol BTC/USD --since 2024-01-01 --from-trades
    """
    if from_trades and run.since is None:
        raise BadInput("--from-trades fills in what lies behind; give --since as well")

    def jobs(web: "Web") -> Sequence["Job"]:
        from backsight_ingest.sources.exchange import Exchange
        from backsight_ingest.sources.exchange_markets import market
        from backsight_ingest.sources.prices import Prices
        from backsight_ingest.sources.trades import TradedPrices

        markets = [market(exchange, symbol) for symbol in dict.fromkeys(symbols)]
        source = Exchange(exchange, web, contracts=any(each.contract for each in markets))
        if from_trades and not source.traits.rebuilds:
            raise BadInput(f"{exchange}: bars are made from the trades of kraken only; leave out --from-trades")
        kind = TradedPrices if from_trades else Prices
        return [
            kind(source, each, length, tell=lambda line: click.echo(line, err=True))
            for each in markets
            for length in dict.fromkeys(timeframes)
        ]

    execute(workspace, run, jobs)


@click.command()
@EXCHANGE
@SYMBOL
@click.option("--every", default="1m", show_default=True, metavar="LENGTH", help="How often this is run.")
@live
@click.pass_obj
def books(workspace: Workspace, exchange: str, symbols: tuple[str, ...], every: str, run: Run) -> None:
    """Look once at the order book of each symbol: best prices, their sizes, and the depth near the middle.

    A book cannot be asked for afterwards; run this from a scheduler as often as --every says.

    \b
      backsight pull books --exchange binance --symbol BTC/USDT
      backsight pull books --exchange kraken --symbol BTC/USD --symbol ETH/USD --every 5m
    """
    if run.since is not None or run.until is not None:
        raise BadInput("a book is what it is now; leave out --since and --until")

    def jobs(web: "Web") -> Sequence["Job"]:
        from backsight_ingest.layout import duration
        from backsight_ingest.sources.books import Books
        from backsight_ingest.sources.exchange import Exchange
        from backsight_ingest.sources.exchange_markets import market

        markets = [market(exchange, symbol) for symbol in dict.fromkeys(symbols)]
        source = Exchange(exchange, web, contracts=any(each.contract for each in markets))
        return [Books(source, each, every=duration(every)) for each in markets]

    execute(workspace, run, jobs)
