"""As-of joins in slices of time, for facts and rows that do not fit into memory at once.

What a row of a slice can know is in the facts of the slice, or is the newest fact of its key from all slices before.
So one fact per key is carried on, and the answers are those of one join over everything.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import pairwise
from typing import Final

import polars as pl

from backsight_features.asof import Undecided, as_of, newest, ticks, unit_of

Read = Callable[[Sequence[str], datetime | None, datetime | None], pl.LazyFrame]
"""Gives columns of the facts, at least those of the events between two instants; None bounds nothing."""

_BINS: Final = 4096
_FIRST: Final = -(2**63)
_LAST: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SAMPLE: Final = 1000
_VARYING: Final = 1024
"""Bytes of a text or list before one was seen: many, so that some are looked at only where it can matter."""
_FIXED: Final = 8
_COPIES: Final = 2
"""How often a value is in memory at the height of a join: as read, as gathered, and on its way into Arrow."""
_CLOCKS: Final = 64
"""Bytes per fact or row for the numbers that are joined."""


class SlicedJoin:
    """The join of `as_of` over facts that are read as they are needed.

    Parameters
    ----------
    rows : pl.DataFrame of shape (n, any)
        Keys and instants.
    read : Read
        The facts, the same ones at every call.
    schema : pl.Schema
        Of the facts.
    at, event, keys, values, created, ttl, as_known
        As for `as_of`.
    ties : sequence of str
        Columns of the facts that decide what the instants cannot; read only where they have to.
    """

    def __init__(
        self,
        rows: pl.DataFrame,
        read: Read,
        schema: pl.Schema,
        *,
        at: str,
        event: str,
        keys: Sequence[tuple[str, str]],
        values: Sequence[str],
        created: str | None,
        ties: Sequence[str],
        ttl: timedelta | None,
        as_known: bool,
    ) -> None:
        self._rows = rows
        self._read = read
        self._at = at
        self._event = event
        self._keys = keys
        self._values = values
        self._created = created
        self._ties = ties
        self._ttl = ttl
        self._as_known = as_known and created is not None
        self._columns = list(
            dict.fromkeys([*(key for _, key in keys), event, *([created] if created else []), *values])
        )
        self._wide = list(dict.fromkeys([*self._columns, *ties]))
        self._schema = schema
        clocks = [rows.schema[at], *(self._schema[name] for name in (event, created) if name)]
        self._unit = unit_of(*clocks)

    def fits(self, memory: int, facts: int) -> bool:
        """Return whether one join needs no more than `memory` bytes, where there are no more than `facts` facts."""
        most = facts * self._bytes(self._columns, _VARYING) + self._rows.height * self._bytes(self._values, _VARYING)
        if most <= memory:
            return True
        facts = (
            self._read([self._event], None, None)
            .select(pl.col(self._event).is_not_null().sum())
            .collect(engine="streaming")
            .item()
        )
        return facts * self._bytes(self._columns) + self._rows.height * self._bytes(self._values) <= memory

    def whole(self) -> pl.DataFrame:
        """Return the values of every row, in the order of the rows: one join over everything."""
        try:
            return self._known(self._rows, self._read(self._columns, None, None).collect(), self._free_ties)
        except Undecided:
            return self._known(self._rows, self._read(self._wide, None, None).collect(), self._ties)

    def slices(self, memory: int) -> Iterator[pl.DataFrame]:
        """Yield the values of the rows, some at a time in the order that `order` gives, within `memory` bytes.

        One fact per key and the facts of one instant must fit in any case.
        """
        facts_at_once = max(1, int(memory / 2 / self._bytes(self._columns)))
        rows_at_once = max(1, int(memory / 2 / self._bytes(self._values)))
        asked = self._asked()
        if self.order is not None:
            asked = asked.gather(self.order)
        cuts = self._cuts(facts_at_once)
        stops = [0, *(int(asked.search_sorted(cut)) for cut in cuts), len(asked)]
        carried = self._read(self._columns, None, None).select(self._columns).clear().collect()
        for (since, until), (start, stop) in zip(pairwise([None, *cuts, None]), pairwise(stops), strict=True):
            facts, ties = self._decided(partial(self._between, since, until), carried)
            for first in range(start, stop, rows_at_once):
                length = min(rows_at_once, stop - first)
                places = None if self.order is None else self.order.slice(first, length)
                yield self._known(
                    self._rows.slice(first, length) if places is None else self._rows[places], facts, ties
                )
            carried = newest(
                facts, event=self._event, keys=self._keys_of_facts, created=self._created, ties=ties, unit=self._unit
            ).select(self._columns)

    @cached_property
    def order(self) -> pl.Series | None:
        """Places of the rows by instant; None where they lie so."""
        asked = self._asked()
        return None if asked.is_sorted() else asked.arg_sort()

    @property
    def _free_ties(self) -> Sequence[str]:
        """What may decide without being read for it."""
        return self._ties if len(self._wide) == len(self._columns) else ()

    @property
    def _keys_of_facts(self) -> list[str]:
        return [stored for _, stored in self._keys]

    def _known(self, rows: pl.DataFrame, facts: pl.DataFrame, ties: Sequence[str]) -> pl.DataFrame:
        return as_of(
            rows,
            facts,
            at=self._at,
            event=self._event,
            keys=self._keys,
            values=self._values,
            created=self._created,
            ties=ties,
            ttl=self._ttl,
            as_known=self._as_known,
        )

    def _decided(
        self, read: Callable[[Sequence[str]], pl.DataFrame], carried: pl.DataFrame
    ) -> tuple[pl.DataFrame, Sequence[str]]:
        """Return the facts carried on and those of a slice, with the columns that decide between them."""
        facts = pl.concat([carried, read(self._columns)])
        try:
            self._known(self._rows.clear(), facts, self._free_ties)
        except Undecided:
            return pl.concat([carried, read(self._wide)], how="diagonal"), self._ties
        return facts, self._free_ties

    def _asked(self) -> pl.Series:
        """Return the instants of the rows as ticks, those without one first."""
        return self._rows.select(ticks(self._at, self._rows.schema[self._at], self._unit).fill_null(_FIRST)).to_series()

    def _clock(self) -> pl.Expr:
        """Return from when a fact counts, as ticks; null where it never does."""
        event = ticks(self._event, self._schema[self._event], self._unit, fact=True)
        if not (self._as_known and self._created):
            return event
        created = ticks(self._created, self._schema[self._created], self._unit, fact=True)
        return pl.when(pl.col(self._created).is_not_null()).then(pl.max_horizontal(event, created))

    def _between(self, since: int | None, until: int | None, columns: Sequence[str]) -> pl.DataFrame:
        """Return the facts that count from ``[since, until)`` ticks."""
        # What is true and written later than its event may lie anywhere before.
        start = None if self._as_known else self._instant(since, -1)
        facts = self._read(columns, start, self._instant(until, 1))
        counts = self._clock().is_not_null()
        for key in self._keys_of_facts:
            # Nothing is known of no key, though `newest` would carry it on.
            counts &= pl.col(key).is_not_null()
            counts &= pl.col(key).is_not_nan() if self._schema[key].is_float() else True
        if since is not None:
            counts &= self._clock() >= since
        if until is not None:
            counts &= self._clock() < until
        return facts.filter(counts).select(columns).collect(engine="streaming")

    def _cuts(self, facts_at_once: int) -> list[int]:
        """Return the ticks at which one slice ends and the next begins."""
        cuts = []
        held = 0
        for start, count in self._counted(None, None, facts_at_once):
            if held and held + count > facts_at_once:
                cuts.append(start)
                held = 0
            held += count
        return cuts

    def _counted(self, since: int | None, until: int | None, most: int) -> Iterator[tuple[int, int]]:
        """Yield from when how many facts count, in bins of no more than `most`, or of one tick."""
        clocks = [self._event, *([self._created] if self._created else [])]
        counts = self._read(clocks, None, None).select(clock=self._clock()).drop_nulls()
        if since is not None:
            counts = counts.filter(pl.col("clock") >= since)
        if until is not None:
            counts = counts.filter(pl.col("clock") < until)
        ends = counts.select(first=pl.col("clock").min(), last=pl.col("clock").max()).collect(engine="streaming")
        first, last = ends.row(0)
        if first is None:
            return
        width = (last - first) // _BINS + 1
        bins = counts.group_by(bin=pl.col("clock") // width).len().sort("bin").collect(engine="streaming")
        for place, count in bins.iter_rows():
            start, stop = max(place * width, _FIRST), place * width + width
            if count > most and width > 1:
                yield from self._counted(start, stop if stop <= _LAST else None, most)
            else:
                yield start, count

    def _bytes(self, columns: Sequence[str], varying: int | None = None) -> float:
        """Return what one fact or row takes at the height of a join; `varying` bytes for what has no fixed width."""
        loose = [name for name in columns if not _fixed(self._schema[name])]
        wide = len(loose) * varying if varying is not None else 0.0
        if loose and varying is None:
            seen = self._read(loose, None, None).select(loose).head(_SAMPLE).collect(engine="streaming")
            wide = seen.estimated_size() / max(1, seen.height)
        return _CLOCKS + _COPIES * (_FIXED * (len(columns) - len(loose)) + wide)

    def _instant(self, tick: int | None, slack: int) -> datetime | None:
        """Return a tick as an instant, so many microseconds later; None where the calendar ends before it."""
        if tick is None:
            return None
        try:
            return _EPOCH + timedelta(microseconds=tick // (1_000 if self._unit == "ns" else 1) + slack)
        except OverflowError:
            return None


def _fixed(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind.is_temporal() or kind == pl.Boolean
