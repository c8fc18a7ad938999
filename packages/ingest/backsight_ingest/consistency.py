"""Consistency: what a layout has to be beyond well-formed, found out before a file is opened."""

from collections.abc import Mapping
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
from backsight_features.clocks import timeframe

from backsight_ingest.layout import NAME, Layout, Stamp, duration

_DERIVED: Final = ("observed_at", "available_at", "available_at_estimated", "source")
_EDITED: Final = ("news", "posts")


class Wrong(Exception):
    """What is wrong in a layout, before its name is known."""


def check(layout: Layout) -> None:
    """Refuse a layout whose parts do not fit together.

    Raises
    ------
    Wrong
        Says what is wrong, and what would be right.
    BadInput
        If a length of time or a timeframe is none.
    """
    if not layout.versions:
        raise Wrong("versions is [], should hold a table for each fact of a row, or be left out")
    for version in layout.versions:
        _check_columns(layout, {**layout.columns, **version.columns}, {**layout.constants, **version.constants})
    used = {name for text in _templates(layout) for name in NAME.findall(text)}
    if unknown := sorted(used - layout.variables):
        raise Wrong(f"{{{unknown[0]}}} is not defined; define it in settings, defaults, header or a group of path")
    if unknown := sorted(layout.translate.keys() - layout.variables):
        raise Wrong(f"translate.{unknown[0]} is no variable; one of: {', '.join(sorted(layout.variables))}")
    if layout.volumes_by_price and not {"volume", "quote_volume"} <= layout.columns.keys():
        raise Wrong("volumes_by_price needs columns for volume and quote_volume")
    if layout.id_from and (layout.kind == "news" or "id" not in layout.table.columns):
        raise Wrong(f"id_from is for posts and reactions; {layout.kind} have no id of their own")
    _check_format(layout)
    _check_clocks(layout)


def _check_columns(layout: Layout, columns: Mapping[str, tuple[str, ...]], constants: Mapping[str, str]) -> None:
    table = layout.table
    allowed = {*table.columns, *_DERIVED} - {"source", "available_at_estimated"}
    allowed |= {"edited_at"} if layout.kind in _EDITED else set()
    for key in (*columns, *constants):
        if key not in allowed:
            raise Wrong(f"{layout.kind} have no {key}; one of: {', '.join(sorted(allowed))}")
    made = {"available_at", "source", "available_at_estimated", *(("id",) if layout.kind == "news" else ())}
    made |= {"id"} if layout.id_from else set()
    needed = set(table.columns) - set(table.nullable) - made
    if lacking := sorted(needed - columns.keys() - constants.keys()):
        raise Wrong(f"says nothing of {', '.join(lacking)}; name the column, or a constant")
    if unknown := sorted({*layout.optional, *layout.replace} - columns.keys()):
        raise Wrong(f"optional or replace names {unknown[0]}, which is not in columns")
    if "edited_at" in constants:
        raise Wrong("edited_at is a constant, should name a column: when each text was edited")
    if always := sorted(set(layout.optional) & needed - constants.keys()):
        raise Wrong(f"optional names {always[0]}, which every one of the {layout.kind} has to have")
    if twice := sorted(columns.keys() & constants.keys() - set(layout.optional)):
        raise Wrong(f"{twice[0]} is a column and a constant; leave one out, or list it under optional")
    if layout.kind == "bars" and "timeframe" not in constants:
        raise Wrong("timeframe has to be a constant: a file holds bars of one length")
    if layout.kind == "bars" and not NAME.search(constants["timeframe"]):
        timeframe(constants["timeframe"])


def _check_format(layout: Layout) -> None:
    form = layout.format
    if form.type == "csv" and form.header == 0 and not form.names:
        raise Wrong("format.header is 0, so format.names has to name the columns")
    if form.marks and len(form.marks) != form.header:
        raise Wrong(f"format.marks needs a text for each of the {form.header} header rows")
    if form.header > 1 and not form.marks:
        raise Wrong("format.header is above 1, so format.marks has to give the first cell of each header row")
    if form.names and (form.header > 1 or form.marks):
        raise Wrong("format.names is for text with no header row or one, and without format.marks")
    if len(form.delimiter) != 1 or form.delimiter in '"\r\n':
        raise Wrong(f"format.delimiter is {form.delimiter!r}, should be one character, and no quote")
    if len(form.decimal) != 1 or form.decimal == form.thousands:
        raise Wrong(f"format.decimal is {form.decimal!r}, should be one character, and not that of thousands")
    try:
        "".encode(form.encoding)
    except (LookupError, ValueError):
        raise Wrong(f"format.encoding is {form.encoding!r}, should be one like utf-8, latin-1, utf-16") from None
    if zero := [key for key, cell in layout.header.items() if cell.row == 0 or cell.column == 0]:
        raise Wrong(f"header.{zero[0]}: rows and columns are counted from 1")


def _check_clocks(layout: Layout) -> None:
    _check_stamp("observed", layout.observed)
    if layout.published and "series" not in layout.constants:
        raise Wrong("published needs the series as a constant")
    for rule in (layout.available, *layout.published.values()):
        if rule.base == "column" and not all(
            "available_at" in {**layout.columns, **v.columns} for v in layout.versions
        ):
            raise Wrong("available.base is column, but columns has no available_at")
        if rule.base in ("column", "path", "sidecar"):
            _check_stamp("available", rule.stamp)
        if rule.base == "path" and "stamp" not in layout.variables:
            raise Wrong("available.base is path, but path has no group named stamp")
        if (rule.base == "sidecar") != (layout.sidecar is not None):
            raise Wrong("available.base sidecar and the table [sidecar] belong together")
        if rule.business_days and rule.day_end != "always":
            raise Wrong('available.business_days needs available.day_end = "always"')
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
        raise Wrong(f"{where} needs either formats or epoch")
    for each in stamp.formats:
        try:
            pl.Series([each]).str.to_datetime(each, strict=False)
        except pl.exceptions.ComputeError as error:
            raise Wrong(f"{where}.formats: {each!r} is no format: {str(error).splitlines()[0]}") from None
        if "%" not in each:
            raise Wrong(f"{where}.formats: {each!r} is no format; write one like %Y-%m-%d %H:%M:%S")
    _zone(f"{where}.zone", stamp.zone)


def _zone(where: str, name: str) -> None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Wrong(f"{where} is {name!r}, which is no zone; write one like America/New_York") from None
