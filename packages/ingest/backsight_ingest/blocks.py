"""Blocks: a few records of a text at a time, those that are rows and those that are not, in their original words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

import polars as pl

from backsight_ingest.files import Member
from backsight_ingest.layout import Format

ROWS_PER_BLOCK: Final = 4_000

SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""What stands in a text for a byte that could not be decoded."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Some consecutive records of one text.

    Parameters
    ----------
    cells : list of sequence of str or None, or pl.DataFrame
        Of those that are rows, a row each.
    offsets : sequence of int
        Where these stand in the block.
    broken : list of (int, str, str)
        Offset, reason and text of the others.
    text : int
        Characters in all of them.
    """

    cells: list[Sequence[str | None]] | pl.DataFrame
    offsets: Sequence[int]
    broken: list[tuple[int, str, str]]
    text: int


def row(cells: Sequence[str | None], size: int) -> Block:
    """Return the block of one row of so many characters."""
    return Block(cells=[cells], offsets=(0,), broken=[], text=size)


def no_row(reason: str, original: str) -> Block:
    """Return the block of one record that is no row."""
    return Block(cells=[], offsets=(), broken=[(0, reason, original)], text=len(original))


class Lines:
    """The lines of a text, keeping those that the record being read is made of."""

    def __init__(self, stream: Iterator[str]) -> None:
        self.read = 0
        self._stream = stream
        self._taken: list[str] = []
        self._back: list[str] = []
        self._sound = True

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._stream)
        self.read += 1
        self._sound = self._sound and is_sound(line)
        self._taken.append(line)
        return line

    def take(self) -> tuple[str, bool]:
        """Return the lines of the record and whether they could be decoded, and begin another."""
        text, sound = "".join(self._taken), self._sound
        self._taken.clear()
        self._sound = True
        return text if sound else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), sound

    def give_back(self) -> None:
        """Keep the first line of the record only; what follows may be records of their own."""
        self._back += reversed(self._taken[1:])
        self.read -= len(self._taken) - 1
        del self._taken[1:]
        self._sound = all(map(is_sound, self._taken))

    @property
    def left(self) -> int:
        """How many lines were given back and not read since."""
        return len(self._back)


def is_sound(text: str) -> bool:
    """Return whether all bytes of a text could be decoded."""
    return text.isascii() or SURROGATE.search(text) is None


def open_text(member: Member, form: Format) -> IO[str]:
    """Open a text without its byte order mark; bytes that cannot be decoded become surrogates."""
    encoding = "utf-8-sig" if form.encoding.lower() in ("utf-8", "utf8") else form.encoding
    return member.path.open(encoding=encoding, errors="surrogateescape", newline="")


def text_lines(member: Member, form: Format) -> Iterator[tuple[str, bool]]:
    """Yield the lines of a text, and of each whether it could be decoded."""
    with open_text(member, form) as stream:
        lines = Lines(stream)
        for _ in lines:
            yield lines.take()
