"""The forecasters that the model is shown beside: each learns from a fold's training part and forecasts its test."""

from dataclasses import dataclass, field, replace

import numpy as np

from backsight_model import baselines, volatility
from backsight_model.arrays import FloatArray
from backsight_model.baselines import HAR_TERMS
from backsight_model.boosted import boost
from backsight_model.splits import Fold
from backsight_model.training import TrainingSet
from backsight_model.volatility import Returns


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What some forecasters say of the m samples of a test block.

    Attributes
    ----------
    log_rv : dict of str to ndarray of shape (m,)
        Log realised variance, by forecaster.
    below_mean : dict of str to float
        By how much each of them lies below the log of the mean variance.
    p_up : dict of str to ndarray of shape (m,)
        Probability of a rise, by forecaster.
    quantiles : dict of str to ndarray of shape (m, Q)
        Quantiles of the log return, by forecaster.
    notes : tuple of str
        What a reader has to know about them.
    """

    log_rv: dict[str, FloatArray]
    below_mean: dict[str, float]
    p_up: dict[str, FloatArray]
    quantiles: dict[str, FloatArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of_volatility(data: TrainingSet, part: Fold, *, returns: Returns, harx: FloatArray, seed: int) -> Forecasts:
    """Return the forecasts of persistence, EWMA, GARCH, HAR in levels and LightGBM.

    EWMA, GARCH and HAR forecast the mean of the variance; the log of it lies above the log that is to be
    expected, in training by so much on average, and is brought down by that. What they say of the variance
    itself stays as it was.

    Parameters
    ----------
    data : TrainingSet
        n samples of one symbol.
    part : Fold
    returns : Returns
        `volatility.bar_returns` of the windows.
    harx : ndarray of shape (n,)
        HAR-X's forecast of log realised variance at every sample: LightGBM learns what it leaves.
    seed : int
        Of LightGBM.
    """
    place = returns.place(data.windows.observed_at)
    learnt = slice(int(place[part.train].min()), int(place[part.train].max()) + 1)
    garch = volatility.fit_garch(replace(returns, closes=returns.closes[learnt], values=returns.values[learnt]))
    past = np.exp(np.column_stack([data.newest(term) for term in HAR_TERMS]))
    means = {
        "EWMA": volatility.ewma(returns, horizon=data.horizon)[place],
        "GARCH": garch.ahead(returns, horizon=data.horizon)[place],
        "HAR": volatility.har_levels(past, np.exp(data.log_rv), train=part.train),
    }
    log_rv = {"persistence": data.last_log_rv[part.test]}
    below_mean = {"persistence": 0.0}
    for name, mean in means.items():
        # Right after the first bars EWMA may have seen no price move.
        usable = part.train[mean[part.train] > 0]
        below_mean[name] = float((np.log(mean[usable]) - data.log_rv[usable]).mean())
        log_rv[name] = np.log(mean[part.test]) - below_mean[name]
    added = boost(
        data.windows.rows[data.windows.index[:, -1]],
        data.log_rv,
        fit=part.fit,
        valid=part.valid,
        objective="regression",
        start=harx,
        horizon=data.horizon,
        seed=seed,
    )
    forecast = harx + added
    log_rv["LightGBM"] = forecast[part.test]
    below_mean["LightGBM"] = 0.5 * float((data.log_rv - forecast)[part.valid].var())
    notes = () if garch.converged else ("GARCH: the optimiser stopped before it had arrived.",)
    return Forecasts(log_rv=log_rv, below_mean=below_mean, p_up={}, notes=notes)


def of_direction(data: TrainingSet, part: Fold, *, seed: int) -> Forecasts:
    """Return the forecasts of the base rate, persistence, one-bar reversal and LightGBM."""
    train, test = part.train, part.test
    rose, bounced = data.last_day_up, data.last_bar_down
    rate = baselines.base_rate(data.up[train])
    start = np.full(len(data), np.log(rate / (1.0 - rate)))
    added = boost(
        data.windows.rows[data.windows.index[:, -1]],
        data.up.astype(np.float64),
        fit=part.fit,
        valid=part.valid,
        objective="binary",
        start=start,
        horizon=data.horizon,
        seed=seed,
    )
    p_up = {
        "base rate": np.full(len(test), rate),
        "persistence": baselines.frequency_given(rose[train], data.up[train], on=rose[test]),
        "one-bar reversal": baselines.frequency_given(bounced[train], data.up[train], on=bounced[test]),
        "LightGBM": 1.0 / (1.0 + np.exp(-(start + added)[test])),
    }
    return Forecasts(log_rv={}, below_mean={}, p_up=p_up)
