"""Policies of retraining on one tape: each lives through the same instants, from the same first model on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import numpy as np
from backsight_features.errors import BadInput

from backsight_model import challenge
from backsight_model.arrays import Float32Array, FloatArray, IntArray, TimeArray
from backsight_model.drift import look
from backsight_model.instants import Instants
from backsight_model.policies import Policy
from backsight_model.proof import LEVEL, Comparison, compare, holm
from backsight_model.settings import Settings
from backsight_model.splits import Fold
from backsight_model.training import TrainingSet
from backsight_model.verdict import LAGS_PER_HORIZON, chance
from backsight_model.walk import Fitted, Start, learn

NEVER = Policy()


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A challenger that a policy had trained.

    Attributes
    ----------
    at : datetime64[us]
        When: nothing that became known later had a part.
    why : str
    comparison : challenge.Comparison
        With the champion of then.
    seconds : float
        Of processors, all threads together: a busy machine takes longer by the clock.
    """

    at: np.datetime64
    why: str
    comparison: challenge.Comparison
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Life:
    """What a policy did with the tape.

    Attributes
    ----------
    policy : Policy
    lost : dict of str to ndarray of shape (m,)
        Loss by target at each instant of the tape; the mean over its symbols.
    refits : tuple of Refit
    """

    policy: Policy
    lost: dict[str, FloatArray]
    refits: tuple[Refit, ...]

    @property
    def seconds(self) -> float:
        """Of processors, for fitting after the first model, which all policies share."""
        return sum(refit.seconds for refit in self.refits)

    @property
    def taken(self) -> int:
        """How many challengers took over."""
        return sum(refit.comparison.won for refit in self.refits)


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Lives of several policies on one tape.

    Attributes
    ----------
    at : ndarray of shape (m,), datetime64[us]
        The instants that were forecast, in time order.
    lives : tuple of Life
        The first is of the policy never to train again.
    comparisons : dict of str to dict of str to Comparison
        Of every other policy with it, by policy and target.
    adjusted : dict of str to dict of str to float
        The p-values of these, corrected for how many they are (Holm).
    """

    at: TimeArray
    lives: tuple[Life, ...]
    comparisons: dict[str, dict[str, Comparison]]
    adjusted: dict[str, dict[str, float]]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What came out: one sentence over all, and one per policy."""
        better = [
            f"{name} in {target}"
            for name, by_target in self.adjusted.items()
            for target, p_value in by_target.items()
            if p_value <= LEVEL
        ]
        overall = (
            f"Retraining loses less than never training again: {', '.join(better)}."
            if better
            else "No policy loses measurably less than never training again."
        )
        return (overall, *(self._said(life) for life in self.lives[1:]))

    def _said(self, life: Life) -> str:
        name = life.policy.name
        gains = ", ".join(
            f"{target} {100 * one.skill:+.2f} % ({chance(self.adjusted[name][target])})"
            for target, one in self.comparisons[name].items()
        )
        return (
            f"{name}: {life.taken} of {len(life.refits)} challengers took over, {life.seconds:.0f} s of CPU; "
            f"gain on never: {gains}, corrected."
        )


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """A model, what it learnt from, what it loses from its validation tail on, and what it took."""

    key: tuple[object, ...]
    part: Fold
    fitted: Fitted
    lost: dict[str, FloatArray]
    seconds: float


@dataclass(kw_only=True)
class _Fits:
    """Every fit of a simulation, made once: what two policies would both train costs both, and is trained once."""

    data: TrainingSet
    settings: Settings
    embargo: timedelta
    window: timedelta | None
    seed: int
    made: dict[tuple[object, ...], _Fit] = field(default_factory=dict)

    def fit(self, number: int, until: np.datetime64, warm: _Fit | None) -> _Fit:
        """Return the model that is learnt in a block from labels known until an instant."""
        key = (number, until, None if warm is None else warm.key)
        if key not in self.made:
            part = challenge.learnable(
                self.data.at, self.data.label_at, until, embargo=self.embargo, window=self.window
            )
            begin = time.process_time()
            fitted = learn(
                self.data,
                part,
                settings=self.settings,
                seed=1000 * self.seed + number,
                warm=None if warm is None else Start(scaler=warm.fitted.scaler, network=warm.fitted.network),
            )
            seconds = time.process_time() - begin
            lost = challenge.lost(self.data, fitted, np.arange(part.valid[0], len(self.data)))
            self.made[key] = _Fit(key=key, part=part, fitted=fitted, lost=lost, seconds=seconds)
        return self.made[key]


def simulate(
    data: TrainingSet,
    policies: Sequence[Policy],
    *,
    settings: Settings,
    embargo: timedelta,
    seed: int,
    window: timedelta | None = None,
    first: float = 0.4,
    block: int = 168,
    done: Callable[[str], None],
) -> Simulation:
    """Return what each policy would have done and lost.

    All start with one model that learnt from what was known at the end of the first part. Then, at the beginning of
    each block, a policy is asked with what is known then; where it is due, a challenger learns from labels that were
    known before the newest stretch, and takes over if it is not worse there. Whoever is champion forecasts the block.

    Parameters
    ----------
    data : TrainingSet
    policies : sequence of Policy
        ``never`` is lived through as well, whether it is among them or not.
    settings, embargo, window
        See `walk.walk`; the embargo separates what is learnt from what stops the training.
    seed : int
        Block k trains with seed ``1000 * seed + k``, whatever the policy.
    first : float
        Share of the span of time before the tape.
    block : int
        Bars per block, a week of hours.
    done : callable
        Is told in words after each tenth of each life.

    Raises
    ------
    BadInput
        Where the history is too short for a first model or a tape.
    """
    begin, end = data.at[0], data.at[-1]
    start = begin + ((end - begin).astype("timedelta64[us]").astype(np.int64) * first).astype("timedelta64[us]")
    edges = np.arange(start, end + np.timedelta64(1, "us"), block * np.timedelta64(data.windows.timeframe))
    places = np.searchsorted(data.at, edges)
    blocks = [
        (edge, span) for edge, span in zip(edges, np.split(np.arange(len(data)), places)[1:], strict=True) if len(span)
    ]
    tape = Instants.of(data.at[places[0] :])
    if len(tape) < LAGS_PER_HORIZON * data.horizon:
        raise BadInput(
            f"{len(tape)} instants after the first {first:.0%} of the time are too few for a tape; "
            f"{LAGS_PER_HORIZON * data.horizon} are needed"
        )
    fits = _Fits(data=data, settings=settings, embargo=embargo, window=window, seed=seed)
    newest = data.windows.rows[data.windows.index[:, -1]]
    others = tuple(dict.fromkeys(policy for policy in policies if policy != NEVER))
    lives = tuple(_live(policy, blocks, fits, newest, done) for policy in (NEVER, *others))
    return _compared(tape.at, lives, lag=LAGS_PER_HORIZON * data.horizon)


def _live(
    policy: Policy,
    blocks: list[tuple[np.datetime64, IntArray]],
    fits: _Fits,
    newest: Float32Array,
    done: Callable[[str], None],
) -> Life:
    data = fits.data
    champion = fits.fit(0, blocks[0][0], None)
    refits: list[Refit] = []
    parts: list[dict[str, FloatArray]] = []
    trained: np.datetime64 | None = None
    for number, (now, samples) in enumerate(blocks):
        new = challenge.unlearnt(data, champion.part, now)
        after = new if trained is None else new[data.label_at[new] > trained]
        decision = policy.decide(
            len(Instants.of(data.at[new])),
            since_last=len(Instants.of(data.at[after])),
            horizon=data.horizon,
            look=partial(
                look,
                data.at,
                newest,
                champion.lost,
                features=data.windows.features,
                train=champion.part.train,
                tail=champion.part.valid,
                since=new,
                # So many samples in a row are a horizon: symbols of one instant are neighbours.
                horizon=data.horizon * len(data.by_symbol),
            ),
        )
        if decision.due:
            stretch = challenge.newest(data, new)
            challenger = fits.fit(number, data.at[stretch[0]], champion if policy.warm else None)
            seen = challenge.compare(data, stretch, champion.lost, challenger.lost)
            refits.append(Refit(at=now, why=decision.why, comparison=seen, seconds=challenger.seconds))
            champion, trained = challenger if seen.won else champion, now
        parts.append({target: values[samples] for target, values in champion.lost.items()})
        if (number + 1) * 10 // len(blocks) > number * 10 // len(blocks):
            done(f"{policy.name}: {now.astype('datetime64[D]')}, {len(refits)} challengers")
    instants = Instants.of(np.concatenate([data.at[samples] for _, samples in blocks]))
    lost = {target: instants.averaged(np.concatenate([part[target] for part in parts])) for target in parts[0]}
    return Life(policy=policy, lost=lost, refits=tuple(refits))


def _compared(at: TimeArray, lives: tuple[Life, ...], *, lag: int) -> Simulation:
    never, *others = lives
    comparisons = {
        life.policy.name: {
            target: compare(values, never.lost[target], lag=lag, model=life.policy.name, reference=never.policy.name)
            for target, values in life.lost.items()
        }
        for life in others
    }
    raw = {(name, target): one.p_value for name, by in comparisons.items() for target, one in by.items()}
    corrected = holm({f"{name} {target}": value for (name, target), value in raw.items()})
    adjusted = {name: {target: corrected[f"{name} {target}"] for target in by} for name, by in comparisons.items()}
    return Simulation(at=at, lives=lives, comparisons=comparisons, adjusted=adjusted)
