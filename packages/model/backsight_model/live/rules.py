"""The rules by which what was seen of forecasts becomes an alert."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.drift import Inputs, Loss, worse
from backsight_model.live.intervals import Interval, over_horizons
from backsight_model.live.outcomes import Outcomes
from backsight_model.verdict import log_loss

PROMISED: Final = 0.8
"""How often what comes is to lie between the quantiles of `forecast.INTERVAL`."""
SLIGHT: Final = {
    "bias of log variance": 0.1,
    "bias of P(up)": 0.02,
    "bias of the likelier side": 0.02,
    "bias of the 80 % interval": 0.05,
}
"""Biases that nobody has to act on: no model that learnt from a few years is quite free of them."""


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that a person, or a policy, has to act on.

    Attributes
    ----------
    rule : str
        ``silent``, ``worse``, ``biased``, ``switched``, ``drifting`` or ``better``.
    symbol : str
    said : str
        What was seen, since when and by how much.
    """

    rule: str
    symbol: str
    said: str


def intervals(found: Outcomes) -> tuple[Interval, ...]:
    """Return the gains on simple forecasters, and the biases; none where too few outcomes are known."""
    came = found.came_log_rv
    lost = {name: np.square(came - forecast) for name, forecast in found.log_rv.items()}
    up = found.came_up.astype(np.float64)
    series: Mapping[str, FloatArray] = {
        "gain on HAR-X, volatility": lost["HAR-X"] - lost["model"],
        "gain on persistence, volatility": lost["persistence"] - lost["model"],
        "gain on a coin, direction": np.log(2) - log_loss(found.p_up, found.came_up),
        "bias of log variance": came - found.log_rv["model"],
        "bias of P(up)": up - found.p_up,
        # Below zero where a P(up) far from one half comes true less often than it says.
        "bias of the likelier side": np.where(found.p_up > 0.5, up - found.p_up, found.p_up - up),
        "bias of the 80 % interval": found.inside.astype(np.float64) - PROMISED,
    }
    made = (over_horizons(what, values, found.horizon) for what, values in series.items())
    return tuple(one for one in made if one is not None)


def silent(symbol: str, last: datetime, timeframe: timedelta, now: datetime) -> list[Alert]:
    """Return an alert where the newest bar that was forecast closed more than three bars ago."""
    age = timedelta(seconds=(now - last) // timedelta(seconds=1))
    if age <= 3 * timeframe:
        return []
    said = f"{symbol}: the last forecast is of the bar that closed at {last:%Y-%m-%dT%H:%M:%SZ}, {age} ago"
    return [Alert(rule="silent", symbol=symbol, said=said)]


def broken(symbol: str, found: Outcomes, seen: tuple[Interval, ...], inputs: Inputs | None) -> list[Alert]:
    """Return what is wrong with a model: gains that are losses, biases, a loss that rose, inputs that moved."""
    alerts = []
    for one in seen:
        if one.what.startswith("gain") and one.high < 0:
            alerts.append(Alert(rule="worse", symbol=symbol, said=f"{symbol}: {one.what}: {one.words}: it is a loss"))
        if one.what in SLIGHT and (one.low > SLIGHT[one.what] or one.high < -SLIGHT[one.what]):
            alerts.append(Alert(rule="biased", symbol=symbol, said=f"{symbol}: {one.what}: {one.words}"))
    alerts += [Alert(rule="switched", symbol=symbol, said=f"{symbol}: {one.words}") for one in _risen(found)]
    if inputs is not None and inputs.drifted:
        alerts.append(Alert(rule="drifting", symbol=symbol, said=f"{symbol}: {inputs.words}"))
    return alerts


def _risen(found: Outcomes) -> list[Loss]:
    """Return which losses rose in the second half of what is known, each to another level."""
    came = found.came_log_rv
    model, simple = (np.square(came - found.log_rv[name]) for name in ("model", "HAR-X"))
    # What both find hard cancels out of a difference, so that it shows sooner that the model knows less than it did.
    series = {
        "volatility": model,
        "volatility over that of HAR-X": model - simple,
        "direction": log_loss(found.p_up, found.came_up),
    }
    settled = len(came) // 2 // found.horizon * found.horizon
    tail, since = np.arange(settled), np.arange(settled, len(came))
    seen = (
        worse(target, found.observed_at, lost, tail=tail, since=since, horizon=found.horizon)
        for target, lost in series.items()
    )
    return [one for one in seen if one is not None and one.drifted]
