"""Layouts: how the files of one publisher are read, declared in TOML and checked before anything is opened.

What a layout does not say is not guessed; what it says wrongly is refused with what would be right.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

from backsight_features.errors import BadInput

from backsight_ingest.consistency import Wrong, check
from backsight_ingest.layout import (
    KINDS,
    Available,
    Epoch,
    Format,
    HeaderCell,
    Layout,
    Sidecar,
    Stamp,
    Stamped,
    Version,
)

_STAMPS: Final[Mapping[str, tuple[Stamped, ...]]] = {
    "bars": ("open", "close"),
    "books": ("instant",),
    "macro": ("period start", "quarter end"),
    "news": ("instant",),
    "posts": ("instant",),
    "reactions": ("instant",),
}

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
    return _shipped(reference)


@cache
def _shipped(name: str) -> Layout:
    return parse((files("backsight_ingest") / "layouts" / f"{name}.toml").read_bytes(), name=name)


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
        check(layout)
    except (Wrong, BadInput) as error:
        raise BadInput(f"layout {name}: {error}") from None
    return layout


def _layout(raw: Mapping[str, Any], *, name: str, digest: str) -> Layout:
    raw = dict(raw)
    if own := sorted({"name", "digest"} & raw.keys()):
        raise Wrong(f"unknown key {own[0]}; a layout is named by its file")
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
            raise Wrong(f"unknown key {prefix}{key}; one of: {', '.join(sorted(known.keys() - {'name', 'digest'}))}")
        values[key] = _typed(f"{prefix}{key}", value, known[key].type)
    required = [n for n, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if lacking := [n for n in required if n not in values]:
        raise Wrong(f"lacks {', '.join(prefix + n for n in lacking)}")
    return cls(**values)


def _typed(where: str, value: Any, annotation: Any) -> Any:
    """Return a TOML value as its field wants it."""
    if annotation in (str, int, bool):
        if type(value) is not annotation:
            raise Wrong(f"{where} is {value!r}, should be {annotation.__name__}")
        if annotation is int and value < 0:
            raise Wrong(f"{where} is {value!r}, should be 0 or more")
        return value
    if annotation == tuple[str, ...]:
        return tuple(_text(where, each) for each in _list(where, value))
    if annotation == tuple[date, ...]:
        if not all(type(each) is date for each in _list(where, value)):
            raise Wrong(f"{where} is {value!r}, should be a list of dates like 2000-01-01")
        return tuple(value)
    if get_origin(annotation) is Literal:
        return _choice(where, value, get_args(annotation))
    if annotation == (Epoch | None):
        return _choice(where, value, get_args(Epoch))
    return value


def _mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Wrong(f"{where} is {value!r}, should be a table")
    return value


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Wrong(f"{where} is {value!r}, should be a list")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"{where} is {value!r}, should be a text")
    return value


def _texts(where: str, value: Any) -> dict[str, str]:
    return {key: _text(f"{where}.{key}", each) for key, each in _mapping(where, value).items()}


def _choice(where: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise Wrong(f"{where} is {value!r}, should be one of: {', '.join(choices)}")
    return value


def _pattern(value: Any) -> re.Pattern[str]:
    try:
        return re.compile(_text("path", value))
    except re.error as error:
        raise Wrong(f"path is no regular expression: {error}") from None


def _columns(where: str, value: Any) -> dict[str, tuple[str, ...]]:
    """Return, per target, the names that its column may have."""
    named = {key: each if isinstance(each, list) else [each] for key, each in _mapping(where, value).items()}
    if empty := [key for key, names in named.items() if not names]:
        raise Wrong(f"{where}.{empty[0]} is [], should name a column")
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
                raise Wrong(f"published names {name} twice")
            rules[_text(f"published[{i}].series", name)] = rule
    return rules


def _version(where: str, value: Any) -> Version:
    given = dict(_mapping(where, value))
    given["columns"] = _columns(f"{where}.columns", given.get("columns", {}))
    given["constants"] = _texts(f"{where}.constants", given.get("constants", {}))
    return _record(Version, where, given)
