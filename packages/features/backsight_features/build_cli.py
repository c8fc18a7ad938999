"""``backsight build``: facts to feature tables."""

import click

from backsight_features.options import JSON
from backsight_features.workspace import Workspace


@click.command()
@click.option(
    "--bars",
    "names",
    multiple=True,
    required=True,
    metavar="VENUE:SYMBOL:TIMEFRAME",
    help="A bar series, bitstamp:BTC-USD:1h. May be repeated.",
)
@click.option("--scorer", "scorer_name", metavar="NAME@REVISION", help="Whose scores; needed if there are several.")
@JSON
@click.pass_obj
def build(workspace: Workspace, names: tuple[str, ...], scorer_name: str | None, as_json: bool) -> None:
    """Bring the feature tables up to the facts in the lake.

    One row per symbol and instant at which a bar became known: all that was known then. Only what the facts affect
    that came in since the last build is computed, and only rows that differ are written; the output says why. Symbols
    that are not named stay as they are.

    \b
      backsight build --bars bitstamp:BTC-USD:1h
      backsight build --bars binance:BTC-USDT:1h --bars binance:ETH-USDT:1h
    """
    import json
    from dataclasses import asdict

    from backsight_features.bars import BarSeries
    from backsight_features.building.build import build as build_tables
    from backsight_features.lake import Lake
    from backsight_features.snapshot import Snapshot
    from backsight_features.text import Scorer

    built = build_tables(
        Snapshot.take(Lake(workspace.lake)),
        workspace.features,
        [BarSeries.parse(name) for name in names],
        scorer=None if scorer_name is None else Scorer.parse(scorer_name),
        say=lambda line: click.echo(line, err=True),
    )
    if as_json:
        stamps = [
            {"first": one.first and f"{one.first:%FT%TZ}", "last": one.last and f"{one.last:%FT%TZ}"} for one in built
        ]
        click.echo(json.dumps([{**asdict(one), **stamp} for one, stamp in zip(built, stamps, strict=True)]))
        return
    for one in built:
        span = "" if one.first is None else f"  {one.first:%FT%TZ} to {one.last:%FT%TZ}"
        click.echo(f"{one.table}  {one.symbol}  {one.written:,} of {one.computed:,} rows written{span}  ({one.why})")
