"""The verb ``watch``: live skill, calibration and silence, for a monitor."""

import json
import os
from collections.abc import Collection, Sequence
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

    from backsight_model import shadows
    from backsight_model.bundle import read as bundle
    from backsight_model.forecast_log import ForecastLog
    from backsight_model.live.watching import watch as look

    now, logs = utc_now(), (ForecastLog(workspace.forecasts), shadows.log(workspace))
    for log in logs:
        log.fold()
    facts, in_shadow = Snapshot.take(Lake(workspace.lake)), shadows.named(workspace.models)
    bundles = cache(lambda name: bundle(workspace.models / name))
    seen = []
    for series in map(BarSeries.parse, names):
        # A symbol at a time: the windows of years of all of them would not fit.
        frame, beside = (log.frame(series.symbol) for log in logs)
        challenger = in_shadow.get(series.symbol)
        shadow = None if challenger is None else (challenger, beside)
        seen.append(look(series.symbol, frame, read(facts, series), bundles, now=now, shadow=shadow))
    _keep(workspace.live, seen, now.isoformat())
    alerts = [alert for one in seen for alert in one.alerts]
    if as_json:
        click.echo(json.dumps({"symbols": [one.to_json() for one in seen]}))
    else:
        for one in seen:
            last = "never" if one.last_at is None else f"of the bar that closed at {one.last_at:%Y-%m-%dT%H:%M:%SZ}"
            click.echo(f"{one.symbol}: last forecast {last}; {one.known} outcomes known, {one.open} open")
            for interval in one.intervals:
                click.echo(f"  {interval.what}: {interval.words}")
            for part in (one.inputs, one.challenger):
                if part is not None:
                    click.echo(f"  {part.words}")
    _send(
        workspace.forecasts / _TOLD,
        [{"rule": one.rule, "symbol": one.symbol, "said": one.said} for one in alerts],
        looked_at=[one.symbol for one in seen],
    )
    if alerts:
        raise NeedsAttention("; ".join(one.said for one in alerts))


def _keep(folder: Path, seen: "Sequence[Watched]", at: str) -> None:
    """Write what was seen for the page, beside what was last seen of symbols that were not looked at now."""
    from backsight_model.live.lastseen import WATCHED, keep, others

    with others(folder / WATCHED, [one.symbol for one in seen]) as before:
        points = min(_POINTS, _MOST_POINTS // (len(seen) + len(before)))
        charts = [None if one.recent is None else one.recent.thinned(points).to_json() for one in seen]
        fresh = [one.to_json() | {"at": at, "recent": chart} for one, chart in zip(seen, charts, strict=True)]
        keep(folder / WATCHED, {"at": at, "symbols": sorted([*before, *fresh], key=lambda one: str(one["symbol"]))})


def _send(told: Path, alerts: list[dict[str, Any]], *, looked_at: Collection[str]) -> None:
    """Send the alerts of which no like one stood at the last look at the symbol, and remember those that stand."""
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
    others = [[rule, symbol] for rule, symbol in before if symbol not in looked_at]
    told.write_text(json.dumps(others + [[one["rule"], one["symbol"]] for one in alerts]), encoding="utf-8")
