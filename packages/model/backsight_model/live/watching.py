"""Watching what was handed out: is the model still better than simple forecasters, and does it say what it means."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from backsight_features.clocks import parse_instant

from backsight_model.bundle import Bundle
from backsight_model.drift import RECENT, Inputs
from backsight_model.live.intervals import Interval
from backsight_model.live.outcomes import Outcomes, newest, outcomes
from backsight_model.live.recent import Recent, recent
from backsight_model.live.rules import Alert, broken, intervals, silent
from backsight_model.live.shadow import Challenger, against


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of one symbol.

    Attributes
    ----------
    symbol : str
    bundle : str or None
        The bundle that made the last forecast, which all but the last two are about.
    last_at : datetime or None
        Close of the newest bar that was forecast.
    known, open : int
        Forecasts whose outcome is known, and whose is not yet.
    intervals : tuple of Interval
        Gains on simple forecasters, and biases.
    inputs : Inputs or None
        Whether the inputs moved; None where there are too few forecasts to say.
    challenger : Challenger or None
        The bundle that forecasts in its shadow.
    alerts : tuple of Alert
    recent : Recent or None
        The last days for a chart; None where there is no forecast.
    """

    symbol: str
    bundle: str | None
    last_at: datetime | None
    known: int
    open: int
    intervals: tuple[Interval, ...]
    inputs: Inputs | None
    challenger: Challenger | None
    alerts: tuple[Alert, ...]
    recent: Recent | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the chart."""
        return {
            "symbol": self.symbol,
            "bundle": self.bundle,
            "last_at": None if self.last_at is None else self.last_at.isoformat(),
            "known": self.known,
            "open": self.open,
            "intervals": [asdict(one) for one in self.intervals],
            "inputs": None if self.inputs is None else {"drifted": self.inputs.drifted, "words": self.inputs.words},
            "challenger": None if self.challenger is None else self.challenger.to_json(),
            "alerts": [asdict(one) for one in self.alerts],
        }


def watch(
    symbol: str,
    log: pl.DataFrame,
    bars: pl.DataFrame,
    bundles: Callable[[str], Bundle],
    *,
    now: datetime,
    shadow: tuple[str, pl.DataFrame] | None = None,
) -> Watched:
    """Return what is seen of a symbol, from the forecasts of the bundle that made the last one.

    Parameters
    ----------
    symbol : str
    log : pl.DataFrame
        `forecast_log.ForecastLog.frame` of what was handed out.
    bars : pl.DataFrame
        All stored versions of the bars of its series.
    bundles : callable
        Returns a bundle by its name.
    now : datetime
    shadow : tuple of str and pl.DataFrame, optional
        Name of the bundle in shadow, and the log of what is forecast in shadow; None where there is no such bundle.
    """
    mine = log.filter(pl.col("symbol") == symbol).sort("observed_at", "at")
    if mine.is_empty():
        said = f"{symbol}: no forecast was ever handed out"
        return Watched(
            symbol=symbol,
            bundle=None,
            last_at=None,
            known=0,
            open=0,
            intervals=(),
            inputs=None,
            challenger=None,
            alerts=(Alert(rule="silent", symbol=symbol, said=said),),
            recent=None,
        )
    last = mine.row(-1, named=True)
    bundle = bundles(last["bundle"])
    made = mine.filter(pl.col("bundle") == bundle.name)
    found = outcomes(made, bars, bundles)
    seen, inputs = intervals(found), _inputs(symbol, made, bundle)
    challenger = None
    if shadow is not None:
        name, frame = shadow
        forecasts = frame.filter((pl.col("symbol") == symbol) & (pl.col("bundle") == name))
        challenger = _challenger(name, found, bundle, forecasts, bars, bundles)
    return Watched(
        symbol=symbol,
        bundle=bundle.name,
        last_at=last["observed_at"],
        known=len(found.observed_at),
        open=found.open,
        intervals=seen,
        inputs=inputs,
        challenger=challenger,
        alerts=(
            *silent(symbol, last["observed_at"], bundle.timeframe, now),
            *broken(symbol, found, seen, inputs),
            *(() if challenger is None else challenger.alerts(symbol)),
        ),
        recent=recent(found, bundle.timeframe),
    )


def _challenger(
    name: str,
    found: Outcomes,
    bundle: Bundle,
    forecasts: pl.DataFrame,
    bars: pl.DataFrame,
    bundles: Callable[[str], Bundle],
) -> Challenger:
    """Return what is known of the bundle in shadow; nothing of one that forecasts another horizon than this one."""
    if forecasts.is_empty() or bundles(name).horizon != bundle.horizon:
        return Challenger(name=name, champion=bundle.name, known=0, gain=None)
    return against(found, outcomes(forecasts, bars, bundles), names=(bundle.name, name))


def _inputs(symbol: str, made: pl.DataFrame, bundle: Bundle) -> Inputs | None:
    """Return whether the newest slots of the newest windows are still like those that the bundle learnt from."""
    learnt_until = parse_instant(bundle.manifest.last_at)
    rows = made.filter(pl.col("available_at") > learnt_until).unique("observed_at", keep="last", maintain_order=True)
    if len(rows) < RECENT or symbol not in bundle.inputs:
        return None
    rows = rows.tail(RECENT)
    since = np.datetime64(rows["observed_at"][0].replace(tzinfo=None), "us")
    return bundle.inputs[symbol].against(newest(rows), since=since)
