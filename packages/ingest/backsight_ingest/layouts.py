"""Layouts: how the files of one publisher are read, declared in TOML and checked before anything is opened.

What a layout does not say is not guessed; what it says wrongly is refused with what would be right.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
from backsight_features.clocks import timeframe
from backsight_features.errors import BadInput

from backsight_ingest.layout import (
    KINDS,
    NAME,
    Available,
    Epoch,
    Format,
    HeaderCell,
    Layout,
    Sidecar,
    Stamp,
    Stamped,
    Version,
    duration,
)

_STAMPS: Final[Mapping[str, tuple[Stamped, ...]]] = {
    "bars": ("open", "close"),
    "macro": ("period start", "quarter end"),
    "news": ("instant",),
    "posts": ("instant",),
    "reactions": ("instant",),
}
_DERIVED: Final = ("observed_at", "available_at", "available_at_estimated", "source")

T = TypeVar("T")


def shipped() -> tuple[str, ...]:
    """Return the names of the layouts that come with backsight, in order."""
    folder = files("backsight_ingest") / "layouts"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(reference: str) -> Layout:
    """Return the layout with a shipped name, or of the user's own file.

    Parameters
    ----------
    reference : str
        A shipped name, or a path that ends with ``.toml``.

    Raises
    ------
    BadInput
        If there is none, or it declares what cannot be.
    """
    if reference.endswith(".toml"):
        path = Path(reference).absolute()
        if not path.is_file():
            raise BadInput(f"layout {reference}: no such file")
        return parse(path.read_bytes(), name=str(path))
    if reference not in shipped():
        raise BadInput(f"no layout {reference!r}; give a path that ends with .toml, or one of: {', '.join(shipped())}")
    return parse((files("backsight_ingest") / "layouts" / f"{reference}.toml").read_bytes(), name=reference)


def parse(text: bytes, *, name: str) -> Layout:
    """Return the layout that a TOML text declares.

    Raises
    ------
    BadInput
        If the text is no TOML, has an unknown key, lacks one, or contradicts itself; says what would be right.
    """
    try:
        raw = tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"layout {name} is no TOML: {error}") from None
    try:
        layout = _layout(raw, name=name, digest=hashlib.sha256(text).hexdigest())
        _check(layout)
    except (_Wrong, BadInput) as error:
        raise BadInput(f"layout {name}: {error}") from None
    return layout


class _Wrong(Exception):
    """What is wrong in a layout, before its name is known."""


def _layout(raw: Mapping[str, Any], *, name: str, digest: str) -> Layout:
    raw = dict(raw)
    if own := sorted({"name", "digest"} & raw.keys()):
        raise _Wrong(f"unknown key {own[0]}; a layout is named by its file")
    kind = _choice("kind", raw.pop("kind", None), tuple(KINDS))
    given = dict(_mapping("observed", raw.pop("observed", {})))
    stamp = _choice("observed.stamp", given.pop("stamp", _STAMPS[kind][0]), _STAMPS[kind])
    available = _mapping("available", raw.pop("available", {}))
    pattern = raw.pop("path", None)
    parts: dict[str, Any] = {
        "name": name,
        "digest": digest,
        "kind": kind,
        "stamp": stamp,
        "observed": _record(Stamp, "observed", given),
        "available": _available("available", available),
        "published": _published(available, raw.pop("published", [])),
        "format": _record(Format, "format", raw.pop("format", {})),
        "header": {
            key: _record(HeaderCell, f"header.{key}", cell)
            for key, cell in _mapping("header", raw.pop("header", {})).items()
        },
        "path": None if pattern is None else _pattern(pattern),
        "columns": _columns("columns", raw.pop("columns", {})),
    }
    if "sidecar" in raw:
        parts["sidecar"] = _record(Sidecar, "sidecar", raw.pop("sidecar"))
    if "versions" in raw:
        parts["versions"] = tuple(
            _version(f"versions[{i}]", each) for i, each in enumerate(_list("versions", raw.pop("versions")))
        )
    for key in ("translate", "replace"):
        nested = _mapping(key, raw.pop(key, {}))
        parts[key] = {each: _texts(f"{key}.{each}", value) for each, value in nested.items()}
    for key in ("constants", "defaults"):
        parts[key] = _texts(key, raw.pop(key, {}))
    return _record(Layout, "", {**raw, **parts})


def _record(cls: type[T], where: str, given: Any) -> T:
    """Return the dataclass with the given keys, lists as tuples; refuse the unknown and the missing."""
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    prefix = f"{where}." if where else ""
    for key, value in _mapping(where or "the layout", given).items():
        if key not in known:
            raise _Wrong(f"unknown key {prefix}{key}; one of: {', '.join(sorted(known.keys() - {'name', 'digest'}))}")
        values[key] = _typed(f"{prefix}{key}", value, known[key].type)
    required = [n for n, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if lacking := [n for n in required if n not in values]:
        raise _Wrong(f"lacks {', '.join(prefix + n for n in lacking)}")
    return cls(**values)


def _typed(where: str, value: Any, annotation: Any) -> Any:
    """Return a TOML value as its field wants it."""
    if annotation in (str, int, bool):
        if type(value) is not annotation:
            raise _Wrong(f"{where} is {value!r}, should be {annotation.__name__}")
        if annotation is int and value < 0:
            raise _Wrong(f"{where} is {value!r}, should be 0 or more")
        return value
    if annotation == tuple[str, ...]:
        return tuple(_text(where, each) for each in _list(where, value))
    if annotation == tuple[date, ...]:
        if not all(type(each) is date for each in _list(where, value)):
            raise _Wrong(f"{where} is {value!r}, should be a list of dates like 2000-01-01")
        return tuple(value)
    if get_origin(annotation) is Literal:
        return _choice(where, value, get_args(annotation))
    if annotation == (Epoch | None):
        return _choice(where, value, get_args(Epoch))
    return value


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{where} is {value!r}, should be a table")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Wrong(f"{where} is {value!r}, should be a list")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{where} is {value!r}, should be a text")
    return value


def _texts(where: str, value: Any) -> dict[str, str]:
    return {key: _text(f"{where}.{key}", each) for key, each in _mapping(where, value).items()}


def _choice(where: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise _Wrong(f"{where} is {value!r}, should be one of: {', '.join(choices)}")
    return value


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text("path", value))
    except re.error as error:
        raise _Wrong(f"path is no regular expression: {error}") from None


def _columns(where: str, value: Any) -> dict[str, tuple[str, ...]]:
    """Return, per target, the names that its column may have."""
    named = {key: each if isinstance(each, list) else [each] for key, each in _mapping(where, value).items()}
    if empty := [key for key, names in named.items() if not names]:
        raise _Wrong(f"{where}.{empty[0]} is [], should name a column")
    return {key: tuple(_text(f"{where}.{key}", name) for name in names) for key, names in named.items()}


def _available(where: str, value: Mapping[str, Any]) -> Available:
    given = dict(value)
    stamp = {key: given.pop(key) for key in ("formats", "zone", "epoch") if key in given}
    return _record(Available, where, {**given, "stamp": _record(Stamp, where, stamp)})


def _published(available: Mapping[str, Any], value: Any) -> dict[str, Available]:
    """Return the rule of each series that has its own: ``[[published]]`` with ``series`` and what differs."""
    rules: dict[str, Available] = {}
    for i, each in enumerate(_list("published", value)):
        given = dict(_mapping(f"published[{i}]", each))
        series = _list(f"published[{i}].series", given.pop("series", None))
        rule = _available(f"published[{i}]", {**available, **given})
        for name in series:
            if name in rules:
                raise _Wrong(f"published names {name} twice")
            rules[_text(f"published[{i}].series", name)] = rule
    return rules


def _version(where: str, value: Any) -> Version:
    given = dict(_mapping(where, value))
    given["columns"] = _columns(f"{where}.columns", given.get("columns", {}))
    given["constants"] = _texts(f"{where}.constants", given.get("constants", {}))
    return _record(Version, where, given)


def _check(layout: Layout) -> None:
    """Refuse a layout whose parts do not fit together."""
    if not layout.versions:
        raise _Wrong("versions is [], should hold a table for each fact of a row, or be left out")
    for version in layout.versions:
        _check_columns(layout, {**layout.columns, **version.columns}, {**layout.constants, **version.constants})
    used = {name for text in _templates(layout) for name in NAME.findall(text)}
    if unknown := sorted(used - layout.variables):
        raise _Wrong(f"{{{unknown[0]}}} is not defined; define it in settings, defaults, header or a group of path")
    if unknown := sorted(layout.translate.keys() - layout.variables):
        raise _Wrong(f"translate.{unknown[0]} is no variable; one of: {', '.join(sorted(layout.variables))}")
    if layout.volumes_by_price and not {"volume", "quote_volume"} <= layout.columns.keys():
        raise _Wrong("volumes_by_price needs columns for volume and quote_volume")
    if layout.id_from and (layout.kind == "news" or "id" not in layout.table.columns):
        raise _Wrong(f"id_from is for posts and reactions; {layout.kind} have no id of their own")
    _check_format(layout)
    _check_clocks(layout)


def _check_columns(layout: Layout, columns: Mapping[str, tuple[str, ...]], constants: Mapping[str, str]) -> None:
    table = layout.table
    allowed = {*table.columns, *_DERIVED} - {"source", "available_at_estimated"}
    for key in (*columns, *constants):
        if key not in allowed:
            raise _Wrong(f"{layout.kind} have no {key}; one of: {', '.join(sorted(allowed))}")
    made = {"available_at", "source", "available_at_estimated", *(("id",) if layout.kind == "news" else ())}
    made |= {"id"} if layout.id_from else set()
    needed = set(table.columns) - set(table.nullable) - made
    if lacking := sorted(needed - columns.keys() - constants.keys()):
        raise _Wrong(f"says nothing of {', '.join(lacking)}; name the column, or a constant")
    if unknown := sorted({*layout.optional, *layout.replace} - columns.keys()):
        raise _Wrong(f"optional or replace names {unknown[0]}, which is not in columns")
    if always := sorted(set(layout.optional) & needed - constants.keys()):
        raise _Wrong(f"optional names {always[0]}, which every one of the {layout.kind} has to have")
    if twice := sorted(columns.keys() & constants.keys() - set(layout.optional)):
        raise _Wrong(f"{twice[0]} is a column and a constant; leave one out, or list it under optional")
    if layout.kind == "bars" and "timeframe" not in constants:
        raise _Wrong("timeframe has to be a constant: a file holds bars of one length")
    if layout.kind == "bars" and not NAME.search(constants["timeframe"]):
        timeframe(constants["timeframe"])


def _check_format(layout: Layout) -> None:
    form = layout.format
    if form.type == "csv" and form.header == 0 and not form.names:
        raise _Wrong("format.header is 0, so format.names has to name the columns")
    if form.marks and len(form.marks) != form.header:
        raise _Wrong(f"format.marks needs a text for each of the {form.header} header rows")
    if form.header > 1 and not form.marks:
        raise _Wrong("format.header is above 1, so format.marks has to give the first cell of each header row")
    if form.names and (form.header > 1 or form.marks):
        raise _Wrong("format.names is for text with no header row or one, and without format.marks")
    if len(form.delimiter) != 1 or form.delimiter in '"\r\n':
        raise _Wrong(f"format.delimiter is {form.delimiter!r}, should be one character, and no quote")
    if len(form.decimal) != 1 or form.decimal == form.thousands:
        raise _Wrong(f"format.decimal is {form.decimal!r}, should be one character, and not that of thousands")
    try:
        "".encode(form.encoding)
    except (LookupError, ValueError):
        raise _Wrong(f"format.encoding is {form.encoding!r}, should be one like utf-8, latin-1, utf-16") from None
    if zero := [key for key, cell in layout.header.items() if cell.row == 0 or cell.column == 0]:
        raise _Wrong(f"header.{zero[0]}: rows and columns are counted from 1")


def _check_clocks(layout: Layout) -> None:
    _check_stamp("observed", layout.observed)
    if layout.published and "series" not in layout.constants:
        raise _Wrong("published needs the series as a constant")
    for rule in (layout.available, *layout.published.values()):
        if rule.base == "column" and not all(
            "available_at" in {**layout.columns, **v.columns} for v in layout.versions
        ):
            raise _Wrong("available.base is column, but columns has no available_at")
        if rule.base in ("column", "path", "sidecar"):
            _check_stamp("available", rule.stamp)
        if rule.base == "path" and "stamp" not in layout.variables:
            raise _Wrong("available.base is path, but path has no group named stamp")
        if (rule.base == "sidecar") != (layout.sidecar is not None):
            raise _Wrong("available.base sidecar and the table [sidecar] belong together")
        if rule.business_days and rule.day_end != "always":
            raise _Wrong('available.business_days needs available.day_end = "always"')
        _zone("available.day_zone", rule.day_zone)
        if not NAME.search(rule.lag):
            duration(rule.lag)


def _templates(layout: Layout) -> list[str]:
    rules = (layout.available, *layout.published.values())
    columns = [layout.columns, *(version.columns for version in layout.versions)]
    constants = [layout.constants, *(version.constants for version in layout.versions)]
    return [
        *(name for mapping in columns for names in mapping.values() for name in names),
        *(value for mapping in constants for value in mapping.values()),
        *(rule.lag for rule in rules),
        *layout.ignored,
    ]


def _check_stamp(where: str, stamp: Stamp) -> None:
    if bool(stamp.formats) == (stamp.epoch is not None):
        raise _Wrong(f"{where} needs either formats or epoch")
    for each in stamp.formats:
        try:
            pl.Series([each]).str.to_datetime(each, strict=False)
        except pl.exceptions.ComputeError as error:
            raise _Wrong(f"{where}.formats: {each!r} is no format: {str(error).splitlines()[0]}") from None
        if "%" not in each:
            raise _Wrong(f"{where}.formats: {each!r} is no format; write one like %Y-%m-%d %H:%M:%S")
    _zone(f"{where}.zone", stamp.zone)


def _zone(where: str, name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise _Wrong(f"{where} is {name!r}, which is no zone; write one like America/New_York") from None
