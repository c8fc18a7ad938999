"""The verbs of the feature store: ``apply`` and ``publish``."""

import json
from pathlib import Path

import click

from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace


@click.command()
@REPO
@JSON
@click.pass_obj
def apply(workspace: Workspace, repo: Path, as_json: bool) -> None:
    """Write the definitions of the feature repo to the registry.

    \b
      backsight apply --repo feature_repo
    """
    from backsight_features.store import Store

    services = Store(repo, workspace).apply()
    if as_json:
        click.echo(json.dumps({"services": services}))
    else:
        click.echo(f"services: {', '.join(services)}")


@click.command()
@REPO
@click.option("--service", required=True, help="Whose features: forecast_1h, price_1h.")
@click.option("--length", type=click.IntRange(min=1), required=True, help="Slots of a window.")
@click.option("--at", metavar="INSTANT", help="As of 2024-03-01 or 2024-03-01T12:00:00Z; now unless given.")
@JSON
@click.pass_obj
def publish(workspace: Workspace, repo: Path, service: str, length: int, at: str | None, as_json: bool) -> None:
    """Put the newest window of every symbol online.

    What is online is never replaced by something older.

    \b
      backsight publish --service forecast_1h --length 48
    """
    from backsight_features.clocks import parse_instant, utc_now
    from backsight_features.store import Store

    instant = parse_instant(at) if at else utc_now()
    published = Store(repo, workspace).publish(service, length=length, at=instant)
    if as_json:
        document = {
            "service": published.service,
            "length": published.length,
            "at": published.at.isoformat(),
            "windows": [
                {
                    "symbol": window.symbol,
                    "outcome": window.outcome,
                    "observed_at": window.observed_at.isoformat(),
                    "available_at": window.available_at.isoformat(),
                }
                for window in published.windows
            ],
            "silent": published.silent,
        }
        click.echo(json.dumps(document))
    else:
        for window in published.windows:
            click.echo(f"{window.symbol}: {window.outcome}, newest bar closed {window.observed_at:%Y-%m-%d %H:%M} UTC")
        for symbol in published.silent:
            click.echo(f"{symbol}: silent, nothing became known for {length} slots; left as it is")
