"""The forecasters that the model is shown beside: each learns from a fold's training part and forecasts its test."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from backsight_model import baselines, volatility
from backsight_model.arrays import BoolArray, Float32Array, FloatArray
from backsight_model.baselines import HAR_TERMS
from backsight_model.boosted import boost
from backsight_model.instants import Instants
from backsight_model.quantiles import LEVELS
from backsight_model.splits import Fold
from backsight_model.training import TrainingSet
from backsight_model.volatility import Returns

OWN = "own HAR-X"
"""HAR-X of each symbol, fitted on nothing else: where there are several, they have to be better together than apart."""


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """What some forecasters say of the m samples of a test block.

    Attributes
    ----------
    log_rv : dict of str to ndarray of shape (m,)
        Log realised variance, by forecaster.
    below_mean : dict of str to ndarray of shape (m,)
        By how much each of them lies below the log of the mean variance.
    p_up : dict of str to ndarray of shape (m,)
        Probability of a rise, by forecaster.
    quantiles : dict of str to ndarray of shape (m, Q)
        Quantiles of the log return, by forecaster.
    notes : tuple of str
        What a reader has to know about them.
    """

    log_rv: dict[str, FloatArray]
    below_mean: dict[str, FloatArray]
    p_up: dict[str, FloatArray]
    quantiles: dict[str, FloatArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def of_volatility(
    data: TrainingSet, part: Fold, *, returns: Mapping[str, Returns], harx: FloatArray, seed: int
) -> Forecasts:
    """Return the forecasts of persistence, EWMA, GARCH, HAR in levels and LightGBM.

    All but LightGBM look at one symbol each. EWMA, GARCH and HAR forecast the mean of the variance; the log of it lies
    above the log that is to be expected, in training by so much on average, and is brought down by that. What they say
    of the variance itself stays as it was.

    Parameters
    ----------
    data : TrainingSet
        n samples.
    part : Fold
        Each symbol of its test has training samples.
    returns : dict of str to Returns
        `volatility.bar_returns` of the windows of each symbol.
    harx : ndarray of shape (n,)
        HAR-X's forecast of log realised variance at every sample: LightGBM learns what it leaves.
    seed : int
        Of LightGBM.
    """
    alone = {}
    for symbol, which in data.by_symbol.items():
        if np.isin(part.test, which).any():
            of_symbol = _of_returns(data.some(which), part.within(which), returns[symbol])
            alone[symbol] = (np.isin(part.test, which), of_symbol)
    log_rv, below_mean = (
        _together(len(part.test), [(mine, getattr(said, what)) for mine, said in alone.values()])
        for what in ("log_rv", "below_mean")
    )
    added = _boosted(data, part, data.log_rv, objective="regression", start=harx, seed=seed)
    forecast = harx + added
    log_rv["LightGBM"] = forecast[part.test]
    below_mean["LightGBM"] = np.full(len(part.test), 0.5 * float((data.log_rv - forecast)[part.valid].var()))
    notes = tuple(
        note if len(data.by_symbol) == 1 else f"{symbol}, {note}"
        for symbol, (_, said) in alone.items()
        for note in said.notes
    )
    return Forecasts(log_rv=log_rv, below_mean=below_mean, p_up={}, notes=notes)


def _of_returns(data: TrainingSet, part: Fold, returns: Returns) -> Forecasts:
    """Return what is forecast from the returns of one symbol, whose only samples `data` holds."""
    place = returns.place(data.windows.observed_at)
    learnt = slice(int(place[part.train].min()), int(place[part.train].max()) + 1)
    garch = volatility.fit_garch(replace(returns, closes=returns.closes[learnt], values=returns.values[learnt]))
    past = np.exp(np.column_stack([data.newest(term) for term in HAR_TERMS]))
    means = {
        "EWMA": volatility.ewma(returns, horizon=data.horizon)[place],
        "GARCH": garch.ahead(returns, horizon=data.horizon)[place],
        "HAR": volatility.har_levels(past, np.exp(data.log_rv), train=part.train),
    }
    count = len(part.test)
    log_rv = {"persistence": data.last_log_rv[part.test]}
    below_mean = {"persistence": np.zeros(count)}
    for name, mean in means.items():
        # Right after the first bars EWMA may have seen no price move.
        usable = part.train[mean[part.train] > 0]
        below = float((np.log(mean[usable]) - data.log_rv[usable]).mean())
        below_mean[name] = np.full(count, below)
        log_rv[name] = np.log(mean[part.test]) - below
    notes = () if garch.converged else ("GARCH: the optimiser stopped before it had arrived.",)
    return Forecasts(log_rv=log_rv, below_mean=below_mean, p_up={}, notes=notes)


def _together(count: int, parts: list[tuple[BoolArray, dict[str, FloatArray]]]) -> dict[str, FloatArray]:
    """Return by name, shape (count,), what was said of the samples of each symbol."""
    whole = {name: np.empty(count) for name in parts[0][1]}
    for mine, said in parts:
        for name, values in said.items():
            whole[name][mine] = values
    return whole


def of_direction(data: TrainingSet, part: Fold, *, seed: int) -> Forecasts:
    """Return the forecasts of the base rate, persistence, one-bar reversal and LightGBM."""
    train, test = part.train, part.test
    rose, bounced = data.last_day_up, data.last_bar_down
    rate = baselines.base_rate(data.up[train])
    start = np.full(len(data), np.log(rate / (1.0 - rate)))
    added = _boosted(data, part, data.up.astype(np.float64), objective="binary", start=start, seed=seed)
    p_up = {
        "base rate": np.full(len(test), rate),
        "persistence": baselines.frequency_given(rose[train], data.up[train], on=rose[test]),
        "one-bar reversal": baselines.frequency_given(bounced[train], data.up[train], on=bounced[test]),
        "LightGBM": 1.0 / (1.0 + np.exp(-(start + added)[test])),
    }
    return Forecasts(log_rv={}, below_mean={}, p_up=p_up)


def _boosted(
    data: TrainingSet, part: Fold, wanted: FloatArray, *, objective: str, start: FloatArray, seed: int
) -> FloatArray:
    """Return what trees on the newest row of each window add to a start, for all samples."""
    return boost(
        data.windows.rows[data.windows.index[:, -1]],
        wanted,
        fit=part.fit,
        valid=part.valid,
        objective=objective,
        start=start,
        overlap=data.horizon * Instants.of(data.at[part.fit]).shared,
        seed=seed,
    )


def of_own_harx(data: TrainingSet, part: Fold, newest: Float32Array) -> Forecasts:
    """Return what HAR-X says that was fitted on each symbol alone; nothing where there is one symbol.

    Parameters
    ----------
    data : TrainingSet
        n samples.
    part : Fold
        Each symbol of its test has training samples.
    newest : ndarray of shape (n, C)
        Scaled newest rows.
    """
    by_symbol, features, count = data.by_symbol, data.windows.features, len(part.test)
    said = Forecasts(log_rv={}, below_mean={}, p_up={})
    if len(by_symbol) == 1:
        return said
    log_rv, below, quantiles = np.empty(count), np.empty(count), np.empty((count, len(LEVELS)))
    for which in by_symbol.values():
        mine, train = np.isin(part.test, which), part.train[np.isin(part.train, which)]
        if mine.any():
            harx = baselines.fit_har(
                newest[train],
                data.log_rv[train],
                terms=baselines.HARX_TERMS,
                features=features,
                strength=baselines.HAR_STRENGTH,
            )
            forecast = harx.predict(newest, features)
            scaled = (data.log_return * np.exp(-0.5 * forecast))[train]
            log_rv[mine], below[mine] = forecast[part.test[mine]], 0.5 * harx.residual_variance
            quantiles[mine] = np.exp(0.5 * log_rv[mine])[:, None] * np.quantile(scaled, LEVELS)
    return replace(said, log_rv={OWN: log_rv}, below_mean={OWN: below}, quantiles={OWN: quantiles})


def clock(data: TrainingSet, part: Fold) -> BoolArray:
    """Return the sign that the newest training sample of the same symbol had, for each sample of the test."""
    said = np.empty(len(part.test), dtype=bool)
    for which in data.by_symbol.values():
        mine = np.isin(part.test, which)
        if mine.any():
            said[mine] = data.up[part.train[np.isin(part.train, which)][-1]]
    return said
