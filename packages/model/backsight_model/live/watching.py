"""Watching what was handed out: is the model still better than simple forecasters, and does it say what it means.

Looked at after every bar, a test at 5 % finds something sooner or later in nothing. The intervals here hold at all
instants at once: with 95 % none of them ever leaves out the true mean, however often one looks.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from backsight_model.arrays import FloatArray
from backsight_model.bundle import Bundle
from backsight_model.drift import worse
from backsight_model.live.outcomes import Outcomes, outcomes
from backsight_model.live.recent import Recent, recent
from backsight_model.proof import LEVEL
from backsight_model.verdict import log_loss

BLOCKS: Final = 10
"""Horizons of outcomes below which nothing is said."""
TIGHTEST: Final = 100
"""Horizons at which the intervals are as narrow as they can be made for one instant."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with an interval that holds at all instants at once.

    Attributes
    ----------
    what : str
    mean, low, high : float
    blocks : int
        Horizons of outcomes that it rests on.
    """

    what: str
    mean: float
    low: float
    high: float
    blocks: int


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that a person, or a policy, has to act on.

    Attributes
    ----------
    rule : str
        ``silent``, ``worse``, ``biased`` or ``switched``.
    symbol : str
    said : str
        What was seen, since when and by how much.
    """

    rule: str
    symbol: str
    said: str


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of one symbol.

    Attributes
    ----------
    symbol : str
    last_at : datetime or None
        Close of the newest bar that was forecast.
    known, open : int
        Forecasts whose outcome is known, and whose is not yet.
    intervals : tuple of Interval
        Gains on simple forecasters, and biases.
    alerts : tuple of Alert
    recent : Recent or None
        The last days for a chart; None where there is no forecast.
    """

    symbol: str
    last_at: datetime | None
    known: int
    open: int
    intervals: tuple[Interval, ...]
    alerts: tuple[Alert, ...]
    recent: Recent | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the chart."""
        return {
            "symbol": self.symbol,
            "last_at": None if self.last_at is None else self.last_at.isoformat(),
            "known": self.known,
            "open": self.open,
            "intervals": [asdict(one) for one in self.intervals],
            "alerts": [asdict(one) for one in self.alerts],
        }


def watch(
    symbol: str, log: pl.DataFrame, bars: pl.DataFrame, bundles: Callable[[str], Bundle], *, now: datetime
) -> Watched:
    """Return what is seen of a symbol, from the forecasts of the bundle that made the last one.

    Parameters
    ----------
    symbol : str
    log : pl.DataFrame
        `forecast_log.ForecastLog.frame`.
    bars : pl.DataFrame
        All stored versions of the bars of its series.
    bundles : callable
        Returns a bundle by its name.
    now : datetime
    """
    mine = log.filter(pl.col("symbol") == symbol).sort("observed_at", "at")
    if mine.is_empty():
        said = f"{symbol}: no forecast was ever handed out"
        alert = Alert(rule="silent", symbol=symbol, said=said)
        return Watched(symbol=symbol, last_at=None, known=0, open=0, intervals=(), alerts=(alert,), recent=None)
    last = mine.row(-1, named=True)
    bundle = bundles(last["bundle"])
    found = outcomes(mine.filter(pl.col("bundle") == bundle.name), bars, bundles)
    intervals = _intervals(found)
    alerts = [*_silent(symbol, last["observed_at"], bundle.timeframe, now), *_rules(symbol, found, intervals)]
    return Watched(
        symbol=symbol,
        last_at=last["observed_at"],
        known=len(found.observed_at),
        open=found.open,
        intervals=intervals,
        alerts=tuple(alerts),
        recent=recent(found, bundle.timeframe),
    )


def always(values: FloatArray, *, level: float = LEVEL) -> tuple[float, float]:
    """Return bounds of a mean that, looked at after each value, hold all the time with probability 1 - level.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, theorem 2.2), narrowest
    after `TIGHTEST` values.

    Parameters
    ----------
    values : ndarray of shape (n,)
        In time order, 2 or more, nearly independent.
    level : float
        Chance that the true mean is ever outside.

    Examples
    --------
    >>> low, high = always(np.tile([0.0, 1.0], 50))
    >>> round(low, 2), round(high, 2)
    (0.35, 0.65)
    """
    n = len(values)
    rho2 = (-2 * np.log(level) + np.log(-2 * np.log(level)) + 1) / TIGHTEST
    width = np.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / level))
    half = float(values.std() * width)
    return float(values.mean()) - half, float(values.mean()) + half


def _intervals(found: Outcomes) -> tuple[Interval, ...]:
    # Labels that overlap err together: the mean over each horizon is one value.
    came = found.came_log_rv
    lost = {name: np.square(came - forecast) for name, forecast in found.log_rv.items()}
    series: Mapping[str, FloatArray] = {
        "gain on HAR-X, volatility": lost["HAR-X"] - lost["model"],
        "gain on persistence, volatility": lost["persistence"] - lost["model"],
        "gain on a coin, direction": np.log(2) - log_loss(found.p_up, found.came_up),
        "bias of log variance": came - found.log_rv["model"],
        "bias of P(up)": found.came_up - found.p_up,
    }
    whole = len(came) // found.horizon
    if whole < BLOCKS:
        return ()
    made = []
    for what, values in series.items():
        blocks = values[-whole * found.horizon :].reshape(whole, found.horizon).mean(axis=1)
        low, high = always(blocks)
        made.append(Interval(what=what, mean=float(blocks.mean()), low=low, high=high, blocks=whole))
    return tuple(made)


def _silent(symbol: str, last: datetime, timeframe: timedelta, now: datetime) -> list[Alert]:
    age = timedelta(seconds=(now - last) // timedelta(seconds=1))
    if age <= 3 * timeframe:
        return []
    said = f"{symbol}: the last forecast is of the bar that closed at {last:%Y-%m-%dT%H:%M:%SZ}, {age} ago"
    return [Alert(rule="silent", symbol=symbol, said=said)]


def _rules(symbol: str, found: Outcomes, intervals: tuple[Interval, ...]) -> list[Alert]:
    alerts = []
    for one in intervals:
        told = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}] over {one.blocks} horizons"
        if one.what.startswith("gain") and one.high < 0:
            alerts.append(Alert(rule="worse", symbol=symbol, said=f"{symbol}: {one.what}: {told}: it is a loss"))
        if one.what.startswith("bias") and not one.low <= 0 <= one.high:
            alerts.append(Alert(rule="biased", symbol=symbol, said=f"{symbol}: {one.what}: {told}"))
    settled = len(found.observed_at) // 2 // found.horizon * found.horizon
    everything = np.arange(len(found.observed_at))
    moved = worse(
        "volatility",
        found.observed_at,
        np.square(found.came_log_rv - found.log_rv["model"]),
        tail=everything[:settled],
        since=everything[settled:],
        horizon=found.horizon,
    )
    if moved is not None and moved.drifted:
        alerts.append(Alert(rule="switched", symbol=symbol, said=f"{symbol}: {moved.words}"))
    return alerts
