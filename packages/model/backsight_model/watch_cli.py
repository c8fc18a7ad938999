"""The verb ``watch``: live skill, calibration and silence, for a monitor."""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_model.live.watching import Watched

WEBHOOK: Final = "BACKSIGHT_WEBHOOK"
"""The variable with the address that alerts are sent to."""

_TOLD: Final = "alerts.json"
_TIMEOUT_SECONDS: Final = 10.0
_MOST_POINTS: Final = 60_000
"""Of all charts, so that what is kept for the page stays small."""
_POINTS: Final = 336
"""Of a chart: two weeks of hours."""


@click.command()
@click.option("--bars", "names", multiple=True, required=True, metavar="VENUE:SYMBOL:TIMEFRAME", help="Repeatable.")
@JSON
@click.pass_obj
def watch(workspace: Workspace, names: tuple[str, ...], as_json: bool) -> None:
    """Say how good the forecasts were that were handed out, and whether somebody has to act.

    Joins what came to every forecast of the log, and compares with simple forecasters by intervals that hold however
    often one looks. Exit code 6 if there is an alert. Alerts that are new are sent to BACKSIGHT_WEBHOOK as JSON. What
    was seen is kept for the page of `backsight serve`.

    \b
      backsight watch --bars binance:BTC-USDT:1h
      backsight watch --bars binance:BTC-USDT:1h --bars binance:ETH-USDT:1h --json
    """
    from backsight_features.bars import BarSeries, read
    from backsight_features.clocks import utc_now
    from backsight_features.errors import NeedsAttention
    from backsight_features.lake import Lake
    from backsight_features.snapshot import Snapshot

    from backsight_model.bundle import read as bundle
    from backsight_model.forecast_log import ForecastLog
    from backsight_model.live.lastseen import WATCHED, keep
    from backsight_model.live.watching import watch as look

    now, log = utc_now(), ForecastLog(workspace.forecasts)
    log.fold()
    frame, facts = log.frame(), Snapshot.take(Lake(workspace.lake))
    bundles = cache(lambda name: bundle(workspace.models / name))
    seen = [look(series.symbol, frame, read(facts, series), bundles, now=now) for series in map(BarSeries.parse, names)]
    keep(workspace.live / WATCHED, {"at": now.isoformat(), "symbols": _with_charts(seen)})
    alerts = [alert for one in seen for alert in one.alerts]
    if as_json:
        click.echo(json.dumps({"symbols": [one.to_json() for one in seen]}))
    else:
        for one in seen:
            last = "never" if one.last_at is None else f"of the bar that closed at {one.last_at:%Y-%m-%dT%H:%M:%SZ}"
            click.echo(f"{one.symbol}: last forecast {last}; {one.known} outcomes known, {one.open} open")
            for interval in one.intervals:
                bounds = f"[{interval.low:+.4f}, {interval.high:+.4f}]"
                click.echo(f"  {interval.what}: {interval.mean:+.4f} {bounds} over {interval.blocks} horizons")
    _send(workspace.forecasts / _TOLD, [{"rule": one.rule, "symbol": one.symbol, "said": one.said} for one in alerts])
    if alerts:
        raise NeedsAttention("; ".join(one.said for one in alerts))


def _with_charts(seen: "Sequence[Watched]") -> list[dict[str, Any]]:
    points = min(_POINTS, _MOST_POINTS // len(seen))
    return [
        one.to_json() | {"recent": None if one.recent is None else one.recent.thinned(points).to_json()} for one in seen
    ]


def _send(told: Path, alerts: list[dict[str, Any]]) -> None:
    """Send the alerts of which no like one stood at the last look, and remember those that stand."""
    from backsight_features.errors import BadInput, SourceError

    before = json.loads(told.read_text(encoding="utf-8")) if told.exists() else []
    new = [one for one in alerts if [one["rule"], one["symbol"]] not in before]
    address = os.environ.get(WEBHOOK)
    if new and address:
        import requests

        if not address.startswith(("http://", "https://")):
            raise BadInput(f"{WEBHOOK} is no http address")
        try:
            answer = requests.post(address, json={"alerts": new}, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
            answer.raise_for_status()
        except requests.RequestException as error:
            # Not the message of requests: the address in it may hold a secret.
            raise SourceError(f"the alerts could not be sent to {WEBHOOK}: {type(error).__name__}") from None
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(json.dumps([[one["rule"], one["symbol"]] for one in alerts]), encoding="utf-8")
