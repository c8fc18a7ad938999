"""JSON objects as records, one a line or in the list of a document; every value is kept as it was written."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backsight_features.errors import BadInput, Drifted

from backsight_ingest.blocks import SURROGATE, Block, no_row, open_text, row, text_lines
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings, sources
from backsight_ingest.layout import Layout, render

LARGEST_DOCUMENT: Final = 512 * 2**20
"""Bytes of a JSON document, which is read as a whole."""


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
    if any(cell is not None and SURROGATE.search(cell) for cell in cells):
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


def json_lines(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | Block]:
    """Yield the head of a text and then its records, an object a line.

    Raises
    ------
    Drifted
        If the first object has not the declared fields, or there is none.
    """
    variables = settings.resolve(member, [])
    fields: _Fields | None = None
    waiting: list[tuple[str, str]] = []
    for line, sound in text_lines(member, layout.format):
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
                yield no_row(*earlier)
        cells, why = (None, reason) if reason else _picked(found, fields)
        yield no_row(why, line) if cells is None else row(cells, len(line))
    if fields is None:
        raise Drifted(waiting[0][0] if waiting else "no record")


def json_document(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | Block]:
    """Yield the head of a document and then its records, the objects of a list.

    Raises
    ------
    BadInput
        If the document is cut off, no JSON, or too large to be read as a whole.
    Drifted
        If the list is not where it is declared, or its first object has not the declared fields.
    """
    if member.path.stat().st_size > LARGEST_DOCUMENT:
        raise BadInput(f"{member.origin} is a JSON document of more than {LARGEST_DOCUMENT} bytes; make it JSON lines")
    variables = settings.resolve(member, [])
    with open_text(member, layout.format) as stream:
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
            yield no_row(why, json.dumps(each, ensure_ascii=True))
        else:
            yield row(cells, sum(len(cell or "") for cell in cells))
