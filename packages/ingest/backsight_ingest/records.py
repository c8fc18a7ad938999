"""Records: the rows of a file as text, in batches, with what is no row set aside in its original words.

Nothing is cast and nothing is inferred here. A record is counted from 1 within its file, over all members of an
archive, whether it is whole or broken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.blocks import Block, open_text, shown
from backsight_ingest.delimited import delimited
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings
from backsight_ingest.layout import Layout
from backsight_ingest.objects import json_document, json_lines

ROWS_PER_BATCH: Final = 500_000
BYTES_PER_BATCH: Final = 64 * 2**20
"""After which a batch is full, so that long texts take no more memory than short ones."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A record that is no row.

    Parameters
    ----------
    row : int
        Its number in the file.
    origin : str
        The file, or the member of an archive.
    reason : str
        What is wrong with it.
    original : str
        Its text.
    """

    row: int
    origin: str
    reason: str
    original: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some records of one file.

    Parameters
    ----------
    rows : pl.DataFrame
        A text column per column of the file, and ``@row``, the record's number, and ``@origin``.
    broken : tuple of Broken
        Those that are no rows.
    variables : mapping of str to str
        What ``{name}`` stands for.
    last : int
        The number of the last record.
    """

    rows: pl.DataFrame
    broken: tuple[Broken, ...]
    variables: Mapping[str, str]
    last: int


def batches(
    layout: Layout,
    members: Sequence[Member],
    settings: Settings,
    *,
    rows_per_batch: int = ROWS_PER_BATCH,
    bytes_per_batch: int = BYTES_PER_BATCH,
) -> Iterator[Batch]:
    """Yield the records of a file's members; the same file gives the same batches each time.

    Raises
    ------
    Drifted
        If no member has the declared shape. Where others have it, the lines of one that has not come out as broken.
    BadInput
        If a text cannot be decoded, or a variable is found nowhere.
    """
    building = _Building(rows_per_batch, bytes_per_batch)
    drifted: list[Drifted] = []
    for member in members:
        start = building.last
        try:
            for found in _READERS[layout.format.type](layout, member, settings):
                yield from building.begin(found) if isinstance(found, Head) else building.add(member, found)
        except UnicodeError as error:
            raise BadInput(f"{member.origin} is not {layout.format.encoding}: {error}") from None
        except Drifted as error:
            if building.last > start:
                raise
            drifted.append(Drifted(f"{member.origin}: {error}"))
            if len(drifted) == len(members):
                raise drifted[0] from None
            for found in _lost(member, layout, f"the file has another shape: {error}"):
                yield from building.add(member, found)
    yield from building.flush()


def _lost(member: Member, layout: Layout, reason: str) -> Iterator[Block]:
    """Yield the lines of a text as broken records."""
    with open_text(member, layout.format) as text:
        while lines := text.block():
            broken = [(offset, reason, shown(line)) for offset, line in enumerate(lines.splitlines())]
            yield Block.of([], [], [], broken)


class _Building:
    """A batch in the making."""

    def __init__(self, rows_per_batch: int, bytes_per_batch: int) -> None:
        self.last = 0
        self._rows_per_batch = rows_per_batch
        self._bytes_per_batch = bytes_per_batch
        self._variables: Mapping[str, str] = {}
        self._clear()

    def _clear(self) -> None:
        self._done: list[pl.DataFrame] = []
        self._broken: list[Broken] = []
        self._bytes = 0
        self._held = 0

    def begin(self, head: Head) -> Iterator[Batch]:
        """Go on with another text; what is read under other settings is another batch."""
        if head.variables != self._variables:
            yield from self.flush()
        self._variables = head.variables

    def add(self, member: Member, found: Block) -> Iterator[Batch]:
        """Take the next records of a text."""
        while found.records > (room := self._rows_per_batch - self._held):
            fits, found = found.split(room)
            self._take(member, fits)
            yield from self.flush()
        self._take(member, found)
        if self._held == self._rows_per_batch or self._bytes >= self._bytes_per_batch:
            yield from self.flush()

    def _take(self, member: Member, found: Block) -> None:
        if found.rows.height:
            number = pl.Series("@row", found.offsets + (self.last + 1), dtype=pl.Int64)
            self._done.append(found.rows.with_columns(number, pl.lit(member.origin).alias("@origin")))
        self._broken += [
            Broken(row=self.last + 1 + offset, origin=member.origin, reason=reason, original=text)
            for offset, reason, text in found.broken
        ]
        self.last += found.records
        self._held += found.records
        self._bytes += found.size

    def flush(self) -> Iterator[Batch]:
        """Yield what was taken, if there is any."""
        if self._held:
            rows = pl.concat(self._done, how="diagonal") if self._done else pl.DataFrame()
            yield Batch(rows=rows, broken=tuple(self._broken), variables=self._variables, last=self.last)
        self._clear()


_READERS: Final[Mapping[str, Callable[[Layout, Member, Settings], Iterator[Head | Block]]]] = {
    "csv": delimited,
    "jsonl": json_lines,
    "json": json_document,
}
