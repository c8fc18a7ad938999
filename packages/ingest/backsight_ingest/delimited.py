"""Delimited text as records: cells between a delimiter, quoted where they hold one or span lines.

Read by the strict rules of `csv`. What does not fit the header is no row, and takes no other line with it.
"""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain, islice

import polars as pl
from backsight_features.errors import Drifted

from backsight_ingest.blocks import Block, Lines, is_sound, open_text
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings, sources
from backsight_ingest.layout import Format, Layout


def delimited(layout: Layout, member: Member, settings: Settings, rows_per_block: int) -> Iterator[Head | Block]:
    """Yield the head of a text and then its records.

    Raises
    ------
    Drifted
        If the header is not as declared.
    """
    form = layout.format
    with open_text(member, form) as stream:
        lines = Lines(stream)
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
        original, sound = lines.take()
        if not sound:
            raise Drifted(f"the header is not {form.encoding}; the layout's format.encoding says what the text is")
        for mark, cells in zip(form.marks, header, strict=False):
            if cells[:1] != [mark]:
                raise Drifted(f"a header row begins with {cells[:1] or ['']}, not [{mark!r}]")
        text: Iterator[str] = stream
        if form.names and header and tuple(header[0]) != form.names:
            # Where the layout names the columns, a header may be absent: this was the first record.
            header, text = [], chain(StringIO(original, newline=""), stream)
        names = tuple(header[0]) if header else form.names
        variables = settings.resolve(member, header)
        sources(layout, variables, names)
        yield Head(names=names, variables=variables)
        while block := list(islice(text, rows_per_block)):
            yield _plain(block, form, names) or _quoted(block, text, form, len(names))


def _plain(block: list[str], form: Format, names: Sequence[str]) -> Block | None:
    """Return the records of lines without quotes, each a line; None where there are quotes or damaged lines."""
    text = "".join(block)
    if '"' in text or not is_sound(text):
        return None
    lines = pl.Series(block).str.strip_chars_end("\r\n").to_frame("@line").with_row_index("@offset")
    cells = pl.col("@line").str.count_matches(form.delimiter, literal=True) + 1
    lines = lines.with_columns(pl.when(pl.col("@line") == "").then(0).otherwise(cells).alias("@cells"))
    fits = lines.filter(pl.col("@cells") == len(names))
    split = fits["@line"].str.split_exact(form.delimiter, len(names) - 1).struct.rename_fields(list(names))
    broken = lines.filter(pl.col("@cells") != len(names)).select("@offset", "@cells")
    return Block(
        cells=split.struct.unnest(),
        offsets=fits["@offset"].to_list(),
        broken=[(offset, _misfit(count, len(names)), block[offset]) for offset, count in broken.rows()],
        text=len(text),
    )


def _quoted(block: list[str], rest: Iterator[str], form: Format, width: int) -> Block:
    """Return the records that begin in some lines. The last may reach into the rest of the text."""
    lines = Lines(chain(block, rest))
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    rows: list[Sequence[str | None]] = []
    offsets: list[int] = []
    broken: list[tuple[int, str, str]] = []
    size = 0
    while lines.read < len(block) or lines.left:
        cells: list[str] | None = None
        reason = ""
        try:
            cells = next(reader)
        except csv.Error as error:
            reason = f"half a line, a stray quote, or a cell too long: {error}"
        if cells is None or len(cells) != width:
            # A stray quote takes all up to the next one into its cell: only its own line is lost.
            lines.give_back()
        original, sound = lines.take()
        size += len(original)
        number = len(rows) + len(broken)
        if not sound:
            broken.append((number, f"not valid {form.encoding}", original))
        elif cells is not None and len(cells) == width:
            rows.append(cells)
            offsets.append(number)
        else:
            broken.append((number, reason if cells is None else _misfit(len(cells), width), original))
    return Block(cells=rows, offsets=offsets, broken=broken, text=size)


def _misfit(cells: int, width: int) -> str:
    return f"{cells} cells, the header has {width}" if cells else "empty row"
