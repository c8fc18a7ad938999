"""Records: the rows of a text as text, in batches, with what is no row set aside in its original words.

Nothing is cast and nothing is inferred here. A record is counted from 1 within its file, over all members of an
archive, whether it is whole or broken.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any, Final

import polars as pl
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.files import Member
from backsight_ingest.layouts import Format, Layout, render

ROWS_PER_BATCH: Final = 200_000
TEXT_PER_BATCH: Final = 64 * 2**20
"""Characters after which a batch is full, so that long texts take no more memory than short ones."""

_ROWS_PER_BLOCK: Final = 4_000

LARGEST_DOCUMENT: Final = 512 * 2**20
"""Bytes of a JSON document, which is read as a whole."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


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
class Head:
    """What the header of a text settles.

    Parameters
    ----------
    names : tuple of str
        Its columns, in order.
    variables : mapping of str to str
        What ``{name}`` stands for in the layout.
    """

    names: tuple[str, ...]
    variables: Mapping[str, str]


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


def sources(layout: Layout, variables: Mapping[str, str], names: Iterable[str]) -> list[dict[str, str]]:
    """Return, per version, the column of the file that each column of the table comes from.

    Raises
    ------
    Drifted
        If a declared column is missing, or a column is not declared.
    """
    present = list(names)
    if twice := sorted({name for name in present if present.count(name) > 1}):
        raise Drifted(f"column {twice[0]!r} is there twice")
    chosen: list[dict[str, str]] = []
    for version in layout.versions:
        found: dict[str, str] = {}
        for target, choices in {**layout.columns, **version.columns}.items():
            rendered = [render(choice, variables) for choice in choices]
            match = [choice for choice in rendered if choice in present]
            if match:
                found[target] = match[0]
            elif target not in layout.optional:
                raise Drifted(f"no column {' or '.join(map(repr, rendered))} for {target}; there is {_listed(present)}")
        if version.present and version.present not in present:
            raise Drifted(f"no column {version.present!r}; there is {_listed(present)}")
        chosen.append(found)
    declared = {source for found in chosen for source in found.values()}
    declared |= {version.present for version in layout.versions}
    declared |= {render(name, variables) for name in layout.ignored} | set(layout.id_from)
    if unknown := [name for name in present if name not in declared]:
        raise Drifted(f"column {_listed(unknown)} is not declared; map it or list it under ignored")
    return chosen


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (" …" if len(names) > 20 else "")


class Settings:
    """Where the variables of a layout come from: what was given by hand, the path, the header, the defaults.

    Parameters
    ----------
    layout : Layout
        Which declares them.
    given : mapping of str to str
        By hand.

    Raises
    ------
    BadInput
        If the layout has no such setting.
    """

    def __init__(self, layout: Layout, given: Mapping[str, str]) -> None:
        if unknown := sorted(given.keys() - layout.variables):
            known = ", ".join(sorted(layout.variables)) or "none"
            raise BadInput(f"layout {layout.name} has no setting {unknown[0]!r}; it has: {known}")
        self._layout = layout
        self._given = given

    def resolve(self, member: Member, header: Sequence[Sequence[str]]) -> dict[str, str]:
        """Return the variables that are known of one text; `render` refuses one that is needed and is not."""
        layout = self._layout
        found = dict(layout.defaults)
        for name, cell in layout.header.items():
            if cell.row <= len(header) and cell.column <= len(header[cell.row - 1]):
                found[name] = header[cell.row - 1][cell.column - 1]
        if layout.path is not None:
            # The last match is the one nearest to the file's own name.
            for match in layout.path.finditer(member.place):
                found.update({name: text for name, text in match.groupdict().items() if text is not None})
        found = {name: layout.translate.get(name, {}).get(text, text) for name, text in found.items()}
        found.update(self._given)
        return found


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
        If the text cannot be decoded, or a variable is found nowhere.
    """
    building = _Building(rows_per_batch, text_per_batch)
    drifted: list[Drifted] = []
    for member in members:
        start = building.last
        try:
            for found in _records(layout, member, settings, min(rows_per_batch, _ROWS_PER_BLOCK)):
                yield from building.begin(found) if isinstance(found, Head) else building.add(member, found)
            building.shelve(member)
        except Drifted as error:
            if building.last > start:
                raise
            drifted.append(Drifted(f"{member.origin}: {error}"))
            if len(drifted) == len(members):
                raise drifted[0] from None
            for line, _ in _lines(member, layout.format):
                yield from building.add(member, _no_row(f"the file has another shape: {error}", line))
    yield from building.flush()


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Some consecutive records of one text.

    Parameters
    ----------
    cells : list of sequence of str or None
        Of those that are rows.
    offsets : sequence of int
        Where these stand in the block.
    broken : list of (int, str, str)
        Offset, reason and text of the others.
    text : int
        Characters in all of them.
    """

    cells: list[Sequence[str | None]]
    offsets: Sequence[int]
    broken: list[tuple[int, str, str]]
    text: int


def _row(cells: Sequence[str | None], size: int) -> _Block:
    return _Block(cells=[cells], offsets=(0,), broken=[], text=size)


def _no_row(reason: str, original: str) -> _Block:
    return _Block(cells=[], offsets=(), broken=[(0, reason, original)], text=len(original))


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

    def add(self, member: Member, block: _Block) -> Iterator[Batch]:
        """Take the next records of a text."""
        first = self.last + 1
        self._cells += block.cells
        self._numbers += [first + offset for offset in block.offsets]
        self._broken += [
            Broken(row=first + offset, origin=member.origin, reason=reason, original=text.rstrip("\r\n"))
            for offset, reason, text in block.broken
        ]
        records = len(block.cells) + len(block.broken)
        self.last += records
        self._held += records
        self._text += block.text
        full = self._held >= self._rows_per_batch or self._text >= self._text_per_batch
        if full or len(self._cells) >= _ROWS_PER_BLOCK:
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
        numbers = pl.Series("@row", self._numbers, dtype=pl.Int64)
        self._done.append(frame.with_columns(numbers, pl.lit(member.origin).alias("@origin")))
        self._cells, self._numbers = [], []

    def flush(self) -> Iterator[Batch]:
        """Yield what was shelved, if there is any."""
        if self._held:
            rows = pl.concat(self._done, how="diagonal") if self._done else pl.DataFrame()
            yield Batch(rows=rows, broken=tuple(self._broken), variables=self._head.variables, last=self.last)
        self._clear()


def _records(layout: Layout, member: Member, settings: Settings, rows_per_block: int) -> Iterator[Head | _Block]:
    """Yield the head of one text and then its records."""
    if layout.format.type == "csv":
        return _delimited(layout, member, settings, rows_per_block)
    return (_json_lines if layout.format.type == "jsonl" else _json_document)(layout, member, settings)


class _Lines:
    """The lines of a text, keeping those that the record being read is made of."""

    def __init__(self, stream: Iterator[str]) -> None:
        self.read = 0
        self._stream = stream
        self._taken: list[str] = []
        self._sound = True

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self.read += 1
        self._sound = self._sound and _is_sound(line)
        self._taken.append(line)
        return line

    def take(self) -> tuple[str, bool]:
        """Return the lines of the record and whether they could be decoded, and begin another."""
        text, sound = "".join(self._taken), self._sound
        self._taken.clear()
        self._sound = True
        return text if sound else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), sound


def _is_sound(text: str) -> bool:
    """Return whether all bytes of a text could be decoded."""
    return text.isascii() or _SURROGATE.search(text) is None


def _open(member: Member, form: Format) -> IO[str]:
    encoding = "utf-8-sig" if form.encoding.lower() in ("utf-8", "utf8") else form.encoding
    try:
        return member.path.open(encoding=encoding, errors="surrogateescape", newline="")
    except LookupError:
        raise BadInput(f"format.encoding {form.encoding!r} is unknown; write one like utf-8, latin-1, utf-16") from None


def _lines(member: Member, form: Format) -> Iterator[tuple[str, bool]]:
    with _open(member, form) as stream:
        lines = _Lines(stream)
        for _ in lines:
            yield lines.take()


def _delimited(layout: Layout, member: Member, settings: Settings, rows_per_block: int) -> Iterator[Head | _Block]:
    form = layout.format
    with _open(member, form) as stream:
        lines = _Lines(stream)
        reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
        try:
            for _ in range(form.skip):
                next(lines)
            header = [next(reader) for _ in range(form.header)]
        except StopIteration:
            raise Drifted("the text ends before its header does") from None
        except csv.Error as error:
            raise Drifted(f"the header is no delimited text: {error}") from None
        if not lines.take()[1]:
            raise Drifted(f"the header is not {form.encoding}")
        names = tuple(header[0]) if header else form.names
        variables = settings.resolve(member, header)
        sources(layout, variables, names)
        yield Head(names=names, variables=variables)
        while block := list(islice(stream, rows_per_block)):
            yield _plain(block, form, len(names)) or _quoted(block, stream, form, len(names))


def _plain(block: list[str], form: Format, width: int) -> _Block | None:
    """Return the records of lines without quotes, each a line; None where there are quotes or damaged lines."""
    text = "".join(block)
    if '"' in text or not _is_sound(text):
        return None
    try:
        cells = list(csv.reader(block, delimiter=form.delimiter, strict=True))
    except csv.Error:  # a cell without end; the other way finds which
        return None
    fits = [len(each) == width for each in cells]
    return _Block(
        cells=[each for each, fit in zip(cells, fits, strict=True) if fit],
        offsets=[i for i, fit in enumerate(fits) if fit],
        broken=[(i, _misfit(cells[i], width), block[i]) for i, fit in enumerate(fits) if not fit],
        text=len(text),
    )


def _quoted(block: list[str], rest: Iterator[str], form: Format, width: int) -> _Block:
    """Return the records that begin in some lines. The last may reach into the rest of the text."""
    lines = _Lines(chain(block, rest))
    reader = csv.reader(lines, delimiter=form.delimiter, strict=True)
    rows: list[Sequence[str | None]] = []
    offsets: list[int] = []
    broken: list[tuple[int, str, str]] = []
    size = 0
    while lines.read < len(block):
        cells: list[str] | None = None
        reason = ""
        try:
            cells = next(reader)
        except csv.Error as error:
            reason = f"half a line, or a stray quote: {error}"
        original, sound = lines.take()
        size += len(original)
        number = len(rows) + len(broken)
        if not sound:
            broken.append((number, f"not valid {form.encoding}", original))
        elif cells is not None and len(cells) == width:
            rows.append(cells)
            offsets.append(number)
        else:
            broken.append((number, reason if cells is None else _misfit(cells, width), original))
    return _Block(cells=rows, offsets=offsets, broken=broken, text=size)


def _misfit(cells: Sequence[str], width: int) -> str:
    return f"{len(cells)} cells, the header has {width}" if cells else "empty row"


def _scalar(value: Any) -> str | None:
    """Return a JSON value as text; numbers come as they were written."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def cells(text: str) -> dict[str, str | None] | None:
    """Return the cells of a row that was set aside as JSON, None where the text is a line that could not be split."""
    try:
        found = _parsed(text)
    except (ValueError, RecursionError):
        return None
    return {name: _scalar(value) for name, value in found.items()} if isinstance(found, dict) else None


@dataclass(frozen=True, kw_only=True)
class _Fields:
    """The fields of a JSON object: those read, in order, those that must be there, and those passed over."""

    read: tuple[str, ...]
    required: frozenset[str]
    ignored: frozenset[str]


def _picked(found: Any, fields: _Fields) -> tuple[list[str | None] | None, str]:
    """Return the cells of a JSON object in the order of the columns, or the reason why it is no row."""
    if not isinstance(found, dict):
        return None, "not a JSON object"
    if unknown := [key for key in found if key not in fields.read and key not in fields.ignored]:
        return None, f"field {unknown[0]!r} is not declared"
    if lacking := sorted(fields.required - found.keys()):
        return None, f"no field {lacking[0]!r}"
    cells = [_scalar(found.get(name)) for name in fields.read]
    if any(cell is not None and _SURROGATE.search(cell) for cell in cells):
        return None, "holds half a surrogate pair"
    return cells, ""


def _fields(layout: Layout, variables: Mapping[str, str], first: Any) -> _Fields:
    if not isinstance(first, dict):
        raise Drifted("the first record is no JSON object")
    chosen = sources(layout, variables, first)
    ignored = frozenset(render(name, variables) for name in layout.ignored)
    optional = [choice for target in layout.optional for choice in layout.columns.get(target, ())]
    read = dict.fromkeys([*(name for name in first if name not in ignored), *layout.id_from, *optional])
    required = {source for found in chosen for target, source in found.items() if target not in layout.optional}
    return _Fields(read=tuple(read), required=frozenset(required), ignored=ignored)


def _json_lines(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | _Block]:
    variables = settings.resolve(member, [])
    fields: _Fields | None = None
    waiting: list[tuple[str, str]] = []
    for line, sound in _lines(member, layout.format):
        reason = "" if sound else f"not valid {layout.format.encoding}"
        reason = reason if line.strip() else "empty row"
        found: Any = None
        try:
            found = None if reason else _parsed(line.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            reason = f"half a line, or no JSON: {error}"
        if fields is None:
            if reason:
                waiting.append((reason, line))
                continue
            fields = _fields(layout, variables, found)
            yield Head(names=fields.read, variables=variables)
            for earlier in waiting:
                yield _no_row(*earlier)
        cells, why = (None, reason) if reason else _picked(found, fields)
        yield _no_row(why, line) if cells is None else _row(cells, len(line))
    if fields is None:
        raise Drifted(waiting[0][0] if waiting else "no record")


def _json_document(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | _Block]:
    if member.path.stat().st_size > LARGEST_DOCUMENT:
        raise BadInput(f"{member.origin} is a JSON document of more than {LARGEST_DOCUMENT} bytes; make it JSON lines")
    variables = settings.resolve(member, [])
    with _open(member, layout.format) as stream:
        try:
            found = _parsed(stream.read())
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{member.origin} is no whole JSON document: {error}") from None
    for key in layout.format.rows.split(".") if layout.format.rows else []:
        if not isinstance(found, dict) or key not in found:
            raise Drifted(f"no {layout.format.rows!r} in the document")
        found = found[key]
    if not isinstance(found, list):
        raise Drifted(f"{layout.format.rows or 'the document'} is no list of rows")
    if not found:
        return
    fields = _fields(layout, variables, found[0])
    yield Head(names=fields.read, variables=variables)
    for each in found:
        cells, why = _picked(each, fields)
        if cells is None:
            yield _no_row(why, json.dumps(each, ensure_ascii=True))
        else:
            yield _row(cells, sum(len(cell or "") for cell in cells))
