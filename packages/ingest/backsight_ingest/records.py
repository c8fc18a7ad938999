"""Records: the rows of a file as text, in batches, with what is no row set aside in its original words.

Nothing is cast and nothing is inferred here. A record is counted from 1 within its file, over all members of an
archive, whether it is whole or broken.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.blocks import ROWS_PER_BLOCK, Block, no_row, text_lines
from backsight_ingest.delimited import delimited
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings
from backsight_ingest.layout import Layout
from backsight_ingest.objects import json_document, json_lines

ROWS_PER_BATCH: Final = 200_000
TEXT_PER_BATCH: Final = 64 * 2**20
"""Characters after which a batch is full, so that long texts take no more memory than short ones."""


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
    text_per_batch: int = TEXT_PER_BATCH,
) -> Iterator[Batch]:
    """Yield the records of a file's members; the same file gives the same batches each time.

    Raises
    ------
    Drifted
        If no member has the declared shape. Where others have it, the lines of one that has not come out as broken.
    BadInput
        If a text cannot be decoded, or a variable is found nowhere.
    """
    building = _Building(rows_per_batch, text_per_batch)
    drifted: list[Drifted] = []
    for member in members:
        start = building.last
        try:
            for found in _records(layout, member, settings, min(rows_per_batch, ROWS_PER_BLOCK)):
                yield from building.begin(found) if isinstance(found, Head) else building.add(member, found)
            building.shelve(member)
        except UnicodeError as error:
            raise BadInput(f"{member.origin} is not {layout.format.encoding}: {error}") from None
        except Drifted as error:
            if building.last > start:
                raise
            drifted.append(Drifted(f"{member.origin}: {error}"))
            if len(drifted) == len(members):
                raise drifted[0] from None
            for line, _ in text_lines(member, layout.format):
                yield from building.add(member, no_row(f"the file has another shape: {error}", line))
    yield from building.flush()


class _Building:
    """A batch in the making."""

    def __init__(self, rows_per_batch: int, text_per_batch: int) -> None:
        self.last = 0
        self._rows_per_batch = rows_per_batch
        self._text_per_batch = text_per_batch
        self._head = Head(names=(), variables={})
        self._clear()

    def _clear(self) -> None:
        self._done: list[pl.DataFrame] = []
        self._cells: list[Sequence[str | None]] = []
        self._numbers: list[int] = []
        self._broken: list[Broken] = []
        self._text = 0
        self._held = 0

    def begin(self, head: Head) -> Iterator[Batch]:
        """Go on with another text; what is read under other settings is another batch."""
        if head.variables != self._head.variables:
            yield from self.flush()
        self._head = head

    def add(self, member: Member, block: Block) -> Iterator[Batch]:
        """Take the next records of a text."""
        first = self.last + 1
        numbers = [first + offset for offset in block.offsets]
        if isinstance(block.cells, pl.DataFrame):
            self.shelve(member)
            self._keep(block.cells, numbers, member)
        else:
            self._cells += block.cells
            self._numbers += numbers
        self._broken += [
            Broken(row=first + offset, origin=member.origin, reason=reason, original=text.rstrip("\r\n"))
            for offset, reason, text in block.broken
        ]
        records = len(block.offsets) + len(block.broken)
        self.last += records
        self._held += records
        self._text += block.text
        full = self._held >= self._rows_per_batch or self._text >= self._text_per_batch
        if full or len(self._cells) >= ROWS_PER_BLOCK:
            self.shelve(member)
        if full:
            yield from self.flush()

    def shelve(self, member: Member) -> None:
        """Turn the cells of one text into a frame, which takes a fraction of the memory."""
        if not self._cells:
            return
        columns = zip(*self._cells, strict=True)
        frame = pl.DataFrame(
            {name: pl.Series(cells, dtype=pl.String) for name, cells in zip(self._head.names, columns, strict=True)}
        )
        self._keep(frame, self._numbers, member)
        self._cells, self._numbers = [], []

    def _keep(self, frame: pl.DataFrame, numbers: list[int], member: Member) -> None:
        row = pl.Series("@row", numbers, dtype=pl.Int64)
        self._done.append(frame.with_columns(row, pl.lit(member.origin).alias("@origin")))

    def flush(self) -> Iterator[Batch]:
        """Yield what was shelved, if there is any."""
        if self._held:
            rows = pl.concat(self._done, how="diagonal") if self._done else pl.DataFrame()
            yield Batch(rows=rows, broken=tuple(self._broken), variables=self._head.variables, last=self.last)
        self._clear()


def _records(layout: Layout, member: Member, settings: Settings, rows_per_block: int) -> Iterator[Head | Block]:
    """Yield the head of one text and then its records."""
    if layout.format.type == "csv":
        return delimited(layout, member, settings, rows_per_block)
    return (json_lines if layout.format.type == "jsonl" else json_document)(layout, member, settings)
