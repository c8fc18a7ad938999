"""Whether rows change with facts that became available after them, and with which fact."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from backsight_features.audit.findings import Finding
from backsight_features.audit.pipeline_clocks import worded
from backsight_features.audit.pipeline_edits import ADDED, CHANGED, DELETED, Edit, Edits
from backsight_features.bars import BarSeries
from backsight_features.building.identities import identify
from backsight_features.building.states import CLOCKS, KINDS, Background, features, states
from backsight_features.decay import HORIZON
from backsight_features.frames import Frames
from backsight_features.schemas import BARS, BOOKS, FACTS, MACRO, NEWS, POSTS, Table
from backsight_features.snapshot import Facts
from backsight_features.text import Scorer

Compute = Callable[[Frames], pl.DataFrame]
"""From facts to rows: ``available_at``, and the features; what is audited."""

ROWS: Final = "rows"
"""Stands for the features where it is rows that come or go."""

COMPARED: Final = 48
"""Bars before an instant whose rows are looked at."""

_AHEAD: Final = timedelta(days=10)
_MACRO_BEFORE: Final = timedelta(days=1200)
_MICROSECOND: Final = timedelta(microseconds=1)

_RIGHT: Final = "a row follows from facts that were available at its instant, and from no others"


def computing(series: BarSeries, scorer: Scorer | None) -> Compute:
    """Return what `backsight build` computes for a bar series: the features of all its tables, side by side."""

    def compute(facts: Frames) -> pl.DataFrame:
        background = Background.read(facts, scorer, identify(facts))
        first, *others = (states(kind, facts, series, background) for kind in KINDS)
        return pl.concat([first, *(other.drop(CLOCKS) for other in others)], how="horizontal")

    return compute


def cut(facts: Facts, series: BarSeries, at: datetime, bars: int) -> Frames:
    """Return the facts around an instant: enough before for the rows that are compared, and some that come later.

    Parameters
    ----------
    facts : Facts
        The lake; only what is near is read.
    series : BarSeries
        Whose bars.
    at : datetime
        The instant.
    bars : int
        How many before.
    """
    step = series.grid.step
    until = at + max(_AHEAD, COMPARED * step)
    texts_since = at - HORIZON - COMPARED * step - timedelta(days=1)
    since = {BARS.name: at - bars * step, MACRO.name: at - _MACRO_BEFORE}
    return Frames(
        {name: _near(facts, table, series, since.get(name, texts_since), until) for name, table in FACTS.items()}
    )


def future(
    compute: Compute, facts: Frames, series: BarSeries, at: datetime, *, where: Callable[[str], str], seed: int
) -> Iterator[Finding]:
    """Yield a finding for each feature that changes, in rows up to an instant, with facts available after it.

    First the later facts are taken away, then half of them are deleted, the rest is corrupted and others are added.
    Where a row is another one, the edits are made one after the other in the order of time: the one with which the row
    changes is found by halving.

    Parameters
    ----------
    compute : callable
        What is audited.
    facts : Frames
        From `cut`.
    series : BarSeries
        Whose rows.
    at : datetime
        The instant.
    where : callable
        From a feature to the table that it is in.
    seed : int
        Of the changes.
    """
    whole = rows_until(compute(facts), at)
    convicted: set[str] = set()
    for tamper in (False, True):
        trial = _Trial(compute, Edits(facts, at, seed, tamper=tamper), at, whole if tamper else None)
        for feature in trial.changed(len(trial.edits)):
            if feature not in convicted:
                place = trial.decisive(feature)
                earlier = trial.changed(place)
                for name, instant in trial.changed(place + 1).items():
                    if name not in earlier and name not in convicted:
                        convicted.add(name)
                        values = trial.values(name, instant, place)
                        yield _finding(name, instant, values, trial.edits[place], facts, series, at, where(name))


class _Trial:
    """Edits of the facts after an instant, made one after the other, and the rows before it.

    Parameters
    ----------
    compute : callable
        What is audited.
    edits : Edits
        The edits.
    at : datetime
        The instant.
    before : pl.DataFrame, optional
        The rows without any edit, if they are known.
    """

    def __init__(self, compute: Compute, edits: Edits, at: datetime, before: pl.DataFrame | None) -> None:
        self._compute, self.edits, self._at = compute, edits, at
        self._known: dict[int, pl.DataFrame] = {} if before is None else {0: before}

    def changed(self, number: int) -> dict[str, datetime]:
        """Return the features that so many of the first edits change, as `differing` does."""
        return differing(self._rows(0), self._rows(number))

    def values(self, feature: str, instant: datetime, place: int) -> tuple[str, str]:
        """Return a value without and with one more edit, in words."""
        rows = (self._rows(number).filter(pl.col("available_at") == instant) for number in (place, place + 1))
        without, with_ = (shown(row, feature) for row in rows)
        return without, with_

    def decisive(self, feature: str) -> int:
        """Return the number of an edit with which a feature that all of them change begins to be another one."""
        without, with_ = 0, len(self.edits)
        while with_ - without > 1:
            middle = (without + with_) // 2
            without, with_ = (without, middle) if feature in self.changed(middle) else (middle, with_)
        return without

    def _rows(self, number: int) -> pl.DataFrame:
        if number not in self._known:
            self._known[number] = rows_until(self._compute(self.edits.first(number)), self._at)
        return self._known[number]


def rows_until(rows: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Return the rows up to an instant, ascending."""
    return rows.filter(pl.col("available_at") <= at).sort("available_at")


def differing(honest: pl.DataFrame, other: pl.DataFrame) -> dict[str, datetime]:
    """Return the features that are not the same to the last bit, with the last instant at which they differ.

    Rows that only one side has are told as `ROWS`; rows of before both begin are not compared.
    """
    clock = "available_at"
    if not honest[clock].equals(other[clock]):
        apart = pl.concat(
            [one.join(two, on=clock, how="anti").select(clock) for one, two in ((honest, other), (other, honest))]
        )
        both = honest.join(other, on=clock, how="semi"), other.join(honest, on=clock, how="semi")
        last = apart[clock].max()
        found: dict[str, datetime] = {ROWS: last} if isinstance(last, datetime) else {}
    else:
        both, found = (honest, other), {}
    for name in honest.columns:
        if name in CLOCKS or both[0][name].equals(both[1][name], null_equal=True):
            continue
        instants = both[0].filter(both[0][name].ne_missing(both[1][name]))[clock]
        if len(instants):
            found[name] = instants[-1]
    return found


def shown(row: pl.DataFrame, feature: str) -> str:
    """Return a value in words, of a frame with the row of an instant or without it."""
    if not row.height or feature == ROWS:
        return "a row" if row.height else "no row"
    value = row[feature][0]
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def tables(series: BarSeries) -> dict[str, str]:
    """Return the table of each feature of a series' timeframe."""
    return {
        feature.name: f"{kind}_{series.timeframe}" for kind in KINDS for feature in features(kind, series.timeframe)
    }


def _near(facts: Facts, table: Table, series: BarSeries, since: datetime, until: datetime) -> pl.DataFrame:
    rows = facts.scan(table)
    if table in (BARS, BOOKS):
        rows = rows.filter(pl.col("venue") == series.venue, pl.col("symbol") == series.symbol)
    if table is BARS:
        near = pl.col("observed_at").is_between(since, until) & (pl.col("available_at") <= until)
        rows = rows.filter(pl.col("timeframe") == series.timeframe, near)
    else:
        rows = rows.filter(pl.col("available_at").is_between(since, until))
    return rows.collect()


def _finding(
    feature: str,
    instant: datetime,
    values: tuple[str, str],
    edit: Edit,
    facts: Frames,
    series: BarSeries,
    at: datetime,
    where: str,
) -> Finding:
    fact = edit.fact
    without, with_ = values
    if edit.how in (CHANGED, DELETED):
        seen = f"{without} as it is, {with_} when it is {edit.how}"
    else:
        seen = f"{without} without it, {with_} with it"
    return Finding(
        check=leak(edit, facts, series, instant, at),
        name=feature,
        where=f"{where} of {series.symbol}",
        instant=instant,
        datum=f"{worded(edit.table, fact)}: {seen}",
        said=f"the value depends on {'a made-up fact' if edit.how == ADDED else 'a fact of the lake'} that became "
        f"available {fact['available_at'] - instant} after the row",  # type: ignore[operator]
        right=_RIGHT,
    )


def leak(edit: Edit, facts: Frames, series: BarSeries, instant: datetime, at: datetime) -> str:
    """Return what kind of later fact was seen, as the name of a check."""
    table, fact = edit.table, edit.fact
    if table is BARS:
        known = facts[BARS.name].filter(pl.col("available_at") <= instant)["observed_at"].max()
        return "later-bars" if known is None or fact["observed_at"] > known else "late-bars"  # type: ignore[operator]
    before = facts[table.name].filter(
        pl.col("available_at") <= at, *(pl.col(name).eq_missing(pl.lit(fact[name])) for name in table.key)
    )
    if table is MACRO:
        return "revised-macro" if before.height else "unreleased-macro"
    if table in (NEWS, POSTS):
        if before.height:
            return "edited-texts"
        return "unseen-texts" if fact["observed_at"] <= instant else "later-texts"  # type: ignore[operator]
    return f"later-{table.name}"
