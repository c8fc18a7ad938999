"""One walk through time: every forecaster learns from the past of each fold and forecasts the fold."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from backsight_model import baselines, linear
from backsight_model.arrays import BoolArray, FloatArray, IntArray
from backsight_model.baselines import Har
from backsight_model.linear import Line
from backsight_model.scaling import Scaler, fit_scaler
from backsight_model.settings import Settings
from backsight_model.splits import Fold, final_fit, walk_forward
from backsight_model.training import TrainingSet

if TYPE_CHECKING:
    from backsight_model.lstm import Network

MODEL = "LSTM"
VOLATILITY_REFERENCES = ("HAR-X", "HAR", "persistence")
HAR_STRENGTH = 0.02
"""A touch of ridge: the terms of HAR are alike, and a year holds some hundred days that do not overlap."""
DIRECTION_REFERENCES = ("base rate", "persistence", "one-bar reversal")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """All that one training part taught: what a bundle holds.

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
    network : Network
        The two heads.
    """

    scaler: Scaler
    har: Har
    harx: Har
    residual_scale: float
    line: Line
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
        residual variance, 0 for persistence.
    clock_up : ndarray of shape (m,)
        The sign that the nearest training sample in time had: what knowing nothing but the clock says.
    epochs : tuple of tuple of int
        Per fold, the epochs each member of the network learnt.
    """

    samples: IntArray
    fold: IntArray
    log_rv: dict[str, FloatArray]
    p_up: dict[str, FloatArray]
    below_mean: dict[str, FloatArray]
    clock_up: BoolArray
    epochs: tuple[tuple[int, ...], ...]


def walk(
    data: TrainingSet,
    *,
    folds: int,
    embargo: timedelta,
    settings: Settings,
    seed: int,
    done: Callable[[str], None],
) -> Walk:
    """Return out-of-sample forecasts of the model and of everything it has to beat.

    Parameters
    ----------
    data : TrainingSet
        Samples in time order.
    folds, embargo
        See `splits.walk_forward`.
    settings, seed
        Of the network; fold k trains with seed ``1000 * seed + 10 * k``.
    done : callable
        Is told in words after each fold.
    """
    parts = walk_forward(data.at, data.label_at, folds=folds, embargo=embargo)
    log_rv: list[dict[str, FloatArray]] = []
    p_up: list[dict[str, FloatArray]] = []
    below: list[dict[str, FloatArray]] = []
    clock: list[BoolArray] = []
    epochs: list[tuple[int, ...]] = []
    for number, part in enumerate(parts, start=1):
        fitted = learn(data, part, settings=settings, seed=1000 * seed + 10 * number)
        volatility, direction = _forecasts(data, part, fitted)
        log_rv.append(volatility)
        p_up.append(direction)
        below.append({name: np.full(len(part.test), _below_mean(name, fitted)) for name in volatility})
        clock.append(np.full(len(part.test), data.up[part.train[-1]]))
        epochs.append(fitted.network.epochs)
        done(f"fold {number} of {folds}")
    return Walk(
        samples=np.concatenate([part.test for part in parts]),
        fold=np.concatenate([np.full(len(part.test), number) for number, part in enumerate(parts, start=1)]),
        log_rv=_joined(log_rv),
        p_up=_joined(p_up),
        below_mean=_joined(below),
        clock_up=np.concatenate(clock),
        epochs=tuple(epochs),
    )


def final(data: TrainingSet, *, embargo: timedelta, settings: Settings, seed: int) -> Fitted:
    """Return what is shipped: fitted on all samples, after the proof and unproven itself."""
    part = final_fit(data.at, data.label_at, embargo=embargo)
    return learn(data, part, settings=settings, seed=1000 * seed)


def learn(data: TrainingSet, part: Fold, *, settings: Settings, seed: int) -> Fitted:
    """Return what the training part of a fold teaches; its test samples are never looked at."""
    from backsight_model.lstm import train  # takes seconds, and reading verdicts does not need it

    train_on, features = part.train, data.windows.features
    scaler = fit_scaler(data.windows.rows[_used(data, train_on)], features)
    rows = scaler.transform(data.windows.rows)
    newest = rows[data.windows.index[:, -1]]
    har, harx = (
        baselines.fit_har(
            newest[train_on], data.log_rv[train_on], terms=terms, features=features, strength=HAR_STRENGTH
        )
        for terms in (baselines.HAR_TERMS, baselines.HARX_TERMS)
    )
    residual = data.log_rv - harx.predict(newest, features)
    residual_scale = float(residual[train_on].std())

    def line(which: IntArray) -> Line:
        strength = linear.penalty(float(np.square(scaler.weight).sum()), len(which) / data.horizon)
        return linear.heads(newest[which], residual[which] / residual_scale, data.up[which], strength=strength)

    settled = line(train_on)
    network = train(
        rows,
        data.windows.index,
        np.column_stack([residual / residual_scale, data.up]),
        fit=part.fit,
        valid=part.valid,
        line=line(part.fit),
        settled=settled,
        settings=settings,
        seed=seed,
    )
    return Fitted(scaler=scaler, har=har, harx=harx, residual_scale=residual_scale, line=settled, network=network)


def _forecasts(data: TrainingSet, part: Fold, fitted: Fitted) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    test, train_on, features = part.test, part.train, data.windows.features
    rows = fitted.scaler.transform(data.windows.rows)
    newest = rows[data.windows.index[test, -1]]
    harx = fitted.harx.predict(newest, features)
    straight = fitted.line.predict(newest)
    output = fitted.network.predict(rows, data.windows.index[test])
    log_rv = {
        "persistence": data.last_log_rv[test],
        "HAR": fitted.har.predict(newest, features),
        "HAR-X": harx,
        "linear": harx + fitted.residual_scale * straight[:, 0],
        MODEL: harx + fitted.residual_scale * output[:, 0],
    }
    rose, bounced = data.last_day_up, data.last_bar_down
    p_up = {
        "base rate": np.full(len(test), baselines.base_rate(data.up[train_on])),
        "persistence": baselines.frequency_given(rose[train_on], data.up[train_on], on=rose[test]),
        "one-bar reversal": baselines.frequency_given(bounced[train_on], data.up[train_on], on=bounced[test]),
        "logistic": _sigmoid(straight[:, 1]),
        MODEL: _sigmoid(output[:, 1]),
    }
    return log_rv, p_up


def _below_mean(forecaster: str, fitted: Fitted) -> float:
    if forecaster == "persistence":
        return 0.0
    return 0.5 * (fitted.har if forecaster == "HAR" else fitted.harx).residual_variance


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
