"""Whether the skill of a model survives what no honest skill can: labels of other days, features of noise, an embargo.

The procedure that made a bundle, its service, settings and seed, is walked through its own training set once more, and
through versions of it that hold nothing to be found, or hold it the other way round. What claims skill there has seen
what it could not have known, or claims too easily.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import numpy as np
from backsight_features.audit.findings import Audit, Finding, LookedFor, Score, Severity
from backsight_features.clocks import from_us

from backsight_model.baselines import LAST_BAR, LAST_DAY
from backsight_model.bundle import Bundle
from backsight_model.flags import ECHO, LONGER_EMBARGO, correlation
from backsight_model.proof import Claim, compare, judge
from backsight_model.splits import Fold, walk_forward
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Losses, Verdict, chance, decide, losses
from backsight_model.walk import MODEL, Walk, apart, over, straight

NOISE: Final = 10
LOOKED_FOR: Final = {
    "fit-range": "scaling and straight lines fitted with everything from the test block on set to other values",
    "shuffled-labels": "the same features, each instant with the labels of another",
    "noise-features": f"{NOISE} features of noise beside the others",
    "embargo": f"the walk with an embargo {LONGER_EMBARGO} times as long",
    "time-reversal": "learning from what came later, judged on what came before",
    "echo": "forecasts that go with the moves before them more than with those after",
}


@dataclass(frozen=True, kw_only=True)
class _Try:
    """A walk and what it proves.

    Attributes
    ----------
    walked : Walk
    lost : Losses
    verdict : Verdict
    """

    walked: Walk
    lost: Losses
    verdict: Verdict

    def gain(self, target: str) -> float:
        """By how many percent the model's loss is below that of its hardest reference."""
        hardest = self._claim(target).hardest
        return 100 * hardest.gain / abs(hardest.reference_loss)

    def said(self, target: str) -> str:
        """Return the same in words, with its reference and its p-value."""
        claim = self._claim(target)
        return f"{self.gain(target):+.2f} % on {claim.hardest.reference} ({chance(claim.adjusted)})"

    def _claim(self, target: str) -> Claim:
        return next(claim for claim in self.verdict.claims if claim.name == target)


def audit(bundle: Bundle, data: TrainingSet, *, folds: int, say: Callable[[str], None]) -> Audit:
    """Return what was found about the procedure that made a bundle.

    Parameters
    ----------
    bundle : Bundle
        Whose settings and seed are used.
    data : TrainingSet
        What it was learnt from.
    folds : int
        Test blocks of each of the five walks.
    say : callable
        Is told in words what is being done.
    """
    embargo = max(data.horizons) * data.windows.timeframe

    forwards = walk_forward(data.at, data.label_at, folds=folds, embargo=embargo)

    def walked(name: str, some: TrainingSet, parts: list[Fold]) -> _Try:
        made = over(
            some, parts, settings=bundle.settings, seed=bundle.manifest.seed, done=lambda fold: say(f"{name}: {fold}")
        )
        full = losses(some, made, service=bundle.service)
        return _Try(walked=made, lost=full, verdict=decide(full))

    plain = walked("as it is", data, forwards)
    shuffled = walked("shuffled-labels", _shuffled(data, bundle.manifest.seed), forwards)
    noise = walked("noise-features", _noise(data, bundle.manifest.seed), forwards)
    later = walk_forward(data.at, data.label_at, folds=folds, embargo=LONGER_EMBARGO * embargo)
    far = walked("embargo", data, later)
    back = walked("time-reversal", data, _backwards(data, folds=folds, embargo=embargo))
    findings = [
        *_fit_range(bundle, data, forwards),
        *_nothing_there(bundle, shuffled, "shuffled-labels", "features say something of labels that are not theirs"),
        *_helped_by_noise(bundle, plain, noise),
        *_collapses(bundle, plain, far),
        *_arrow(bundle, plain, back),
        *_echo(bundle, data, plain),
    ]
    tries = {"as it is": plain, "labels of others": shuffled, "noise": noise, "long embargo": far, "backwards": back}
    return Audit(
        of=bundle.name,
        findings=tuple(findings),
        looked_for=tuple(LookedFor(check=name, said=said) for name, said in LOOKED_FOR.items()),
        scores=tuple(
            Score(forecaster=name, values={f"{target} %": one.gain(target) for target in TARGETS})
            for name, one in tries.items()
        ),
        notes=("scores are by how many percent the model's loss is below that of its hardest reference",),
    )


def _shuffled(data: TrainingSet, seed: int) -> TrainingSet:
    """Return the same windows, each with the labels of another instant; when a label was known stays."""
    order = np.random.default_rng(seed).permutation(len(data))
    further = {bars: came.some(order) for bars, came in data.further.items()}
    return replace(data, log_rv=data.log_rv[order], log_return=data.log_return[order], further=further)


def _noise(data: TrainingSet, seed: int) -> TrainingSet:
    rows = data.windows.rows
    noise = np.random.default_rng(seed).standard_normal((len(rows), NOISE)).astype(np.float32)
    noise[-1] = np.nan  # the last row stands for a gap
    features = (*data.windows.features, *(f"noise_{number}" for number in range(NOISE)))
    return replace(data, windows=replace(data.windows, rows=np.hstack([rows, noise]), features=features))


def _backwards(data: TrainingSet, *, folds: int, embargo: timedelta) -> list[Fold]:
    """Return folds that learn from what came later: in a mirror, a label is known where its sample was."""
    zero = np.datetime64(0, "us")
    parts = walk_forward(zero - (data.label_at - zero), zero - (data.at - zero), folds=folds, embargo=embargo)
    return [replace(part, start=data.at[part.test[0]]) for part in reversed(parts)]


def _fit_range(bundle: Bundle, data: TrainingSet, parts: list[Fold]) -> Iterator[Finding]:
    """Convict what is fitted and moves with rows and labels that were not known before the test block."""
    for part in parts:
        before, after = (
            straight(some, part.train, treatments=bundle.settings.treatments)
            for some in (data, _otherwise_from(data, part.start))
        )
        for name in ("scaler", "har", "harx"):
            one, other = (json.dumps(getattr(fitted, name).to_json()) for fitted in (before, after))
            if one != other:
                yield _finding(
                    bundle,
                    "fit-range",
                    name,
                    datum=f"{name} of the fold that is tested from here on",
                    said=f"{name} is another one once later rows and labels are: it was fitted on them too.",
                    right="fitting on the training part of each fold only",
                    instant=part.start,
                )


def _otherwise_from(data: TrainingSet, start: np.datetime64) -> TrainingSet:
    rows = data.windows.rows.copy()
    rows[:-1][data.windows.row_available_at >= start] += 1_000.0  # the last row stands for a gap
    later = data.label_at >= start
    return replace(data, windows=replace(data.windows, rows=rows), log_rv=np.where(later, 99.0, data.log_rv))


def _nothing_there(bundle: Bundle, tried: _Try, check: str, said: str) -> Iterator[Finding]:
    for target, proven in tried.verdict.proven.items():
        if proven:
            yield _finding(
                bundle,
                check,
                target,
                datum=f"gain of {tried.said(target)}",
                said=f"With {LOOKED_FOR[check]}, skill in {target} is still claimed: {said}.",
                right="no skill where there is nothing to be found",
            )


def _helped_by_noise(bundle: Bundle, plain: _Try, noise: _Try) -> Iterator[Finding]:
    compared = {
        target: (
            compare(
                noise.lost.of(target)[MODEL],
                plain.lost.of(target)[MODEL],
                lag=plain.lost.lag,
                model="with noise",
                reference="without",
            ),
        )
        for target in TARGETS
    }
    for claim in judge(compared):
        if claim.proven:
            yield _finding(
                bundle,
                "noise-features",
                claim.name,
                datum=f"gain of {100 * claim.hardest.skill:+.2f} % on the model without ({chance(claim.adjusted)})",
                said=f"With {NOISE} features of noise the model forecasts {claim.name} better than without.",
                right="noise that does not help",
            )


def _collapses(bundle: Bundle, plain: _Try, far: _Try) -> Iterator[Finding]:
    for target, proven in plain.verdict.proven.items():
        if proven and not far.verdict.proven[target] and far.gain(target) < plain.gain(target) / 2:
            yield _finding(
                bundle,
                "embargo",
                target,
                datum=f"gain of {plain.said(target)}, and of {far.said(target)} with the longer embargo",
                said=f"More than half of the gain in {target} goes if training ends {LONGER_EMBARGO} horizons before.",
                right="a gain that does not live on what lies right before the test",
            )


def _arrow(bundle: Bundle, plain: _Try, back: _Try) -> Iterator[Finding]:
    for target, proven in plain.verdict.proven.items():
        if proven and back.gain(target) < 0:
            yield _finding(
                bundle,
                "time-reversal",
                target,
                datum=f"gain of {plain.said(target)}, and of {back.said(target)} backwards",
                said=f"The gain in {target} is there in one direction of time only.",
                right="a relation that holds in the past as well, or a reason why it is new",
                severity="warning",
            )


def _echo(bundle: Bundle, data: TrainingSet, plain: _Try) -> Iterator[Finding]:
    each = [(*pair, name) for pair in apart(data, plain.walked).values() for name in (LAST_DAY, LAST_BAR)]
    for of_symbol, walked, name in each:
        p_up, samples = walked.p_up[MODEL], walked.samples
        after = correlation(p_up, of_symbol.log_return[samples])
        moves = np.nan_to_num(of_symbol.newest(name)[samples])
        before = correlation(p_up, moves)
        if abs(before) > ECHO:
            largest = int(np.abs(moves).argmax())
            yield _finding(
                bundle,
                "echo",
                name,
                datum=f"correlation of P(up) of {before:+.2f} with {name}, of {after:+.2f} with what came",
                said=f"P(up) repeats {name}; at the instant named that was {moves[largest]:+.4f} and P(up) "
                f"{p_up[largest]:.3f}.",
                right="forecasts that go with what comes",
                # Where momentum is real, a model with skill goes with the last move too.
                severity="warning" if plain.verdict.proven["direction"] else "error",
                instant=of_symbol.at[samples][largest],
            )


def _finding(
    bundle: Bundle,
    check: str,
    name: str,
    *,
    datum: str,
    said: str,
    right: str,
    severity: Severity = "error",
    instant: np.datetime64 | None = None,
) -> Finding:
    return Finding(
        check=check,
        name=name,
        where=bundle.name,
        instant=None if instant is None else from_us(int(instant.astype(np.int64))),
        datum=datum,
        said=said,
        right=right,
        severity=severity,
    )
