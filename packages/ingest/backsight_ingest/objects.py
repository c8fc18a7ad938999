"""JSON objects as records, one a line or in the list of a document; every value is kept as it was written.

A field within a field is named with dots, ``source.name``. Lines are decoded by msgspec, which reads over what nobody
asked for; a line that it refuses is read once more by `json`, which says why, or is laxer. That both say the same of
sound lines is tested.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.blocks import SURROGATE, Block, is_sound, open_text, shown
from backsight_ingest.files import Member
from backsight_ingest.heads import Head, Settings, sources
from backsight_ingest.layout import EVERYTHING_ELSE, Layout, render

LARGEST_DOCUMENT: Final = 512 * 2**20
"""Bytes of a JSON document, which is read as a whole."""

_ROWS_PER_BLOCK: Final = 4_000
_TEXT_OR_NONE: Final = frozenset({str, type(None)})
_WHOLE_OR_NONE: Final = frozenset({int, type(None)})
_TEXT_BOOLEAN_OR_NONE: Final = _TEXT_OR_NONE | {bool}
_WORDS: Final = {True: "true", False: "false", None: None}


def json_lines(layout: Layout, member: Member, settings: Settings) -> Iterator[Head | Block]:
    """Yield the head of a text and then its records, an object a line.

    Raises
    ------
    Drifted
        If the first object has not the declared fields, or there is none.
    """
    variables = settings.resolve(member, [])
    encoding = layout.format.encoding
    with open_text(member, layout.format) as text:
        broken: list[tuple[int, str, str]] = []
        while line := text.line():
            first, reason = _object(line, encoding)
            if not reason:
                break
            broken.append((len(broken), reason, shown(line)))
        else:
            raise Drifted(broken[0][1] if broken else "no record")
        fields = _fields(layout, variables, first)
        yield Head(names=fields.read, variables=variables)
        yield Block.of(fields.read, [], [], broken)
        text.give_back(line)
        decode = _decoder(fields)
        while lines := text.block():
            yield _decoded(lines, fields, decode) or _parsed(lines, fields, encoding)


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
    with open_text(member, layout.format) as text:
        whole = b"".join(iter(text.block, b""))
    try:
        found = _loads(whole)
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
    damaged = "" if is_sound(whole) else f"not valid {layout.format.encoding}"
    for start in range(0, len(found), _ROWS_PER_BLOCK):
        objects = [(each, "", each) for each in found[start : start + _ROWS_PER_BLOCK]]
        yield _picked(objects, fields, damaged)


_TEXTS: Final = msgspec.json.Decoder(dict[str, str | None])


def cells(text: str) -> dict[str, str | None] | None:
    """Return the cells of a row that was set aside as JSON, None where the text is a line that could not be split."""
    try:
        return _TEXTS.decode(text)
    except ValueError:
        pass  # not all of its values are texts, or it is a line
    try:
        found = _loads(text.encode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    # Half a surrogate pair is no text, and left out as it is where files are read.
    return {
        SURROGATE.sub("", name): None if text is None else SURROGATE.sub("", text)
        for name, value in found.items()
        for text in [_scalar(value)]
    }


@dataclass(frozen=True, kw_only=True)
class _Fields:
    """The fields of JSON objects.

    Parameters
    ----------
    paths : mapping of str to tuple of str
        Per column where it stands: the name of a field, and of those within it.
    required : frozenset of str
        Fields that each object has to have.
    ignored : frozenset of str
        Fields passed over, ``*`` for all others.
    """

    paths: Mapping[str, tuple[str, ...]]
    required: frozenset[str]
    ignored: frozenset[str]

    @property
    def read(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.paths)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The fields of an object that they stand in."""
        return tuple(dict.fromkeys(path[0] for path in self.paths.values()))


def _fields(layout: Layout, variables: Mapping[str, str], first: Any) -> _Fields:
    """Return the fields that a layout asks for, given the first object, which has to be of its shape.

    Objects of one text need not have the same fields, so of a column with several names all are read.
    """
    if not isinstance(first, dict):
        raise Drifted("the first record is no JSON object")

    def path(name: str) -> tuple[str, ...]:
        return (name,) if name in first else tuple(name.split("."))

    asked = [
        (target, [render(choice, variables) for choice in choices])
        for version in layout.versions
        for target, choices in {**layout.columns, **version.columns}.items()
    ]
    names = [name for _, group in asked if any(path(each)[0] in first for each in group) for name in group]
    names += [name for version in layout.versions for name in (version.present, version.absent) if name]
    optional = [name for target, group in asked if target in layout.optional for name in group]
    paths = {name: path(name) for name in dict.fromkeys([*names, *layout.id_from, *optional])}
    roots = {each[0] for each in paths.values()}
    chosen = sources(layout, variables, dict.fromkeys([*names, *(name for name in first if name not in roots)]))
    required = {
        found[0]
        for each in chosen
        for target, found in each.items()
        if target not in layout.optional and len(found) == 1
    }
    return _Fields(
        paths=paths,
        required=frozenset(paths[name][0] for name in required),
        ignored=frozenset(render(name, variables) for name in layout.ignored),
    )


def _scalar(value: Any) -> str | None:
    """Return a JSON value as text; numbers come as they were written."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _within(value: Any, path: Sequence[str]) -> Any:
    """Return the value that stands in fields within a value, None where there is no such field."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _decoder(fields: _Fields) -> msgspec.json.Decoder[Any]:
    """Return what decodes an object of these fields, and refuses one that has others or lacks one."""
    read = {f"read_{i}": (name, Any, name in fields.required) for i, name in enumerate(fields.roots)}
    others = fields.ignored - {EVERYTHING_ELSE, *fields.roots}
    ignored = {f"ignored_{i}": (name, msgspec.Raw, False) for i, name in enumerate(others)}
    record = msgspec.defstruct(
        "Record",
        [
            (attribute, kind) if required else (attribute, kind, None)
            for attribute, (_, kind, required) in {**read, **ignored}.items()
        ],
        rename={attribute: name for attribute, (name, _, _) in {**read, **ignored}.items()},
        forbid_unknown_fields=EVERYTHING_ELSE not in fields.ignored,
        kw_only=True,
        gc=False,
    )
    return msgspec.json.Decoder(record, float_hook=str)


def _decoded(lines: bytes, fields: _Fields, decoder: msgspec.json.Decoder[Any]) -> Block | None:
    """Return the records of lines that are all sound, each an object of the declared fields; None if one is not."""
    text = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(text[:-1] == ord("\n"))
    # In JSON no object follows another but after a comma: where one ends before a line and one begins after it, that is
    # between two records.
    apart = (text[ends - 1] == ord("}")).all() and (text[ends + 1] == ord("{")).all()
    if not apart or b"\r" in lines or not is_sound(lines):
        return None
    try:
        found = decoder.decode_lines(lines)
    except (ValueError, RecursionError):
        return None
    if len(found) != len(ends) + 1:
        return None
    columns = [_Column([*map(attrgetter(f"read_{number}"), found)]) for number in range(len(fields.roots))]
    of_root = dict(zip(fields.roots, columns, strict=True))
    rows = pl.DataFrame([of_root[path[0]].texts(path[1:]).alias(name) for name, path in fields.paths.items()])
    return Block(rows=rows, offsets=np.arange(len(found)), broken=[])


class _Column:
    """The values of one field in many objects.

    Parameters
    ----------
    values : list
        One of each object, None where it has no such field; broken numbers as they were written.
    """

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self._kinds = frozenset(map(type, values))

    def texts(self, path: Sequence[str]) -> pl.Series:
        """Return the values, or what stands in fields within them, as `_scalar` does, at a fraction of its cost."""
        if not path:
            return self._texts()
        if dict not in self._kinds:
            return pl.Series([None] * len(self._values), dtype=pl.String)
        return _Column([_within(value, path) for value in self._values])._texts()

    def _texts(self) -> pl.Series:
        values, kinds = self._values, self._kinds
        if kinds <= _TEXT_OR_NONE:
            return pl.Series(values, dtype=pl.String)
        if kinds <= _WHOLE_OR_NONE:
            try:
                return pl.Series(values, dtype=pl.Int64).cast(pl.String)
            except (OverflowError, TypeError):  # a number beyond 64 bits
                pass
        if kinds <= _TEXT_BOOLEAN_OR_NONE:
            return pl.Series([each if type(each) is str else _WORDS[each] for each in values], dtype=pl.String)
        return pl.Series([_scalar(each) for each in values], dtype=pl.String)


def _parsed(lines: bytes, fields: _Fields, encoding: str) -> Block:
    """Return the records of any lines."""
    return _picked([(*_object(line, encoding), line) for line in lines.splitlines(keepends=True)], fields, "")


def _object(line: bytes, encoding: str) -> tuple[Any, str]:
    """Return what a line holds, or the reason why it is no record."""
    if not is_sound(line):
        return None, f"not valid {encoding}"
    if not line.strip():
        return None, "empty row"
    try:
        return _loads(line.rstrip(b"\r\n")), ""
    except (ValueError, RecursionError) as error:
        return None, f"half a line, or no JSON: {error}"


def _loads(text: bytes) -> Any:
    return json.loads(text.decode("utf-8", "surrogateescape"), parse_float=str, parse_constant=str)


def _picked(objects: Sequence[tuple[Any, str, Any]], fields: _Fields, damaged: str) -> Block:
    """Return the records that objects are.

    Parameters
    ----------
    objects : sequence of (object, str, object or bytes)
        Each, the reason why it is none, and its original.
    fields : _Fields
        What is picked.
    damaged : str
        The reason why an object with a half surrogate pair in it is no row; "" where it is left out of the text.
    """
    rows: list[Sequence[str | None]] = []
    offsets: list[int] = []
    broken: list[tuple[int, str, str]] = []
    for offset, (found, reason, original) in enumerate(objects):
        picked = [] if reason else [_scalar(_within(found, path)) for path in fields.paths.values()]
        reason = reason or _misfit(found, fields)
        if not reason and any(cell is not None and SURROGATE.search(cell) for cell in picked):
            picked = [None if cell is None else SURROGATE.sub("", cell) for cell in picked]
            reason = damaged
        if reason:
            broken.append((offset, reason, shown(original) if isinstance(original, bytes) else json.dumps(original)))
        else:
            rows.append(picked)
            offsets.append(offset)
    return Block.of(fields.read, rows, offsets, broken)


def _misfit(found: Any, fields: _Fields) -> str:
    """Return the reason why a JSON value is no record, "" where it is one."""
    if not isinstance(found, dict):
        return "not a JSON object"
    if EVERYTHING_ELSE not in fields.ignored and (
        unknown := [name for name in found if name not in fields.roots and name not in fields.ignored]
    ):
        return f"field {unknown[0]!r} is not declared"
    lacking = sorted(fields.required - found.keys())
    return f"no field {lacking[0]!r}" if lacking else ""
