"""Dumps: from the text of a file's rows to facts with their clocks, and the rows that are no facts with a reason.

A frame goes in and two come out; no file is opened, no clock is read.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US, timeframe
from backsight_features.errors import BadInput, Drifted
from backsight_features.schemas import Table, validate

from backsight_ingest.heads import sources
from backsight_ingest.layout import Available, Layout, Version, duration, render
from backsight_ingest.stamps import instant, known

_LOWER: Final = ("venue", "channel")
_SEPARATOR: Final = "; "
_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_FEWEST_BARS: Final = 12
"""Bars that tell how far apart they lie."""
_OFF_GRID: Final = "is no multiple of"
_OURS: Final = frozenset({"@row", "@origin", "@seen", "@fact"})
"""Columns beside those of the file."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rows of a batch are.

    Parameters
    ----------
    good : pl.DataFrame
        The columns of the table, and ``@fact``, the fact's number in the file.
    bad : pl.DataFrame
        ``row`` (the fact's number), ``origin``, ``reason`` and ``original``, the cells as JSON.
    """

    good: pl.DataFrame
    bad: pl.DataFrame

    @property
    def read(self) -> int:
        """How many facts the rows hold, good and bad."""
        return self.good.height + self.bad.height


def facts(
    layout: Layout,
    rows: pl.DataFrame,
    variables: Mapping[str, str],
    *,
    now: datetime,
) -> Facts:
    """Return the facts that the rows of a dump hold.

    A row of a layout with n versions holds up to n facts; fact k of row r has the number (r - 1) * n + k, from 1.

    Parameters
    ----------
    layout : Layout
        How the rows are read.
    rows : pl.DataFrame
        A text column per column of the file, and ``@row`` and ``@origin``; see `records.Batch`. Where the
        layout has a sidecar, ``@seen`` too: its time, as text.
    variables : mapping of str to str
        What ``{name}`` stands for.
    now : datetime
        Nothing can have happened after it.

    Raises
    ------
    Drifted
        If a column is missing or not declared.
    BadInput
        If a constant, or a series without a rule of publication, cannot be used.
    """
    table = layout.table
    names = [name for name in rows.columns if name not in _OURS]
    chosen = sources(layout, variables, names)
    held: list[pl.DataFrame] = []
    good: list[pl.DataFrame] = []
    bad: list[pl.DataFrame] = []
    for k, (version, found) in enumerate(zip(layout.versions, chosen, strict=True)):
        number = (pl.col("@row") - 1) * len(layout.versions) + k + 1
        present = rows.filter(_cell(version.present, layout).is_not_null()) if version.present else rows
        held.append(present.with_columns(number.alias("@fact")))
        read = _Reading(layout, version, found, variables).read(held[-1])
        unread = read.filter(pl.col("@reason") != "").with_columns(reason="@reason")
        read, late = _not_yet(layout, read.filter(pl.col("@reason") == ""), now)
        read, off = _off_grid(layout, read)
        read, invalid = validate(table, read)
        good.append(read.select(*table.columns, "@fact"))
        bad += [each.select("@fact", "reason") for each in (unread, late, off, invalid)]
    agreed, contradicting = _contradictions(table, pl.concat(good))
    wrong = pl.concat(held).join(pl.concat([*bad, contradicting]), on="@fact", how="inner").sort("@fact")
    cells = pl.struct(name for name in wrong.columns if name not in {*_OURS, "reason"} - {"@seen"})
    return Facts(
        good=agreed,
        bad=wrong.select(row="@fact", origin="@origin", reason="reason", original=cells.struct.json_encode()),
    )


def check_timeframe(found: Facts) -> None:
    """Refuse bars of another length than the layout declares.

    Raises
    ------
    Drifted
        If most bars do not lie on the grid of their timeframe, or their commonest distance is another.
    """
    if found.read < _FEWEST_BARS:
        return
    off = found.bad.filter(pl.col("reason").str.contains(_OFF_GRID, literal=True)).height
    name = str(found.good["timeframe"][0]) if found.good.height else ""
    steps = found.good["observed_at"].unique().sort().diff().drop_nulls().mode()
    if off > found.good.height or (name and timeframe(name) not in steps.to_list()):
        raise Drifted(f"most bars do not lie {name or 'their timeframe'} apart; is the timeframe right?")


def _cell(name: str, layout: Layout) -> pl.Expr:
    """Return a cell, null where it is empty or says that it is missing."""
    cell = pl.col(name)
    return pl.when(~cell.str.strip_chars().is_in(["", *layout.missing])).then(cell)


def _not_yet(layout: Layout, read: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off what is stamped after now; a text that is was published by now, whatever its clock says."""
    after = pl.col("observed_at") > now
    if layout.kind in ("news", "posts"):
        seen_now = pl.lit(now, UTC_US)
        return read.with_columns(
            observed_at=pl.when(after).then(seen_now).otherwise("observed_at"),
            available_at=pl.when(after).then(seen_now).otherwise("available_at"),
            available_at_estimated=pl.col("available_at_estimated") | after,
        ), read.clear().with_columns(reason=pl.lit("", pl.String))
    late = _in_one_chunk(read.filter(after)).with_columns(
        reason=pl.format("observed_at: {} lies in the future", pl.col("observed_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    )
    return read.filter(~after), late


def _off_grid(layout: Layout, read: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off bars that do not close on the grid of their length; days and weeks begin where their venue says."""
    nothing = read.clear().with_columns(reason=pl.lit("", pl.String))
    if layout.kind != "bars" or read.is_empty():
        return read, nothing
    length = timeframe(read["timeframe"][0])
    if length >= _DAY:
        return read, nothing
    off = pl.col("observed_at").dt.epoch("us") % (length // _MICROSECOND) != 0
    stamp = pl.col("observed_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return read.filter(~off), _in_one_chunk(read.filter(off)).with_columns(
        reason=pl.format("observed_at: {} " + _OFF_GRID + " {}", stamp, pl.col("timeframe"))
    )


def _contradictions(table: Table, good: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split off rows that say different things of one fact as known at one instant: nothing says which is right."""
    same = [*table.key, "available_at"]
    reason = f"another row says something else of the same {', '.join(table.key)} at the same instant"
    twice = good.filter(good.select(same).is_duplicated())
    says = pl.struct(table.content).n_unique().over(same)
    contradicting = twice.filter(says > 1).select("@fact", pl.lit(reason).alias("reason"))
    if contradicting.is_empty():
        return good, contradicting
    return good.join(contradicting, on="@fact", how="anti", maintain_order="left"), contradicting


class _Reading:
    """One version of the rows, cast to the table.

    Parameters
    ----------
    layout : Layout
        How it is read.
    version : Version
        Which.
    found : mapping of str to str
        The column of the file of each column of the table.
    variables : mapping of str to str
        What ``{name}`` stands for.
    """

    def __init__(
        self, layout: Layout, version: Version, found: Mapping[str, str], variables: Mapping[str, str]
    ) -> None:
        self._layout = layout
        self._found = found
        self._variables = variables
        self._constants = {
            target: render(value, variables) for target, value in {**layout.constants, **version.constants}.items()
        }

    def read(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of the table, ``@fact``, and ``@reason``, "" where all cells could be read."""
        layout, table = self._layout, self._layout.table
        cast = rows.select(
            "@fact",
            *self._clock_cells(),
            *(self._value(name).alias(name) for name in table.columns if name not in _CLOCKED),
        )
        # Whatever is wrong leaves a null behind. Only there is it put into words, which costs more than all the rest.
        read = [name for name in self._found if name in cast.columns]
        read += ["@observed"] if self._base() is None else ["@observed", "@known"]
        suspect = _in_one_chunk(rows.filter(cast.select(pl.any_horizontal(pl.col(read).is_null())).to_series()))
        reasons = suspect.select("@fact", self._reason().alias("@reason"))
        cast = cast.join(reasons, on="@fact", how="left", maintain_order="left")
        cast = cast.with_columns(pl.col("@reason").fill_null(""))
        if layout.volumes_by_price:
            cast = cast.with_columns(_by_price())
        if layout.kind == "news":
            cast = cast.with_columns(id=_digest(_article()))
        cast = cast.with_columns(self._observed().alias("observed_at"))
        available, estimated = self._available()
        return cast.with_columns(
            available.cast(UTC_US).alias("available_at"),
            estimated.alias("available_at_estimated"),
            pl.lit(f"dump:{layout.name.rpartition('/')[2].removesuffix('.toml')}").alias("source"),
        )

    def _text(self, target: str) -> pl.Expr:
        """Return the cell as text, replaced as declared, null where missing."""
        if target not in self._found:
            return pl.lit(self._constants[target])
        text = _cell(self._found[target], self._layout)
        for old, new in self._layout.replace.get(target, {}).items():
            text = text.str.replace_all(old, new, literal=True)
        return text

    def _number(self, target: str) -> pl.Expr:
        form = self._layout.format
        text = self._text(target).str.strip_chars()
        if form.thousands:
            text = text.str.replace_all(form.thousands, "", literal=True)
        if form.decimal != ".":
            text = text.str.replace_all(form.decimal, ".", literal=True)
        number = text.cast(self._layout.table.columns[target], strict=False)
        return pl.when(number.is_finite()).then(number)

    def _value(self, target: str) -> pl.Expr:
        dtype = self._layout.table.columns[target]
        if target == "id" and self._layout.id_from:
            parts = [pl.col(name).fill_null("") for name in self._layout.id_from]
            return _digest(pl.concat_str(parts, separator="\n"))
        if target not in self._found:
            return pl.lit(self._constant(target), pl.String).cast(dtype)
        value = self._text(target) if dtype == pl.String else self._number(target)
        return value.str.to_lowercase() if target in _LOWER else value

    def _constant(self, target: str) -> str | None:
        value = self._constants.get(target)
        return value.lower() if value is not None and target in _LOWER else value

    def _clock_cells(self) -> list[pl.Expr]:
        """Return what the clocks are made from: the stamp, and the base of what was known when."""
        rule, base = self._rule(), self._base()
        observed = instant(self._text("observed_at"), self._layout.observed)
        since = pl.lit(None, UTC_US) if base is None else instant(base, rule.stamp)
        return [observed.alias("@observed"), since.alias("@known")]

    def _base(self) -> pl.Expr | None:
        """Return the text of the instant that a fact was known from, None where no text tells it."""
        match self._rule().base:
            case "column":
                return self._text("available_at")
            case "path":
                stamp = render("{stamp}", self._variables)
                if pl.select(instant(pl.lit(stamp), self._rule().stamp)).item() is None:
                    raise BadInput(f"the stamp {stamp!r} is not an instant as declared")
                return pl.lit(stamp)
            case "sidecar":
                return pl.col("@seen")
        return None

    def _reason(self) -> pl.Expr:
        """Return what is wrong with the cells, "" where nothing is."""
        layout, table = self._layout, self._layout.table
        told: list[pl.Expr] = [
            _unread(self._text(name), self._number(name), f"{name}: '{{}}' is not a {_NUMBER[table.columns[name]]}")
            for name in self._found
            if name in table.columns and name not in _CLOCKED and table.columns[name] != pl.String
        ]
        stamp = self._text("observed_at")
        told.append(_stamp_reason("observed_at", stamp, instant(stamp, layout.observed), "observed_at is empty"))
        base = self._base()
        if base is not None:
            absent = "available_at is empty"
            if layout.sidecar is not None:
                absent = f"available_at: the file is not listed in {layout.sidecar.file}"
            told.append(_stamp_reason("available_at", base, instant(base, self._rule().stamp), absent))
        reasons = pl.concat_str(told, separator=_SEPARATOR, ignore_nulls=True)
        return pl.when(self._is_empty()).then(pl.lit("empty row")).otherwise(reasons)

    def _is_empty(self) -> pl.Expr:
        """Return whether no cell of what the fact says is filled. A series may be published without a value."""
        layout = self._layout
        says = [
            name
            for target, name in self._found.items()
            if layout.kind == "macro" or (target in layout.table.content and target != "observed_at")
        ]
        return pl.concat_list(_cell(name, layout) for name in says).list.drop_nulls().list.len() == 0

    def _observed(self) -> pl.Expr:
        at = pl.col("@observed")
        if self._layout.stamp == "open":
            return at + timeframe(self._constants["timeframe"])
        if self._layout.stamp == "quarter end":
            return at.dt.truncate("1q")
        return at

    def _rule(self) -> Available:
        return self._layout.published.get(self._constants.get("series", ""), self._layout.available)

    def _available(self) -> tuple[pl.Expr, pl.Expr]:
        rule = self._rule()
        lag = duration(render(rule.lag, self._variables))
        zone = self._layout.observed.zone if rule.base == "observed" else rule.stamp.zone
        base = pl.col("observed_at") if rule.base == "observed" else pl.col("@known")
        return known(base, rule, zone=zone, lag=lag)


_CLOCKED: Final = ("observed_at", "available_at", "available_at_estimated", "source")
_NUMBER: Final[Mapping[object, str]] = {pl.Float64(): "number", pl.Int64(): "whole number"}


def _in_one_chunk(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows. polars 2.1 panics where it puts together text of filtered rows that lie in several."""
    return rows.rechunk()


def _unread(text: pl.Expr, value: pl.Expr, template: str) -> pl.Expr:
    return pl.when(text.is_not_null() & value.is_null()).then(pl.format(template, text))


def _stamp_reason(name: str, text: pl.Expr, value: pl.Expr, absent: str) -> pl.Expr:
    missing = pl.when(text.is_null()).then(pl.lit(absent))
    return missing.when(value.is_null()).then(pl.format(f"{name}: '{{}}' is not an instant as declared", text))


def _by_price() -> list[pl.Expr]:
    """Return the two volumes the right way round: the quote volume is about the base volume times the price."""
    base, quote = pl.col("volume"), pl.col("quote_volume")
    price = (pl.col("high") + pl.col("low")) / 2
    as_named = ((quote / base).log() - price.log()).abs()
    swapped = ((base / quote).log() - price.log()).abs()
    wrong = (base > 0) & (quote > 0) & (swapped < as_named)
    return [
        pl.when(wrong).then(quote).otherwise(base).alias("volume"),
        pl.when(wrong).then(base).otherwise(quote).alias("quote_volume"),
    ]


def _article() -> pl.Expr:
    """Return what identifies an article: its address, or title and text where it has none."""
    words = pl.concat_str("title", "text", separator="\n", ignore_nulls=True)
    return pl.coalesce(pl.col("url").str.strip_chars(), words)


def _digest(text: pl.Expr) -> pl.Expr:
    return text.map_batches(_sha256, return_dtype=pl.String, is_elementwise=True)


def _sha256(texts: pl.Series) -> pl.Series:
    # polars has no stable hash, so each text meets hashlib once: about a microsecond each.
    digests = [None if text is None else hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
    return pl.Series(texts.name, digests, dtype=pl.String)
