"""A layout as values: where each value of a fact stands in a file, which clock a stamp is, when the fact was known.

``docs/layouts.md`` describes every key for those who write one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, Literal

from backsight_features.errors import BadInput
from backsight_features.schemas import BARS, BOOKS, MACRO, NEWS, POSTS, REACTIONS, Table

Epoch = Literal["s", "ms", "us", "ns", "auto"]
Stamped = Literal["instant", "open", "close", "period start", "quarter end"]
Base = Literal["observed", "column", "path", "sidecar", "now"]
DayEnd = Literal["never", "always", "midnight"]

KINDS: Final[Mapping[str, Table]] = {
    "bars": BARS,
    "books": BOOKS,
    "macro": MACRO,
    "news": NEWS,
    "posts": POSTS,
    "reactions": REACTIONS,
}
NAME: Final = re.compile(r"\{(\w+)\}")
"""A variable in a text of a layout."""

EVERYTHING_ELSE: Final = "*"
"""Among the ignored columns: all that are not declared."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """The shape of the text.

    Parameters
    ----------
    type : {"csv", "jsonl", "json"}
        Delimited text, one JSON object a line, or one JSON document.
    delimiter : str
        Between the cells of delimited text.
    skip : int
        Lines before the header that say nothing.
    header : int
        Header rows; the first names the columns. With 0, ``names`` does, and with 1 and ``names`` it may be absent.
    marks : tuple of str
        What the first cell of each header row has to be, so that no row of data is taken for a header.
    names : tuple of str
        The columns of delimited text whose header is absent, or may be.
    rows : str
        The key that holds the list of rows in a JSON document; dots lead deeper.
    encoding : str
        Of the text. A byte order mark is dropped.
    decimal, thousands : str
        How numbers are written.
    """

    type: Literal["csv", "jsonl", "json"] = "csv"
    delimiter: str = ","
    skip: int = 0
    header: int = 1
    marks: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rows: str = ""
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """How the text of an instant is read: by one of several formats in a zone, or as an epoch.

    Parameters
    ----------
    formats : tuple of str
        strftime formats, the first that fits counts. One that ends with ``Z`` or has ``%z`` carries its zone.
    zone : str
        Of the stamps that carry none.
    epoch : str
        Unit since 1970; ``auto`` tells s, ms, us and ns by their size.
    """

    formats: tuple[str, ...] = ()
    zone: str = "UTC"
    epoch: Epoch | None = None


@dataclass(frozen=True, kw_only=True)
class HeaderCell:
    """A cell of the header rows that is a value, rows and columns counted from 1."""

    row: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A table beside the archive, or in the folder, that tells when each file in it was seen.

    Parameters
    ----------
    file : str
        Its name; comma separated, with a header.
    key, time : str
        Its columns with a file's path and the instant.
    """

    file: str
    key: str
    time: str


@dataclass(frozen=True, kw_only=True)
class Available:
    """When a fact was known: a base instant, moved later.

    Parameters
    ----------
    base : {"observed", "column", "path", "sidecar", "now"}
        ``observed_at``; the column mapped to ``available_at``; the groups ``stamp`` of the path; the sidecar's time;
        or the instant of reading.
    stamp : Stamp
        How the text of the base is read (column, path and sidecar).
    lag : str
        Added to the base: ``15s``, ``1h``, ``50d``, or ``{name}`` of a setting.
    business_days : int
        Added to the base's date, US federal holidays left out.
    day_end : {"never", "always", "midnight"}
        When the base is only a date, so that the fact is known from the end of that day: never, always, or where it
        stands at midnight.
    day_zone : str
        Where that day ends.
    estimated : bool
        Whether this is a rule instead of a sighting.
    archive_start : tuple of date
        Dates of the base at which the archive was begun: what it holds from then was published earlier, so
        ``available_at`` is estimated.
    """

    base: Base = "observed"
    stamp: Stamp = field(default_factory=Stamp)
    lag: str = "0s"
    business_days: int = 0
    day_end: DayEnd = "never"
    day_zone: str = "UTC"
    estimated: bool = True
    archive_start: tuple[date, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Version:
    """One fact in a row that holds several.

    Parameters
    ----------
    present, absent : str
        A column that is empty where the row does not hold this version, and one that is filled there; "" for none.
    columns, constants : mapping of str to str
        In place of the layout's.
    """

    present: str = ""
    absent: str = ""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files of one publisher are read. ``docs/layouts.md`` describes every key.

    Parameters
    ----------
    name : str
        Of a shipped layout, or the path of the user's own.
    digest : str
        SHA-256 of its text: a changed layout reads its files again.
    kind : str
        Which facts: bars, books, macro, news, posts or reactions.
    """

    name: str
    digest: str
    kind: str
    about: str = ""
    files: tuple[str, ...] = ()
    path: re.Pattern[str] | None = None
    settings: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    translate: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    format: Format = field(default_factory=Format)
    header: Mapping[str, HeaderCell] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    id_from: tuple[str, ...] = ()
    volumes_by_price: bool = False
    constants: Mapping[str, str] = field(default_factory=dict)
    stamp: Stamped = "instant"
    observed: Stamp = field(default_factory=Stamp)
    available: Available = field(default_factory=Available)
    published: Mapping[str, Available] = field(default_factory=dict)
    sidecar: Sidecar | None = None
    versions: tuple[Version, ...] = (Version(),)

    @property
    def table(self) -> Table:
        """The table of the lake that the facts belong to."""
        return KINDS[self.kind]

    @property
    def variables(self) -> frozenset[str]:
        """The names that ``--set`` takes."""
        groups = self.path.groupindex if self.path else {}
        return frozenset({*self.settings, *self.defaults, *self.header, *groups})


def duration(text: str) -> timedelta:
    """Return the length of ``15s``, ``90m``, ``1h``, ``50d`` or ``2w``.

    Raises
    ------
    BadInput
        If the text is no such length.
    """
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    if match is None:
        raise BadInput(f"{text!r} is not a length of time; write 15s, 90m, 1h, 50d or 2w")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[match[2]]
    return timedelta(**{unit: int(match[1])})


def render(template: str, variables: Mapping[str, str]) -> str:
    """Return a text with each ``{name}`` replaced by the variable of that name.

    Raises
    ------
    BadInput
        If the variable is empty or not known.
    """
    if lacking := [name for name in NAME.findall(template) if not variables.get(name)]:
        raise BadInput(f"neither the file nor its path says its {lacking[0]}; give --set {lacking[0]}=…")
    return NAME.sub(lambda match: variables[match[1]], template)
