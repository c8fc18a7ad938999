"""Blocks: some consecutive lines of a text, and the records in them: those that are rows and those that are not."""

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from backsight_ingest.files import Member
from backsight_ingest.layout import Format

BLOCK_BYTES: Final = 2 * 2**20
"""About as much is read at a time."""

SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""What stands in a text for a byte that could not be decoded."""

_LARGE: Final = 12 * BLOCK_BYTES
_UTF_8: Final = ("utf-8", "utf-8-sig")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some consecutive records of one text.

    Parameters
    ----------
    rows : pl.DataFrame
        Of those that are rows, a text column per column of the file.
    offsets : np.ndarray of int, shape (rows.height,)
        Where these stand in the block, ascending.
    broken : list of (int, str, str)
        Offset, reason and text of the others, ascending.
    """

    rows: pl.DataFrame
    offsets: np.ndarray
    broken: list[tuple[int, str, str]]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        rows: Sequence[Sequence[str | None]],
        offsets: Sequence[int],
        broken: list[tuple[int, str, str]],
    ) -> "Block":
        """Return a block whose rows are given cell by cell."""
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        frame = {name: pl.Series(cells, dtype=pl.String) for name, cells in zip(names, columns, strict=True)}
        return cls(rows=pl.DataFrame(frame), offsets=np.asarray(offsets, dtype=np.int64), broken=broken)

    @property
    def records(self) -> int:
        """How many there are, of both sorts."""
        return len(self.offsets) + len(self.broken)

    @property
    def size(self) -> int:
        """Bytes that the block takes, about."""
        return int(self.rows.estimated_size()) + sum(len(text) for _, _, text in self.broken)

    def split(self, at: int) -> tuple["Block", "Block"]:
        """Return the first ``at`` records and the rest."""
        rows = int(np.searchsorted(self.offsets, at))
        return (
            Block(
                rows=self.rows.head(rows),
                offsets=self.offsets[:rows],
                broken=[each for each in self.broken if each[0] < at],
            ),
            Block(
                rows=self.rows.slice(rows),
                offsets=self.offsets[rows:] - at,
                broken=[(offset - at, reason, text) for offset, reason, text in self.broken if offset >= at],
            ),
        )


class Text:
    """The lines of a text, in UTF-8 whatever they were written in, one by one or a block at a time.

    Parameters
    ----------
    blocks : iterator of bytes
        Whole lines each, see `whole_lines`.
    """

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._begun: list[bytes] = []

    def line(self) -> bytes:
        """Return the next line with its end, b"" after the last."""
        if not self._begun:
            self._begun = next(self._blocks, b"").splitlines(keepends=True)[::-1]
        return self._begun.pop() if self._begun else b""

    def block(self) -> bytes:
        """Return the next lines, b"" after the last."""
        if self._begun:
            begun, self._begun = b"".join(reversed(self._begun)), []
            return begun
        return next(self._blocks, b"")

    def give_back(self, line: bytes) -> None:
        """Let a line that was taken be the next once more."""
        self._begun.append(line)


@contextmanager
def open_text(member: Member, form: Format) -> Iterator[Text]:
    """Open a text without its byte order mark; bytes that cannot be decoded are no UTF-8 in it either."""
    # The C library gives memory back to the system, which clears it anew for each block, unless it saw larger pieces.
    bytearray(_LARGE)
    if codecs.lookup(form.encoding).name in _UTF_8:
        with member.path.open("rb") as stream:
            start = stream.read(BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
            yield Text(whole_lines(chain([start], iter(lambda: stream.read(BLOCK_BYTES), b""))))
    else:
        with member.path.open(encoding=form.encoding, errors="surrogateescape", newline="") as text:
            parts = iter(lambda: text.read(BLOCK_BYTES), "")
            yield Text(whole_lines(part.encode("utf-8", "surrogateescape") for part in parts))


def whole_lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    r"""Yield what comes in parts so that no line is cut; lines end as in Python's texts, with \n, \r\n or \r."""
    begun: list[bytes] = []
    for part in parts:
        # A \r at the very end may be half of a \r\n.
        end = max(part.rfind(b"\n"), part.rfind(b"\r", 0, -1)) + 1
        if end:
            yield b"".join([*begun, memoryview(part)[:end]])
            begun = []
        begun.append(part[end:])
    if rest := b"".join(begun):
        yield rest


def is_sound(lines: bytes) -> bool:
    """Return whether this is UTF-8."""
    if lines.isascii():
        return True
    # Arrow checks the same as Python, thirty times as fast, and copies nothing.
    bounds = pa.py_buffer(np.array([0, len(lines)], dtype=np.int64))
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, bounds, pa.py_buffer(lines)])
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def shown(line: bytes) -> str:
    """Return a line as text without its end, bytes that could not be decoded as ``\\xff``."""
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
