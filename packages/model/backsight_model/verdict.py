"""The verdict: what the walk proved, in numbers and in words that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from backsight_model.arrays import BoolArray, FloatArray, IntArray, TimeArray
from backsight_model.instants import Instants
from backsight_model.proof import LEVEL, Claim, Comparison, Directional, compare, judge, pesaran_timmermann_of_several
from backsight_model.quantiles import pinball
from backsight_model.trading import Traded, Trading
from backsight_model.training import TrainingSet
from backsight_model.walk import MODEL, REFERENCES, Walk
from backsight_model.words import listed

LAGS_PER_HORIZON = 4
TARGETS = tuple(REFERENCES)
QLIKE = "volatility, QLIKE"
LINES = ("linear", "logistic")
UNITS = {
    "volatility": "mean squared error of log realised variance",
    "direction": "log loss of P(up)",
    "return": "mean pinball loss of the log return in percent",
}


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What every forecaster lost at every instant of a walk, m instants in time order; the mean over its symbols.

    Attributes
    ----------
    service : str
        Whose features the model read.
    at : ndarray of shape (m,), datetime64[us]
    fold : ndarray of shape (m,)
    volatility : dict of str to ndarray of shape (m,)
        Squared error of log realised variance, by forecaster.
    qlike : dict of str to ndarray of shape (m,)
        QLIKE of the variance, ``RV / F - log(RV / F) - 1`` (Patton 2011), by forecaster.
    direction : dict of str to ndarray of shape (m,)
        Log loss of P(up), by forecaster.
    pinball : dict of str to ndarray of shape (m,)
        Pinball loss of the log return in percent, mean over the levels of its quantiles, by forecaster.
    hit : dict of str to ndarray of shape (m,)
        Share of the symbols of which the likelier sign came, by forecaster.
    directional : Directional
        Do the model's signs go with the signs that came, uncorrected.
    lag : int
        Lags to count in tests, in rows.
    further : dict of int to Losses
        On the same instants over further horizons, by the number of bars ahead.
    """

    service: str
    at: TimeArray
    fold: IntArray
    volatility: dict[str, FloatArray]
    qlike: dict[str, FloatArray]
    direction: dict[str, FloatArray]
    pinball: dict[str, FloatArray]
    hit: dict[str, FloatArray]
    directional: Directional
    lag: int
    further: Mapping[int, "Losses"] = field(default_factory=dict)

    @property
    def judged(self) -> dict[str, dict[str, FloatArray]]:
        """The losses by what is judged: the targets, and QLIKE beside the squared error."""
        return {
            "volatility": self.volatility,
            QLIKE: self.qlike,
            "direction": self.direction,
            "return": self.pinball,
        }

    def of(self, target: str) -> dict[str, FloatArray]:
        """Return the losses that decide a target's claim."""
        return self.judged[target]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was proven.

    Attributes
    ----------
    claims : tuple of Claim
        ``volatility``, ``direction`` and ``return``, the same over further horizons, then the first three for the full
        service over each that it was compared with.
    comparisons : dict of str to tuple of Comparison
        The model against every other forecaster, by what is judged (`Losses.judged`), uncorrected: for reading, not for
        claiming.
    directional : Directional
        Do the forecast signs go with the signs that came, uncorrected.
    trading : Trading or None
        What the model's forecasts would have earned; None where no bars were at hand to trade on.
    """

    claims: tuple[Claim, ...]
    comparisons: dict[str, tuple[Comparison, ...]]
    directional: Directional
    trading: Trading | None = None

    @property
    def proven(self) -> dict[str, bool]:
        """Whether there is skill, by target, and by target and further horizon."""
        return {claim.name: claim.proven for claim in self.claims if ":" not in claim.name}

    @property
    def skill(self) -> bool:
        """Whether any target is proven: what a bundle needs to be promoted."""
        return any(self.proven.values())

    @property
    def tradable(self) -> tuple[Traded, ...]:
        """The rules that turn proven skill into more than it costs and more than luck."""
        return () if self.trading is None else self.trading.tradable(self.proven)

    @property
    def word(self) -> str:
        """``tradable``, ``skill`` or ``no skill``."""
        if self.tradable:
            return "tradable"
        return "skill" if self.skill else "no skill"

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in words: one sentence over all, one per claim, and one on trading."""
        overall = f"skill in {listed([target for target, held in self.proven.items() if held])}"
        if not self.skill:
            overall = "no skill"
        elif self.tradable:
            overall = f"tradable, with {overall}"
        elif self.trading is not None:
            overall = f"{overall}; not tradable at {self.trading.costs.per_side_bp:g} bp a side"
        claims = (sentence(claim, len(self.claims)) for claim in self.claims)
        earned = () if self.trading is None else (trading_sentence(self.trading, self.tradable),)
        return (f"Verdict: {overall}.", *claims, *earned)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the LSTM adds to the straight line under it, by target: uncorrected, and no claim."""
        return tuple(
            f"{target}: the LSTM {'adds to' if one.p_value <= LEVEL else 'adds nothing measurable to'} "
            f"the {one.reference} forecaster under it ({100 * one.skill:+.2f} %, {chance(one.p_value)}, uncorrected)."
            for target in TARGETS
            for one in self.comparisons[target]
            if one.reference in LINES
        )


def losses(data: TrainingSet, walked: Walk, *, service: str) -> Losses:
    """Return what every forecaster of a walk lost, over each horizon."""
    main, *further = (_lost(*each, service=service) for each in zip(data.views, walked.views, strict=True))
    return replace(main, further=dict(zip(data.further, further, strict=True)))


def _lost(data: TrainingSet, walked: Walk, *, service: str) -> Losses:
    instants = Instants.of(data.at[walked.samples])
    log_rv, up = data.log_rv[walked.samples], data.up[walked.samples]
    log_return = data.log_return[walked.samples]
    lag = LAGS_PER_HORIZON * data.horizon

    def mean(lost: Mapping[str, FloatArray | BoolArray]) -> dict[str, FloatArray]:
        return {name: instants.averaged(values) for name, values in lost.items()}

    return Losses(
        service=service,
        at=instants.at,
        fold=instants.first(walked.fold),
        volatility=mean({name: np.square(log_rv - forecast) for name, forecast in walked.log_rv.items()}),
        qlike=mean(
            {name: _qlike(log_rv - forecast - walked.below_mean[name]) for name, forecast in walked.log_rv.items()}
        ),
        direction=mean({name: log_loss(forecast, up) for name, forecast in walked.p_up.items()}),
        pinball=mean({name: pinball_percent(forecast, log_return) for name, forecast in walked.quantiles.items()}),
        hit=mean({name: (forecast > 0.5) == up for name, forecast in walked.p_up.items()}),
        directional=pesaran_timmermann_of_several(
            walked.p_up[MODEL] > 0.5,
            up,
            at=data.at[walked.samples],
            which=np.unique(data.windows.symbol[walked.samples], return_inverse=True)[1],
            lag=lag,
        ),
        lag=lag,
    )


def decide(full: Losses, others: Sequence[Losses] = (), trading: Trading | None = None) -> Verdict:
    """Return the verdict on the model that reads the full service.

    Parameters
    ----------
    full : Losses
        Of the service on trial.
    others : sequence of Losses
        Of the services it is compared with; each is paired with it on the instants that both have.
    trading : Trading, optional
        What the forecasts would have earned.
    """
    comparisons = against_each(full)
    claims = {
        target: tuple(one for one in comparisons[target] if one.reference in references)
        for target, references in REFERENCES.items()
    }
    for bars, lost in full.further.items():
        for target in TARGETS:
            claims[over_bars(target, bars)] = against(lost, target, references_of(lost, target))
    for other in others:
        _, here, there = np.intersect1d(full.at, other.at, return_indices=True)
        for target in TARGETS:
            claims[f"{target}: {full.service} over {other.service}"] = (
                compare(
                    full.of(target)[MODEL][here],
                    other.of(target)[MODEL][there],
                    lag=full.lag,
                    model=full.service,
                    reference=other.service,
                ),
            )
    return Verdict(
        claims=judge(claims),
        comparisons=comparisons,
        directional=full.directional,
        trading=trading,
    )


def against_each(full: Losses) -> dict[str, tuple[Comparison, ...]]:
    """Return the model against every other forecaster, by what is judged."""
    return {
        what: against(full, what, [name for name in losses if name != MODEL]) for what, losses in full.judged.items()
    }


def references_of(full: Losses, target: str) -> tuple[str, ...]:
    """Return which forecasters of a walk skill in a target has to beat."""
    return tuple(name for name in REFERENCES[target] if name in full.of(target))


def against(full: Losses, what: str, references: Sequence[str]) -> tuple[Comparison, ...]:
    """Return the model against some forecasters, by what is judged."""
    losses = full.of(what)
    return tuple(compare(losses[MODEL], losses[name], lag=full.lag, model=MODEL, reference=name) for name in references)


def over_bars(target: str, bars: int) -> str:
    """Return the name of a claim over a further horizon.

    >>> over_bars("return", 168), over_bars("return", 1)
    ('return over 168 bars', 'return over 1 bar')
    """
    return f"{target} over {bars} bar{'s' if bars > 1 else ''}"


def target_of(claim: Claim) -> str:
    """Return the target of a claim, whatever the horizon and whatever it is compared with."""
    return claim.name.split(":")[0].split(" over ")[0]


def sentence(claim: Claim, claims: int) -> str:
    """Return a claim in words.

    The word comes from the corrected p-value, the numbers from the hardest comparison, and where nothing
    is proven it says what the sample could have shown.
    """
    hardest = claim.hardest
    unit = UNITS[target_of(claim)]
    share = 100.0 / abs(hardest.reference_loss)
    change = f"{abs(hardest.gain) * share:.2f} % {'below' if hardest.gain > 0 else 'above'} that of {hardest.reference}"
    interval = f"gain [{hardest.low * share:.2f}, {hardest.high * share:.2f}] %"
    corrected = f"{chance(claim.adjusted)} after correction for {claims} claims"
    said = f"{claim.name}: {'skill' if claim.proven else 'no skill'}. The {unit} is {change} ({interval}, {corrected})"
    if claim.proven:
        return f"{said}."
    seen = f"{hardest.detectable * share:.2f} %"
    return f"{said}; with {hardest.count} instants a true gain under {seen} would mostly go unseen at {LEVEL:.0%}."


def trading_sentence(trading: Trading, tradable: tuple[Traded, ...]) -> str:
    """Return in words what the best rule earned: of those that are tradable, else of all."""
    best = max(tradable or trading.rules, key=lambda one: one.net_year)
    which = f"The best of {len(trading.rules)} rules, {best.rule},"
    earned = f"earns {100 * best.net_year:+.1f} % a year after {trading.costs.per_side_bp:g} bp a side"
    against = f"{chance(trading.adjusted[best.rule])} after correction for {len(trading.rules)} rules"
    left = "trades nothing" if best.break_even_bp is None else f"breaks even at {best.break_even_bp:.1f} bp a side"
    return (
        f"trading: {'tradable' if tradable else 'not tradable'}. {which} {earned} ({against}) and {left}; "
        f"buy and hold earns {100 * trading.hold.net_year:+.1f} % a year."
    )


def chance(p_value: float) -> str:
    """Return a p-value in words, never as zero.

    >>> chance(0.0123), chance(3e-7)
    ('p = 0.0123', 'p < 0.0001')
    """
    return "p < 0.0001" if p_value < 0.0001 else f"p = {p_value:.4f}"


def log_loss(p_up: FloatArray, came_up: BoolArray) -> FloatArray:
    """Return the log loss of P(up), shape (..., m), given whether the price rose, shape (m,)."""
    return np.asarray(-np.log(np.where(came_up, p_up, 1.0 - p_up)), dtype=np.float64)


def pinball_percent(quantiles: FloatArray, log_return: FloatArray) -> FloatArray:
    """Return the mean pinball loss of quantiles, shape (..., m, Q), of a log return, shape (m,), in percent."""
    return 100.0 * pinball(quantiles, log_return)


def _qlike(log_ratio: FloatArray) -> FloatArray:
    return np.asarray(np.exp(log_ratio) - log_ratio - 1.0, dtype=np.float64)
