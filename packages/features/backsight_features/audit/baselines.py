"""Checks ``baseline`` and ``clock``: what persistence and a look at the clock score, beside what is claimed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from backsight_features.audit.findings import Finding, Score
from backsight_features.audit.table import Table
from backsight_features.errors import BadInput
from backsight_features.rolling import BoolArray, FloatArray, IntArray

BASELINE: Final = "baseline"
CLOCK: Final = "clock"
PERSISTENCE: Final = "persistence"
NEIGHBOUR: Final = "nearest in time"
_MODEL: Final = "predictions"
_CLAIM: Final = "claim"
_FAR: Final = 0.1
"""Gain of the nearest row in time on the newest that was known, from which on the split gives the label away."""
_CERTAIN: Final = 6.0
_MOST: Final = 20_000


def _mape(said: FloatArray, was: FloatArray) -> float:
    some = was != 0
    return float(100 * np.abs((said - was)[some] / was[some]).mean()) if some.any() else np.nan


def _r2(said: FloatArray, was: FloatArray) -> float:
    spread = ((was - was.mean()) ** 2).sum()
    return float(1 - ((said - was) ** 2).sum() / spread) if spread else np.nan


METRICS: Final[Mapping[str, Callable[[FloatArray, FloatArray], float]]] = {
    "mape": _mape,
    "rmse": lambda said, was: float(np.sqrt(((said - was) ** 2).mean())),
    "mae": lambda said, was: float(np.abs(said - was).mean()),
    "r2": _r2,
    "accuracy": lambda said, was: float((said == was).mean()),
}
"""Of predictions and labels, both of shape (n,); MAPE in percent."""
_HIGHER_IS_BETTER: Final = frozenset({"r2", "accuracy"})


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What somebody says of a model.

    Attributes
    ----------
    metric : str
        One of `METRICS`.
    value : float
        MAPE in percent, accuracy as a share.
    """

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "Claim":
        """Return the claim that a text such as ``MAPE=2.49%``, ``R2=0.98`` or ``accuracy=86%`` makes.

        >>> Claim.parse("accuracy=86%"), Claim.parse("MAPE=2.49")
        (Claim(metric='accuracy', value=0.86), Claim(metric='mape', value=2.49))

        Raises
        ------
        BadInput
            If it is none.
        """
        name, equals, amount = text.partition("=")
        metric = name.strip().lower().replace("²", "2")
        if not equals or metric not in METRICS:
            raise BadInput(f"claim {text!r}: write NAME=VALUE with one of {', '.join(METRICS)}, as in MAPE=2.49%")
        try:
            value = float(amount.strip().removesuffix("%"))
        except ValueError:
            raise BadInput(f"claim {text!r}: {amount!r} is no number") from None
        if metric != "mape" and amount.strip().endswith("%"):
            value /= 100
        if not np.isfinite(value) or (metric == "accuracy" and not 0 <= value <= 1):
            raise BadInput(f"claim {text!r}: no {metric} can be {amount.strip()}; write a share as 0.86 or 86%")
        return cls(metric=metric, value=value)


def persistence(table: Table, horizon: int) -> FloatArray:
    """Return the newest label that was known at each row, of shape (n,): that of so many rows earlier.

    Where the label is a price ahead, that is the price of the row itself.
    """
    return table.later(table.label, -horizon)


def judged_rows(table: Table) -> BoolArray:
    """Return the rows on which a model is judged: those of the split, or all."""
    if table.parts is None:
        return np.ones(len(table), bool)
    return np.asarray(np.logical_or.reduce([judged for _, judged in table.parts.rounds]))


def scores(table: Table, claims: tuple[Claim, ...], horizon: int) -> tuple[Score, ...]:
    """Return what is claimed, and what predictions and baselines score on the same rows."""
    percent = ("mape",) if np.nanmin(table.label) > 0 or any(one.metric == "mape" for one in claims) else ()
    names = ("accuracy",) if table.classes else (*percent, "rmse", "mae", "r2")
    known = persistence(table, horizon)
    rows = judged_rows(table) & np.isfinite(table.label) & np.isfinite(known)
    forecasts = {PERSISTENCE: known}
    if table.roles.prediction is not None:
        said = table.column(table.roles.prediction)
        rows &= np.isfinite(said)
        forecasts = {_MODEL: np.round(said) if table.classes else said, **forecasts}
    learnt = _learnt(table)
    if table.classes:
        values, counts = np.unique(table.label[learnt & np.isfinite(table.label)], return_counts=True)
        forecasts["most frequent class"] = np.full(len(table), values[counts.argmax()] if len(values) else np.nan)
    else:
        forecasts["mean of what is learnt from"] = np.full(len(table), np.nanmean(table.label[learnt]))
    found = [Score(forecaster=_CLAIM, values={one.metric: one.value for one in claims})] if claims else []
    if not rows.any():
        return tuple(found)
    for name, said in forecasts.items():
        measured = {metric: METRICS[metric](said[rows], table.label[rows]) for metric in names}
        found.append(Score(forecaster=name, values={k: v for k, v in measured.items() if np.isfinite(v)}))
    return tuple(found)


def beaten(table: Table, scored: tuple[Score, ...], horizon: int) -> Iterator[Finding]:
    """Yield a finding where a baseline is as good as what is claimed, or as the predictions."""
    by_name = {one.forecaster: one.values for one in scored}
    for whose in (_CLAIM, _MODEL):
        for metric, value in by_name.get(whose, {}).items():
            baselines = {
                name: values[metric]
                for name, values in by_name.items()
                if name not in (_CLAIM, _MODEL) and metric in values
            }
            if not baselines:
                continue
            best = (max if metric in _HIGHER_IS_BETTER else min)(baselines, key=lambda name: baselines[name])
            sign = 1 if metric in _HIGHER_IS_BETTER else -1
            if sign * (baselines[best] - value) < 0 or (whose == _MODEL and metric not in ("rmse", "accuracy")):
                continue
            yield _as_good(table, whose, metric, value, best, baselines[best], horizon)


def _as_good(table: Table, whose: str, metric: str, value: float, best: str, baseline: float, horizon: int) -> Finding:
    rows = np.flatnonzero(judged_rows(table) & np.isfinite(table.label) & np.isfinite(persistence(table, horizon)))
    row = int(rows[0])
    why = " R2 is measured against the mean of the judged labels, which nobody knew." if metric == "r2" else ""
    return Finding(
        check=BASELINE,
        name=f"{whose}: {metric}",
        where=table.where,
        instant=table.instant(row),
        datum=f"{table.said(table.roles.label, row)}; the newest that was known is "
        f"{persistence(table, horizon)[row]:.6g}",
        said=f"the {whose} {'has' if whose == _CLAIM else 'have'} {metric} {value:.5g}, and {best} has {baseline:.5g} "
        f"on the same rows.{why}",
        right=f"show skill beside {best}: a gain on it, on rows that were not seen",
        rows=len(rows),
    )


def known_means(table: Table) -> Iterator[Finding]:
    """Yield the columns that hold the mean of the labels that are judged: a baseline that knew them."""
    if table.parts is None:
        return
    for learnt, judged in table.parts.rounds:
        rows = judged & np.isfinite(table.label)
        if rows.sum() < 2:
            continue
        mean, spread = table.label[rows].mean(), table.label[rows].std()
        first = int(np.flatnonzero(rows)[0])
        for name in _constants(table, rows):
            value = table.column(name)[first]
            train = table.label[learnt & np.isfinite(table.label)]
            if abs(value - mean) <= 1e-6 * spread and not (len(train) and abs(train.mean() - mean) <= 1e-6 * spread):
                yield Finding(
                    check=BASELINE,
                    name=name,
                    where=table.where,
                    instant=table.instant(first),
                    datum=f"{table.said(name, first)}: the mean of the {rows.sum():,} labels that are judged",
                    said=f"{name} is the mean of the labels that are judged, and no baseline: nobody knew it.",
                    right="compare with persistence, or with the mean of what is learnt from",
                    rows=int(rows.sum()),
                )


def _constants(table: Table, rows: BoolArray) -> list[str]:
    """Return the numeric columns that hold one value in all of these rows."""
    few = np.flatnonzero(rows)[:: max(int(rows.sum()) // 64, 1)]
    named = {table.roles.time, table.roles.label, table.roles.split, table.roles.symbol}
    found = []
    for column in table.frame:
        if column.name in named or not column.dtype.is_numeric():
            continue
        if (
            column.gather(few).n_unique() == 1
            and column.filter(rows).n_unique() == 1
            and column[int(few[0])] is not None
        ):
            found.append(column.name)
    return found


def nearest_in_time(table: Table, claims: tuple[Claim, ...], horizon: int) -> tuple[list[Finding], list[Score]]:
    """Return a finding where the label of the nearest row in time that is learnt from gives the judged ones away.

    That neighbour sees no feature, only the clock. It is compared with the claim, the predictions, and the newest row
    whose label was known by then, which is honest.
    """
    if table.parts is None:
        return [], []
    metric = "accuracy" if table.classes else "r2"
    for learnt, judged in table.parts.rounds:
        rows = np.flatnonzero(judged & np.isfinite(table.label))
        source = np.flatnonzero(learnt & np.isfinite(table.label))
        if len(rows) < 30 or len(source) < 30:
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(_MOST, len(rows))).astype(int)]
        nearest, newest = _neighbours(table, rows, source, horizon)
        held = (nearest >= 0) & (newest >= 0)
        if held.sum() < 30:
            continue
        rows, nearest, newest = rows[held], nearest[held], newest[held]
        was = table.label[rows]
        by_clock = METRICS[metric](table.label[nearest], was)
        honest = METRICS[metric](table.label[newest], was)
        scored = [Score(forecaster=NEIGHBOUR, values={metric: by_clock})]
        gain = _gain(table, was, nearest, newest)
        blind = float(np.unique(was, return_counts=True)[1].max() / len(was)) if table.classes else 0.0
        if by_clock - max(honest, blind) < _FAR / 2 or gain < _CERTAIN:
            return [], scored
        beside = [f"the newest label that was known has {honest:.3f}"]
        for claim in claims:
            if claim.metric == metric:
                beside.append(f"the claim is {claim.value:.3f}")
        if table.roles.prediction is not None:
            said = table.column(table.roles.prediction)[rows]
            beside.append(f"the predictions have {METRICS[metric](np.round(said) if table.classes else said, was):.3f}")
        matched = any(one.metric == metric and by_clock >= one.value - 0.01 for one in claims)
        if by_clock - max(honest, blind) < _FAR and not matched:
            return [], scored
        row = int(rows[0])
        finding = Finding(
            check=CLOCK,
            name=table.parts.name,
            where=table.where,
            instant=table.instant(row),
            datum=f"{table.said(table.roles.label, row)} is judged; "
            f"{table.said(table.roles.label, int(nearest[0]))} is learnt from",
            said=f"the label of the nearest row in time has {metric} {by_clock:.3f} without a look at any feature; "
            f"{', '.join(beside)}.",
            right="split by time with a gap of a horizon, so that no label of the training part reaches into the test",
            rows=2,
        )
        return [finding], scored
    return [], []


def _neighbours(table: Table, rows: IntArray, source: IntArray, horizon: int) -> tuple[IntArray, IntArray]:
    """Return for each row the nearest of its symbol in time, and the newest whose label was known; -1 where none is."""
    width = int(table.at.max() - table.at.min()) + 1
    reach = horizon * table.step
    line = (table.at - table.at.min()) + table.group * 3 * width
    place = np.searchsorted(line[source], line[rows])
    before, after = np.clip(place - 1, 0, len(source) - 1), np.clip(place, 0, len(source) - 1)
    far = [np.abs(line[source[one]] - line[rows]) for one in (before, after)]
    nearest = np.where(far[0] <= far[1], source[before], source[after])
    newest = np.searchsorted(line[source], line[rows] - reach, side="right") - 1
    found = source[np.clip(newest, 0, None)]
    same = (newest >= 0) & (table.group[found] == table.group[rows])
    return np.where(table.group[nearest] == table.group[rows], nearest, -1), np.where(same, found, -1)


def _gain(table: Table, was: FloatArray, nearest: IntArray, newest: IntArray) -> float:
    """Return how much better the nearest row is than the newest known one, in standard errors."""
    if table.classes:
        gain = (table.label[nearest] == was).astype(float) - (table.label[newest] == was)
    else:
        gain = (table.label[newest] - was) ** 2 - (table.label[nearest] - was) ** 2
    error = gain.std() / np.sqrt(len(gain))
    return float(gain.mean() / error) if error else 0.0


def _learnt(table: Table) -> BoolArray:
    if table.parts is None:
        return np.ones(len(table), bool)
    return table.parts.rounds[0][0]
