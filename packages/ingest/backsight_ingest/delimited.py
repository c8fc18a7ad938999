"""Delimited text as records: cells between a delimiter, quoted where they hold one or span lines.

Read by the strict rules of `csv`. What does not fit the header is no row, and takes no other line with it. Lines
without a quote, which are most, are split by polars; that both say the same is tested.
"""

import codecs
import csv
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import polars as pl
from backsight_features.errors import Drifted

from backsight_ingest.blocks import Block, Text, is_sound, open_text, shown
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings, sources
from backsight_ingest.layout import Format, Layout


def delimited(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | Block]:
    """Yield the head of a text and then its records.

    Raises
    ------
    Drifted
        If the header is not as declared.
    """
    form = layout.format
    with open_text(member, form) as text:
        header = _header(text, form)
        names = tuple(header[0]) if header else form.names
        variables = settings.resolve(member, header)
        sources(layout, variables, names)
        yield Head(names=names, variables=variables)
        while lines := text.block():
            if _is_plain(lines, form):
                yield split_plain(lines, form, names)
            else:
                yield split_quoted(lines, text, form, names)


def _header(text: Text, form: Format) -> list[list[str]]:
    """Return the cells of the header rows."""
    lines = _Lines(iter(text.line, b""))
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    try:
        for _ in range(form.skip):
            next(lines)
        lines.take()
        header = [next(reader) for _ in range(form.header)]
    except StopIteration:
        raise Drifted("the text ends before its header does") from None
    except csv.Error as error:
        raise Drifted(f"the header is no delimited text: {error}") from None
    original = lines.take()
    if not is_sound(original):
        raise Drifted(f"the header is not {form.encoding}; the layout's format.encoding says what the text is")
    for mark, cells in zip(form.marks, header, strict=False):
        if cells[:1] != [mark]:
            raise Drifted(f"a header row begins with {cells[:1] or ['']}, not [{mark!r}]")
    if form.names and header and tuple(header[0]) != form.names:
        # Where the layout names the columns, a header may be absent: this was the first record.
        for line in reversed(original.splitlines(keepends=True)):
            text.give_back(line)
        return []
    return header


def _is_plain(lines: bytes, form: Format) -> bool:
    """Return whether each line is a record; polars would drop a byte order mark."""
    return b'"' not in lines and form.delimiter.isascii() and is_sound(lines) and not lines.startswith(codecs.BOM_UTF8)


def split_plain(lines: bytes, form: Format, names: Sequence[str]) -> Block:
    """Return the records of sound lines without quotes, each a line."""
    lines = lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in lines else lines
    lines = lines if lines.endswith(b"\n") else lines + b"\n"
    text = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(text == ord("\n")) + 1
    starts = np.append(0, ends[:-1])
    cells = np.add.reduceat(text == ord(form.delimiter), starts, dtype=np.int64) + 1
    cells[ends - starts == 1] = 0
    fits = cells == len(names)
    broken = [
        (offset, _misfit(int(cells[offset]), len(names)), shown(lines[starts[offset] : ends[offset]]))
        for offset in np.flatnonzero(~fits).tolist()
    ]
    if broken:
        lines = text[np.repeat(fits, ends - starts)].tobytes()
    rows = pl.read_csv(
        lines,
        has_header=False,
        schema=dict.fromkeys(names, pl.String),
        separator=form.delimiter,
        quote_char=None,
        empty_string_is_null=False,
        raise_if_empty=False,
    )
    return Block(rows=rows, offsets=np.flatnonzero(fits), broken=broken)


def split_quoted(lines: bytes, rest: Text, form: Format, names: Sequence[str]) -> Block:
    """Return the records that begin in some lines. The last may reach into the rest of the text."""
    begun = lines.splitlines(keepends=True)
    source = _Lines(chain(begun, iter(rest.line, b"")))
    reader = csv.reader(source, delimiter=form.delimiter, strict=True)
    width = len(names)
    rows: list[Sequence[str | None]] = []
    offsets: list[int] = []
    broken: list[tuple[int, str, str]] = []
    while source.read < len(begun) or source.left:
        cells: list[str] | None = None
        reason = ""
        try:
            cells = next(reader)
        except csv.Error as error:
            reason = f"half a line, a stray quote, or a cell too long: {error}"
        if cells is None or len(cells) != width:
            # A stray quote takes all up to the next one into its cell: only its own line is lost.
            source.give_back()
        original = source.take()
        number = len(rows) + len(broken)
        if not is_sound(original):
            broken.append((number, f"not valid {form.encoding}", shown(original)))
        elif cells is not None and len(cells) == width:
            rows.append(cells)
            offsets.append(number)
        else:
            broken.append((number, reason if cells is None else _misfit(len(cells), width), shown(original)))
    return Block.of(names, rows, offsets, broken)


class _Lines:
    """The lines of a text as `csv` reads them, keeping those that the record being read is made of."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self.read = 0
        self._stream = stream
        self._taken: list[bytes] = []
        self._back: list[bytes] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._back.pop() if self._back else next(self._stream)
        self.read += 1
        self._taken.append(line)
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """Return the lines of the record, and begin another."""
        text = b"".join(self._taken)
        self._taken.clear()
        return text

    def give_back(self) -> None:
        """Keep the first line of the record only; what follows may be records of their own."""
        self._back += reversed(self._taken[1:])
        self.read -= len(self._taken) - 1
        del self._taken[1:]

    @property
    def left(self) -> int:
        """How many lines were given back and not read since."""
        return len(self._back)


def _misfit(cells: int, width: int) -> str:
    return f"{cells} cells, the header has {width}" if cells else "empty row"
