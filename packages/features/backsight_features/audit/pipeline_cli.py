"""``backsight audit pipeline``: whether anything between the lake and what is served sees the future."""

from pathlib import Path

import click

from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace


@click.command()
@REPO
@click.option("--bars", "name", metavar="VENUE:SYMBOL:TIMEFRAME", help="Whose features, if several are built.")
@click.option("--service", help="Compared online and offline; forecast_1h for hourly bars if left out.")
@click.option("--instants", "most", type=click.IntRange(min=40), default=60, show_default=True, help="How many to try.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page there too.")
@JSON
@click.pass_obj
def pipeline(
    workspace: Workspace,
    repo: Path,
    name: str | None,
    service: str | None,
    most: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """Look for what sees the future on your own lake and feature repo.

    Around each of the instants later facts are deleted, corrupted and added in memory; no row up to the instant may
    change in a bit. The facts' clocks, the stored tables, slices, duplicates and the windows online are looked at too.
    What is convicted is named with the feature, the instant and the one fact that leaked. Nothing of yours is changed.

    \b
      backsight audit pipeline
      backsight audit pipeline --bars binance:BTC-USDT:1h --html audit.html
    """
    import json

    from backsight_features.audit.pipeline import audit
    from backsight_features.bars import BarSeries

    result = audit(
        workspace,
        repo,
        series=None if name is None else BarSeries.parse(name),
        service=service,
        most=most,
        say=lambda line: click.echo(f"looking at {line}", err=True),
    )
    if html is not None:
        html.write_text(result.html(), encoding="utf-8")
    click.echo(json.dumps(result.to_json()) if as_json else result.text())
    click.get_current_context().exit(result.exit_code)
