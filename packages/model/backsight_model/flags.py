"""Red flags: results that are more likely a mistake than a discovery."""

from dataclasses import dataclass

import numpy as np

from backsight_model.arrays import FloatArray
from backsight_model.baselines import LAST_BAR, LAST_DAY
from backsight_model.proof import LEVEL
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Losses, Verdict, chance
from backsight_model.walk import MODEL, Walk, apart
from backsight_model.words import listed

YEAR = np.timedelta64(365, "D")
HONEST_ACCURACY = 0.58
RARE_SHARPE = 3.0
ECHO = 0.8
"""Correlation with the last move from which on a forecast is taken to repeat it."""
LONGER_EMBARGO = 7
"""Horizons after the beginning of each test block that a gain has to outlive."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something that was looked for.

    Attributes
    ----------
    name : str
    raised : bool
        Whether it was found, and is a red flag.
    said : str
        What was seen, in one sentence.
    """

    name: str
    raised: bool
    said: str


def checks(data: TrainingSet, walked: Walk, full: Losses, verdict: Verdict) -> tuple[Check, ...]:
    """Return what makes a careful reader doubt a result, each looked for in this one.

    Thresholds come from published flaws and from what honest forecasts of daily moves reach.
    """
    return (
        _accuracy(data, walked, verdict),
        _clock(data, walked, verdict),
        *(_embargo(data, full, verdict, target) for target in TARGETS),
        _echo(data, walked),
        _sharpe(verdict),
        _signs(verdict),
        Check(
            name="error in percent of the price",
            raised=False,
            said="No MAPE is claimed, with or without that of persistence: the model forecasts no price.",
        ),
    )


def _accuracy(data: TrainingSet, walked: Walk, verdict: Verdict) -> Check:
    at, accuracy = data.at[walked.samples], verdict.directional.accuracy
    days = (at.max() - at.min()) / np.timedelta64(1, "D")
    return Check(
        name="accuracy",
        raised=bool(days >= YEAR / np.timedelta64(1, "D") and accuracy > HONEST_ACCURACY),
        said=f"Accuracy of {accuracy:.1%} over {days:.0f} days: over a year or more, honest daily forecasts stay below "
        f"{100 * HONEST_ACCURACY:.0f} %.",
    )


def _clock(data: TrainingSet, walked: Walk, verdict: Verdict) -> Check:
    right = float((walked.clock_up == data.up[walked.samples]).mean())
    accuracy = verdict.directional.accuracy
    found = verdict.proven["direction"] and right >= accuracy
    return Check(
        name="nearest neighbour on the clock",
        raised=found,
        said=f"Repeating the newest training label is right in {right:.1%}, the model in {accuracy:.1%}"
        f"{': no better than a look at the clock' if found else ''}.",
    )


def _embargo(data: TrainingSet, full: Losses, verdict: Verdict, target: str) -> Check:
    """Leave out what follows the training part of each fold: the same model, judged after a longer embargo."""
    reference = next(claim for claim in verdict.claims if claim.name == target).hardest.reference
    gain = full.of(target)[reference] - full.of(target)[MODEL]
    starts = np.flatnonzero(np.diff(full.fold, prepend=full.fold[0] - 1))
    ends = np.append(starts[1:], len(gain)) - 1
    step = np.timedelta64(int(data.windows.timeframe.total_seconds()), "s")
    # A block that is not much longer than the embargo would leave nothing to judge.
    longer = np.minimum(LONGER_EMBARGO * data.horizon * step, (full.at[ends] - full.at[starts]) / 2)
    far = full.at >= np.repeat(full.at[starts] + longer, ends - starts + 1)
    level = float(full.of(target)[reference].mean())
    whole, later = (100 * float(part.mean()) / level for part in (gain, gain[far]))
    found = verdict.proven[target] and later < whole / 2
    return Check(
        name=f"embargo, {target}",
        raised=found,
        said=f"{target.capitalize()}: the gain on {reference} is {whole:+.2f} %, and {later:+.2f} % where the first "
        f"{LONGER_EMBARGO} horizons of each test block are left out{': it collapses' if found else ''}.",
    )


def _echo(data: TrainingSet, walked: Walk) -> Check:
    moves = {"day": LAST_DAY, "bar": LAST_BAR}
    likeness = {name: likeness_to(data, walked, move) for name, move in moves.items()}
    found = max(abs(value) for value in likeness.values()) > ECHO
    return Check(
        name="last move",
        raised=found,
        said=f"P(up) correlates {likeness['day']:+.2f} with the last day's move and {likeness['bar']:+.2f} with the "
        f"last bar's{': the model repeats what was' if found else ''}.",
    )


def likeness_to(data: TrainingSet, walked: Walk, move: str) -> float:
    """Return the correlation of P(up) with a feature: of the symbols, that which lies farthest from 0."""
    each = (
        correlation(said.p_up[MODEL], np.nan_to_num(of_symbol.newest(move)[said.samples]))
        for of_symbol, said in apart(data, walked).values()
    )
    return max(each, key=abs)


def _sharpe(verdict: Verdict) -> Check:
    name = "net Sharpe ratio"
    if verdict.trading is None:
        return Check(name=name, raised=False, said="Nothing was traded: no bars were at hand.")
    best = max(verdict.trading.rules, key=lambda one: one.sharpe)
    return Check(
        name=name,
        raised=best.sharpe > RARE_SHARPE,
        said=f"Net Sharpe ratio of {best.sharpe:.2f} on {_assets(verdict.trading.symbols)} ({best.rule}): above "
        f"{RARE_SHARPE:.0f} is rarely real.",
    )


def _assets(symbols: tuple[str, ...]) -> str:
    return "one asset" if len(symbols) == 1 else f"equal shares of {listed(symbols)}"


def _signs(verdict: Verdict) -> Check:
    p_value = verdict.directional.p_value
    found = verdict.proven["direction"] and p_value > LEVEL
    said = f"The signs alone have {chance(p_value)}, and contradict no claim."
    if found:
        said = (
            f"Log loss says skill in direction, the signs alone do not ({chance(p_value)}): the gain lies in the size "
            "of the probabilities."
        )
    return Check(name="signs and probabilities", raised=found, said=said)


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Return the correlation of two series of shape (n,); 0 where either is constant."""
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
