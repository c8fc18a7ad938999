"""One walk through time: every forecaster learns from the past of each fold and forecasts the fold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from backsight_model import baselines, linear, rivals
from backsight_model.arrays import BoolArray, Float32Array, FloatArray, IntArray
from backsight_model.baselines import Har
from backsight_model.linear import Line
from backsight_model.rivals import Forecasts
from backsight_model.scaling import Scaler, fit_scaler
from backsight_model.settings import Settings
from backsight_model.splits import Fold, final_fit, walk_forward
from backsight_model.training import TrainingSet
from backsight_model.treatments import DECLARED, Treatments
from backsight_model.volatility import Returns, bar_returns

if TYPE_CHECKING:
    from backsight_model.lstm import Network

MODEL = "LSTM"
VOLATILITY_REFERENCES = ("HAR-X", "log-HAR", "persistence")
HAR_STRENGTH = 0.02
"""A touch of ridge: the terms of HAR are alike, and a year holds some hundred days that do not overlap."""
DIRECTION_REFERENCES = ("base rate", "persistence", "one-bar reversal")


@dataclass(frozen=True, kw_only=True)
class Straight:
    """What straight lines can learn from one training part, in closed form.

    Attributes
    ----------
    scaler : Scaler
        Of the features.
    har, harx : Har
        Volatility from its own past, and from the price and the clock; the network's first output corrects
        the second.
    residual_scale : float
        Training deviation of HAR-X's residual: the unit of the network's first output.
    line : Line
        The straight line under the network; without the LSTM it is the forecaster ``linear`` of
        volatility and ``logistic`` of direction.
    """

    scaler: Scaler
    har: Har
    harx: Har
    residual_scale: float
    line: Line


@dataclass(frozen=True, kw_only=True)
class Fitted(Straight):
    """All that one training part taught: what a bundle holds.

    Attributes
    ----------
    network : Network
        The two heads.
    """

    network: "Network"


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a warm refit goes on from.

    Attributes
    ----------
    scaler : Scaler
        Of the features, as the network learnt to read them.
    network : Network
    """

    scaler: Scaler
    network: "Network"


@dataclass(frozen=True, kw_only=True)
class Walk:
    """Forecasts made out of sample, for m instants over all folds, in time order.

    Attributes
    ----------
    samples : ndarray of shape (m,)
        Sample numbers in the training set.
    fold : ndarray of shape (m,)
        Fold number of each, from 1.
    log_rv : dict of str to ndarray of shape (m,)
        Forecast log realised variance by forecaster.
    p_up : dict of str to ndarray of shape (m,)
        Forecast P(up) by forecaster.
    below_mean : dict of str to ndarray of shape (m,)
        By how much each forecast of log realised variance lies below the log of the mean: half the training
        residual variance where the log is what is learnt, 0 for persistence.
    by_seed : dict of str to ndarray of shape (members, m)
        What each member of the network, which differ in their seed, says alone: log realised variance under
        ``volatility``, P(up) under ``direction``.
    clock_up : ndarray of shape (m,)
        The sign that the nearest training sample in time had: what knowing nothing but the clock says.
    epochs : tuple of tuple of int
        Per fold, the epochs each member of the network learnt.
    notes : tuple of str
        What went not as it should, by fold.
    """

    samples: IntArray
    fold: IntArray
    log_rv: dict[str, FloatArray]
    p_up: dict[str, FloatArray]
    below_mean: dict[str, FloatArray]
    by_seed: dict[str, FloatArray]
    clock_up: BoolArray
    epochs: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


def walk(
    data: TrainingSet,
    *,
    folds: int,
    embargo: timedelta,
    settings: Settings,
    seed: int,
    done: Callable[[str], None],
    window: timedelta | None = None,
) -> Walk:
    """Return out-of-sample forecasts of the model and of everything it has to beat.

    Parameters
    ----------
    data : TrainingSet
        Samples in time order.
    folds, embargo, window
        See `splits.walk_forward`.
    settings, seed
        Of the network; fold k trains with seed ``1000 * seed + 10 * k``.
    done : callable
        Is told in words after each fold.
    """
    parts = walk_forward(data.at, data.label_at, folds=folds, embargo=embargo, window=window)
    return over(data, parts, settings=settings, seed=seed, done=done)


def over(data: TrainingSet, parts: list[Fold], *, settings: Settings, seed: int, done: Callable[[str], None]) -> Walk:
    """Return the forecasts of given folds, as `walk` does."""
    returns = bar_returns(data.windows)
    made: list[Forecasts] = []
    alone: list[dict[str, FloatArray]] = []
    clock: list[BoolArray] = []
    epochs: list[tuple[int, ...]] = []
    for number, part in enumerate(parts, start=1):
        fitted = learn(data, part, settings=settings, seed=1000 * seed + 10 * number)
        made.append(_forecasts(data, part, fitted, returns, seed=seed))
        alone.append(_by_seed(data, part, fitted))
        clock.append(np.full(len(part.test), data.up[part.train[-1]]))
        epochs.append(fitted.network.epochs)
        done(f"fold {number} of {len(parts)}")
    sizes = [len(part.test) for part in parts]
    below = [
        {name: np.full(size, below) for name, below in one.below_mean.items()}
        for size, one in zip(sizes, made, strict=True)
    ]
    return Walk(
        samples=np.concatenate([part.test for part in parts]),
        fold=np.repeat(np.arange(1, len(parts) + 1), sizes),
        log_rv=_joined([one.log_rv for one in made]),
        p_up=_joined([one.p_up for one in made]),
        below_mean=_joined(below),
        by_seed={target: np.concatenate([one[target] for one in alone], axis=1) for target in alone[0]},
        clock_up=np.concatenate(clock),
        epochs=tuple(epochs),
        notes=tuple(f"fold {number}: {note}" for number, one in enumerate(made, start=1) for note in one.notes),
    )


def final(
    data: TrainingSet, *, embargo: timedelta, settings: Settings, seed: int, window: timedelta | None = None
) -> Fitted:
    """Return what is shipped: fitted on all samples or the last `window`, after the proof and unproven itself."""
    part = final_fit(data.at, data.label_at, embargo=embargo, window=window)
    return learn(data, part, settings=settings, seed=1000 * seed)


def learn(data: TrainingSet, part: Fold, *, settings: Settings, seed: int, warm: Start | None = None) -> Fitted:
    """Return what the training part of a fold teaches, from nothing or on from an earlier model.

    The test samples of the fold are never looked at. A warm start keeps the earlier scaling, which the weights of the
    earlier network mean something for, and learns the straight lines anew.
    """
    from backsight_model.lstm import train  # takes seconds, and reading verdicts does not need it

    lines = straight(data, part.train, treatments=settings.treatments, scaler=None if warm is None else warm.scaler)
    rows = lines.scaler.transform(data.windows.rows)
    newest = rows[data.windows.index[:, -1]]
    residual = (data.log_rv - lines.harx.predict(newest, data.windows.features)) / lines.residual_scale
    network = train(
        rows,
        data.windows.index,
        np.column_stack([residual, data.up]),
        fit=part.fit,
        valid=part.valid,
        line=_line(data, part.fit, newest, residual, lines.scaler),
        settled=lines.line,
        settings=settings,
        seed=seed,
        warm=None if warm is None else warm.network,
    )
    return Fitted(**vars(lines), network=network)


def straight(
    data: TrainingSet, train_on: IntArray, *, treatments: Treatments = DECLARED, scaler: Scaler | None = None
) -> Straight:
    """Return what straight lines learn from some samples, and from nothing else but a scaling that is given."""
    features = data.windows.features
    if scaler is None:
        scaler = fit_scaler(data.windows.rows[_used(data, train_on)], features, declared=treatments)
    newest = scaler.transform(data.windows.rows)[data.windows.index[:, -1]]
    har, harx = (
        baselines.fit_har(
            newest[train_on], data.log_rv[train_on], terms=terms, features=features, strength=HAR_STRENGTH
        )
        for terms in (baselines.HAR_TERMS, baselines.HARX_TERMS)
    )
    residual = data.log_rv - harx.predict(newest, features)
    scale = float(residual[train_on].std())
    line = _line(data, train_on, newest, residual / scale, scaler)
    return Straight(scaler=scaler, har=har, harx=harx, residual_scale=scale, line=line)


def _line(data: TrainingSet, which: IntArray, newest: Float32Array, residual: FloatArray, scaler: Scaler) -> Line:
    strength = linear.penalty(float(np.square(scaler.weight).sum()), len(which) / data.horizon)
    return linear.heads(newest[which], residual[which], data.up[which], strength=strength)


def _forecasts(data: TrainingSet, part: Fold, fitted: Fitted, returns: Returns, *, seed: int) -> Forecasts:
    features = data.windows.features
    rows = fitted.scaler.transform(data.windows.rows)
    newest = rows[data.windows.index[:, -1]]
    harx = fitted.harx.predict(newest, features)
    straight = fitted.line.predict(newest[part.test])
    output = fitted.network.predict(rows, data.windows.index[part.test])
    volatility = rivals.of_volatility(data, part, returns=returns, harx=harx, seed=seed)
    direction = rivals.of_direction(data, part, seed=seed)
    below = 0.5 * fitted.harx.residual_variance
    return Forecasts(
        log_rv=volatility.log_rv
        | {
            "log-HAR": fitted.har.predict(newest[part.test], features),
            "HAR-X": harx[part.test],
            "linear": harx[part.test] + fitted.residual_scale * straight[:, 0],
            MODEL: harx[part.test] + fitted.residual_scale * output[:, 0],
        },
        below_mean=volatility.below_mean
        | {"log-HAR": 0.5 * fitted.har.residual_variance, "HAR-X": below, "linear": below, MODEL: below},
        p_up=direction.p_up | {"logistic": _sigmoid(straight[:, 1]), MODEL: _sigmoid(output[:, 1])},
        notes=volatility.notes,
    )


def _by_seed(data: TrainingSet, part: Fold, fitted: Fitted) -> dict[str, FloatArray]:
    rows, test = fitted.scaler.transform(data.windows.rows), data.windows.index[part.test]
    output = fitted.network.predict_each(rows, test)
    harx = fitted.harx.predict(rows[test[:, -1]], data.windows.features)
    return {
        "volatility": harx + fitted.residual_scale * output[:, :, 0],
        "direction": _sigmoid(output[:, :, 1]),
    }


def _used(data: TrainingSet, samples: IntArray) -> BoolArray:
    """Return which rows some samples can see; the gap row is none of them."""
    used = np.zeros(len(data.windows.rows), dtype=bool)
    used[data.windows.index[samples]] = True
    used[-1] = False
    return used


def _sigmoid(logit: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float64)


def _joined(parts: list[dict[str, FloatArray]]) -> dict[str, FloatArray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
