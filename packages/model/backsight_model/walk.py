"""One walk through time: every forecaster learns from the past of each fold and forecasts the fold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
from backsight_features.errors import BadInput

from backsight_model import baselines, linear, rivals
from backsight_model.arrays import BoolArray, Float32Array, FloatArray, IntArray
from backsight_model.baselines import Har
from backsight_model.drift import Reference, references
from backsight_model.instants import Instants
from backsight_model.linear import LOGIT, OUTPUTS, QUANTILES, RESIDUAL, Line
from backsight_model.quantiles import GAUSSIAN, LEVELS
from backsight_model.rivals import OWN, Forecasts
from backsight_model.scaling import Scaler, fit_scaler
from backsight_model.settings import Settings
from backsight_model.splits import Fold, final_fit, walk_forward
from backsight_model.training import TrainingSet
from backsight_model.treatments import DECLARED, Treatments
from backsight_model.volatility import Returns, bar_returns

if TYPE_CHECKING:
    from backsight_model.lstm import Network

MODEL = "LSTM"
VOLATILITY_REFERENCES = ("HAR-X", "log-HAR", "persistence", OWN)
DIRECTION_REFERENCES = ("base rate", "persistence", "one-bar reversal")
RETURN_REFERENCES = ("HAR-X", "persistence", OWN)
REFERENCES = {"volatility": VOLATILITY_REFERENCES, "direction": DIRECTION_REFERENCES, "return": RETURN_REFERENCES}
"""What skill in a target has to beat, where it was made; the first of each is what has to be beaten first."""
LEAST_HORIZONS = 10
"""Labels that do not overlap, of a symbol, without which a fold does not test it."""


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
    scaled_quantiles : ndarray of shape (Q,)
        Training quantiles of the return over the deviation that HAR-X forecast.
    line : Line
        The straight lines under the network; without the LSTM they are the forecaster ``linear`` of volatility and
        return, and ``logistic`` of direction.
    """

    scaler: Scaler
    har: Har
    harx: Har
    residual_scale: float
    scaled_quantiles: FloatArray
    line: Line


@dataclass(frozen=True, kw_only=True)
class Fitted(Straight):
    """All that one training part taught: what a bundle holds.

    Attributes
    ----------
    network : Network
        What an LSTM makes of the lines of all horizons.
    inputs : dict of str to Reference
        By symbol, how the newest slots were distributed that were learnt from.
    further : tuple of Straight
        The lines of further horizons.
    """

    network: "Network"
    inputs: dict[str, Reference]
    further: tuple[Straight, ...] = ()

    @property
    def views(self) -> tuple[Straight, ...]:
        """The lines of each horizon, the main one first."""
        return (self, *self.further)


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
    """Forecasts made out of sample, for m samples over all folds, in time order.

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
    quantiles : dict of str to ndarray of shape (m, Q)
        Forecast quantiles of the log return, of levels `quantiles.LEVELS`, by forecaster.
    below_mean : dict of str to ndarray of shape (m,)
        By how much each forecast of log realised variance lies below the log of the mean: half the training
        residual variance where the log is what is learnt, 0 for persistence.
    by_seed : dict of str to ndarray of shape (members, m) or (members, m, Q)
        What each member of the network, which differ in their seed, says alone: log realised variance under
        ``volatility``, P(up) under ``direction``, quantiles under ``return``.
    clock_up : ndarray of shape (m,)
        The sign that the nearest training sample in time had: what knowing nothing but the clock says.
    epochs : tuple of tuple of int
        Per fold, the epochs each member of the network learnt.
    notes : tuple of str
        What went not as it should, by fold.
    further : tuple of Walk
        The same samples over further horizons.
    """

    samples: IntArray
    fold: IntArray
    log_rv: dict[str, FloatArray]
    p_up: dict[str, FloatArray]
    quantiles: dict[str, FloatArray]
    below_mean: dict[str, FloatArray]
    by_seed: dict[str, FloatArray]
    clock_up: BoolArray
    epochs: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]
    further: tuple["Walk", ...] = ()

    @property
    def views(self) -> tuple["Walk", ...]:
        """The walk of each horizon, the main one first."""
        return (self, *self.further)

    def some(self, which: IntArray, *, samples: IntArray) -> "Walk":
        """Return what was said of some of the m samples, whose numbers in a training set of their own are `samples`."""

        def of(said: dict[str, FloatArray]) -> dict[str, FloatArray]:
            return {name: values[which] for name, values in said.items()}

        return replace(
            self,
            samples=samples,
            fold=self.fold[which],
            log_rv=of(self.log_rv),
            p_up=of(self.p_up),
            quantiles=of(self.quantiles),
            below_mean=of(self.below_mean),
            by_seed={target: values[:, which] for target, values in self.by_seed.items()},
            clock_up=self.clock_up[which],
            further=tuple(one.some(which, samples=samples) for one in self.further),
        )


def apart(data: TrainingSet, walked: Walk) -> dict[str, tuple[TrainingSet, Walk]]:
    """Return the samples of each symbol that a walk said something of, and what it said, as if there were no others."""
    by_symbol = data.by_symbol
    if len(by_symbol) == 1:
        return dict.fromkeys(by_symbol, (data, walked))
    alone = {}
    for symbol, which in by_symbol.items():
        mine = np.flatnonzero(np.isin(walked.samples, which))
        if len(mine):
            samples = np.searchsorted(which, walked.samples[mine])
            alone[symbol] = (data.some(which), walked.some(mine, samples=samples))
    return alone


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What was said of one test block over one horizon."""

    forecasts: Forecasts
    by_seed: dict[str, FloatArray]
    clock_up: BoolArray
    epochs: tuple[int, ...]


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


def over(data: TrainingSet, whole: list[Fold], *, settings: Settings, seed: int, done: Callable[[str], None]) -> Walk:
    """Return the forecasts of given folds, as `walk` does."""
    returns = {symbol: bar_returns(data.some(which).windows) for symbol, which in data.by_symbol.items()}
    parts = [_of_known(data, part) for part in whole]
    made: list[list[_Block]] = []
    for number, part in enumerate(parts, start=1):
        fitted = learn(data, part, settings=settings, seed=1000 * seed + 10 * number)
        made.append(_blocks(data, part, fitted, returns, seed=seed))
        done(f"fold {number} of {len(parts)}")
    main, *further = (_put_together(parts, list(blocks)) for blocks in zip(*made, strict=True))
    return replace(main, further=tuple(further), notes=(*_left_out(data, whole, parts), *main.notes))


def _left_out(data: TrainingSet, whole: list[Fold], tested: list[Fold]) -> list[str]:
    """Return in words which symbols are left out of which folds."""
    return [
        f"fold {number}: too little of {symbol} was known before, and it is not judged."
        for number, (before, after) in enumerate(zip(whole, tested, strict=True), start=1)
        for symbol, which in data.by_symbol.items()
        if np.isin(before.test, which).any() and not np.isin(after.test, which).any()
    ]


def _of_known(data: TrainingSet, part: Fold) -> Fold:
    """Return a fold that tests the symbols it learns enough of; of one that has hardly begun nothing can be said yet.

    Where none has so much, the one with most is tested.

    Raises
    ------
    BadInput
        Where nothing is left to be tested.
    """
    by_symbol = data.by_symbol
    learnt = {symbol: int(np.isin(part.train, which).sum()) for symbol, which in by_symbol.items()}
    least = min(LEAST_HORIZONS * data.horizon, max(learnt.values()))
    known = [symbol for symbol, count in learnt.items() if count >= least]
    test = part.test[np.isin(part.test, np.concatenate([by_symbol[symbol] for symbol in known]))]
    if len(test) == 0:
        raise BadInput(
            f"the test block from {part.start} on has no sample of {', '.join(known)}, and of nothing else enough was "
            "known before: need fewer folds, or other bars"
        )
    return replace(part, test=test)


def _put_together(parts: list[Fold], blocks: list[_Block]) -> Walk:
    sizes, made = [len(part.test) for part in parts], [block.forecasts for block in blocks]
    alone = [block.by_seed for block in blocks]
    return Walk(
        samples=np.concatenate([part.test for part in parts]),
        fold=np.repeat(np.arange(1, len(parts) + 1), sizes),
        log_rv=_joined([one.log_rv for one in made]),
        p_up=_joined([one.p_up for one in made]),
        quantiles=_joined([one.quantiles for one in made]),
        below_mean=_joined([one.below_mean for one in made]),
        by_seed={target: np.concatenate([one[target] for one in alone], axis=1) for target in alone[0]},
        clock_up=np.concatenate([block.clock_up for block in blocks]),
        epochs=tuple(block.epochs for block in blocks),
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

    lines = outlooks(data, part.train, treatments=settings.treatments, scaler=None if warm is None else warm.scaler)
    scaler = lines[0].scaler
    rows = scaler.transform(data.windows.rows)
    newest = rows[data.windows.index[:, -1]]
    wanted = targets(data, lines, newest)
    begun = [
        _line(view, part.fit, newest, of_one, scaler, unit=one.residual_scale)
        for view, one, of_one in zip(data.views, lines, np.split(wanted, len(lines), axis=1), strict=True)
    ]
    network = train(
        rows,
        data.windows.index,
        wanted,
        at=data.at,
        fit=part.fit,
        valid=part.valid,
        line=linear.joined(begun),
        settled=linear.joined([one.line for one in lines]),
        settings=settings,
        seed=seed,
        warm=None if warm is None else warm.network,
    )
    inputs = references(
        data.windows.rows[data.windows.index[part.train, -1]], data.windows.symbol[part.train], data.windows.features
    )
    return Fitted(**vars(lines[0]), network=network, inputs=inputs, further=lines[1:])


def outlooks(
    data: TrainingSet, train_on: IntArray, *, treatments: Treatments = DECLARED, scaler: Scaler | None = None
) -> tuple[Straight, ...]:
    """Return what straight lines learn of each horizon, the main one first; they share the scaling."""
    main, *further = data.views
    first = straight(main, train_on, treatments=treatments, scaler=scaler)
    return (first, *(straight(view, train_on, scaler=first.scaler) for view in further))


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
            newest[train_on], data.log_rv[train_on], terms=terms, features=features, strength=baselines.HAR_STRENGTH
        )
        for terms in (baselines.HAR_TERMS, baselines.HARX_TERMS)
    )
    forecast = harx.predict(newest, features)
    unit = float((data.log_rv - forecast)[train_on].std())
    wanted = _wanted(data, forecast, unit)
    return Straight(
        scaler=scaler,
        har=har,
        harx=harx,
        residual_scale=unit,
        scaled_quantiles=np.quantile(wanted[train_on, 2], LEVELS),
        line=_line(data, train_on, newest, wanted, scaler, unit=unit),
    )


def targets(data: TrainingSet, lines: Sequence[Straight], newest: Float32Array) -> FloatArray:
    """Return what the network is to say, shape (n, 3 K), for scaled newest rows (n, C).

    Of each horizon in turn, the residual of HAR-X in units of its training deviation, 1 where the price rose, and the
    return over the deviation that HAR-X forecast.
    """
    features = data.windows.features
    each = zip(data.views, lines, strict=True)
    return np.hstack([_wanted(view, one.harx.predict(newest, features), one.residual_scale) for view, one in each])


def _wanted(data: TrainingSet, harx: FloatArray, unit: float) -> FloatArray:
    return np.column_stack([(data.log_rv - harx) / unit, data.up, data.log_return * np.exp(-0.5 * harx)])


def _line(
    data: TrainingSet, which: IntArray, newest: Float32Array, wanted: FloatArray, scaler: Scaler, *, unit: float
) -> Line:
    independent = len(Instants.of(data.at[which])) / data.horizon
    strength = linear.penalty(float(np.square(scaler.weight).sum()), independent)
    residual, _, scaled = wanted[which].T
    return linear.heads(newest[which], residual, data.up[which], scaled, unit=unit, strength=strength)


def _blocks(
    data: TrainingSet, part: Fold, fitted: Fitted, returns: Mapping[str, Returns], *, seed: int
) -> list[_Block]:
    """Return what was said of a test block, by horizon."""
    rows, test = fitted.scaler.transform(data.windows.rows), data.windows.index[part.test]
    newest = rows[data.windows.index[:, -1]]
    each = fitted.network.predict_each(rows, test)
    output = each.mean(axis=0)
    made = []
    for place, (view, lines) in enumerate(zip(data.views, fitted.views, strict=True)):
        mine = slice(place * OUTPUTS, (place + 1) * OUTPUTS)
        harx = lines.harx.predict(newest, data.windows.features)
        made.append(
            _Block(
                forecasts=_forecasts(view, part, lines, newest, harx, output[:, mine], returns, seed=seed),
                by_seed=_by_seed(lines, harx[part.test], each[:, :, mine]),
                clock_up=rivals.clock(view, part),
                epochs=fitted.network.epochs,
            )
        )
    return made


def _forecasts(
    data: TrainingSet,
    part: Fold,
    lines: Straight,
    newest: Float32Array,
    harx: FloatArray,
    output: FloatArray,
    returns: Mapping[str, Returns],
    *,
    seed: int,
) -> Forecasts:
    straight = lines.line.predict(newest[part.test])
    volatility = rivals.of_volatility(data, part, returns=returns, harx=harx, seed=seed)
    direction = rivals.of_direction(data, part, seed=seed)
    forecast, below = harx[part.test], np.full(len(part.test), 0.5 * lines.harx.residual_variance)
    deviation = np.exp(0.5 * forecast)[:, None]
    own = rivals.of_own_harx(data, part, newest)
    return Forecasts(
        log_rv=volatility.log_rv
        | own.log_rv
        | {
            "log-HAR": lines.har.predict(newest[part.test], data.windows.features),
            "HAR-X": forecast,
            "linear": forecast + lines.residual_scale * straight[:, RESIDUAL],
            MODEL: forecast + lines.residual_scale * output[:, RESIDUAL],
        },
        below_mean=volatility.below_mean
        | own.below_mean
        | {
            "log-HAR": np.full(len(part.test), 0.5 * lines.har.residual_variance),
            "HAR-X": below,
            "linear": below,
            MODEL: below,
        },
        p_up=direction.p_up | {"logistic": _sigmoid(straight[:, LOGIT]), MODEL: _sigmoid(output[:, LOGIT])},
        quantiles=own.quantiles
        | {
            "persistence": np.exp(0.5 * data.last_log_rv[part.test])[:, None] * GAUSSIAN,
            "HAR-X": deviation * lines.scaled_quantiles,
            "linear": deviation * straight[:, QUANTILES],
            MODEL: deviation * output[:, QUANTILES],
        },
        notes=volatility.notes,
    )


def _by_seed(lines: Straight, harx: FloatArray, each: FloatArray) -> dict[str, FloatArray]:
    return {
        "volatility": harx + lines.residual_scale * each[:, :, RESIDUAL],
        "direction": _sigmoid(each[:, :, LOGIT]),
        "return": np.exp(0.5 * harx)[:, None] * each[:, :, QUANTILES],
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
