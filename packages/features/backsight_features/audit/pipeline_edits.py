"""Changes of facts that a row must not notice: later facts that are there or not, corrupted and added, one by one."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backsight_features.clocks import UTC_US
from backsight_features.frames import Frames
from backsight_features.rolling import BoolArray, IntArray
from backsight_features.schemas import BARS, BOOKS, MACRO, NEWS, POSTS, SCORES, Table

_ADDED: Final = 8
"""Facts added to a table."""

_SOON_US: Final = 100 * 3_600_000_000

THERE: Final = "there"
DELETED: Final = "deleted"
CHANGED: Final = "changed"
ADDED: Final = "added"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One fact that was tampered with.

    Parameters
    ----------
    table : Table
        Where it is.
    how : {"there", "deleted", "changed", "added"}
        What was done; ``there``: it is, as in the lake, and without it the row is another one.
    fact : dict
        The row of the lake, or of what was added.
    """

    table: Table
    how: str
    fact: dict[str, object]


class Edits:
    """Tampering with what became available after an instant, fact by fact in the order of time.

    Parameters
    ----------
    facts : Frames
        Honest facts.
    at : datetime
        What was available by then stays as it is.
    seed : int
        Of what is done to which fact.
    tamper : bool
        Whether half of the later facts are deleted, the others changed, and some added. Else an edit is that a later
        fact is there: without any of them the facts end at the instant.
    """

    def __init__(self, facts: Frames, at: datetime, seed: int, *, tamper: bool) -> None:
        random = np.random.default_rng(seed)
        self._facts = facts
        # Of what comes at one instant scores go first: without its text a score says nothing.
        held = sorted(facts.items(), key=lambda item: item[0] is not SCORES)
        self._parts = [_Part(table, frame, at, random, tamper=tamper) for table, frame in held if frame.height]
        known = np.concatenate([part.known for part in self._parts] or [np.empty(0, np.int64)])
        self._order = np.argsort(known, kind="stable")
        self._starts = np.cumsum([0, *(part.known.size for part in self._parts)])

    def __len__(self) -> int:
        return self._order.size

    def first(self, number: int) -> Frames:
        """Return the facts after so many of the edits, the earliest ones."""
        which = np.sort(self._order[:number])
        bounds = np.searchsorted(which, self._starts)
        return self._facts.having(
            **{
                part.table.name: part.applied(which[begin:end] - start)
                for part, start, begin, end in zip(self._parts, self._starts[:-1], bounds[:-1], bounds[1:], strict=True)
            }
        )

    def __getitem__(self, number: int) -> Edit:
        place = int(self._order[number])
        part = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self._parts[part].edit(place - int(self._starts[part]))


class _Part:
    """The edits of one table: first those of later facts, then those that add some."""

    def __init__(
        self, table: Table, frame: pl.DataFrame, at: datetime, random: np.random.Generator, *, tamper: bool
    ) -> None:
        self.table = table
        later = frame["available_at"] > at
        self._past, self._future = frame.filter(~later), frame.filter(later)
        self._tamper = tamper
        self._deleted: BoolArray = random.random(self._future.height) < 0.5
        self._changed = _corrupted(table, self._future, random)
        self._added = _added(table, frame, at, random) if tamper else frame.clear()
        self.known: IntArray = (
            pl.concat([self._future["available_at"], self._added["available_at"]]).dt.epoch("us").to_numpy()
        )

    def applied(self, which: IntArray) -> pl.DataFrame:
        size = self._future.height
        touched = np.zeros(size, dtype=np.bool_)
        touched[which[which < size]] = True
        if not self._tamper:
            return pl.concat([self._past, self._future.filter(pl.Series(touched))])
        added: pl.DataFrame = self._added[(which[which >= size] - size).tolist()]
        return pl.concat(
            [
                self._past,
                self._future.filter(pl.Series(~touched)),
                self._changed.filter(pl.Series(touched & ~self._deleted)),
                added,
            ]
        )

    def edit(self, number: int) -> Edit:
        size = self._future.height
        if number >= size:
            return Edit(table=self.table, how=ADDED, fact=self._added.row(number - size, named=True))
        how = THERE if not self._tamper else DELETED if self._deleted[number] else CHANGED
        return Edit(table=self.table, how=how, fact=self._future.row(number, named=True))


def _added(table: Table, frame: pl.DataFrame, at: datetime, random: np.random.Generator) -> pl.DataFrame:
    """Return further versions of facts, and new ones, that come in after an instant."""
    size = min(_ADDED, frame.height)
    # Mostly of what is near: it is what could be looked at.
    near = frame.sort((pl.col("available_at") - pl.lit(at, UTC_US)).abs()).head(4 * size)
    picked = near[np.sort(random.choice(near.height, size, replace=False)).tolist()]
    said = _corrupted(table, picked, random)
    if table in (NEWS, POSTS):
        said = said.with_columns(
            id=pl.when(pl.Series(random.random(size) < 0.5)).then(pl.col("id")).otherwise(pl.col("id") + "x")
        )
    delay = pl.Series(1 + random.integers(0, _SOON_US, size), dtype=pl.Int64).cast(pl.Duration("us"))
    known = said.with_columns(available_at=pl.lit(at, UTC_US) + delay)
    return known.with_columns(
        ingested_at="available_at", observed_at=pl.min_horizontal("observed_at", "available_at")
    ).select(frame.columns)


def _corrupted(table: Table, frame: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Return rows that say something else about the same."""
    size = frame.height
    if table in (NEWS, POSTS):
        return frame.with_columns(
            title=pl.format("other {}", pl.Series(random.integers(0, 1 << 30, size), dtype=pl.Int64)),
            text=pl.format("other {}", pl.Series(random.integers(0, 1 << 30, size), dtype=pl.Int64)),
        )
    if table is SCORES:
        turned = {"p_positive": "p_negative", "p_negative": "p_neutral", "p_neutral": "p_positive"}
        return frame.with_columns(**{name: pl.col(other) for name, other in turned.items()})
    factor = pl.Series(random.uniform(1.1, 2, size))
    if table is MACRO:
        return frame.with_columns(pl.col("value") * factor + 0.01)
    changed = [name for name in table.content if frame.schema[name].is_numeric()]
    values = frame.with_columns((pl.col(name) * factor).cast(frame.schema[name]) for name in changed)
    # One factor moves all prices of a bar, and both sides of a book, by the same ratio, which some features cannot see.
    if table is BOOKS:
        return values.with_columns(pl.col("ask") * 1.01, pl.col("bid_depth") / 1.02 + 0.01)
    return values.with_columns(pl.col("high") * 1.01, pl.col("low") / 1.02) if table is BARS else values
