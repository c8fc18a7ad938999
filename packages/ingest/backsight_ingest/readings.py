"""Readings: the rows of a dump cast to the columns of a table, and in words what could not be read of them."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US, timeframe
from backsight_features.errors import BadInput

from backsight_ingest.layout import Available, Layout, Stamp, Version, duration, render
from backsight_ingest.stamps import instant, known

LONGEST_TEXT: Final = 100_000
"""Characters of a title or a text that are kept; the longest articles seen have some 70,000, posts at most 40,000."""

CUT_OFF: Final = "{}… [cut off: {} characters]"
"""What becomes of a longer one: its beginning, and how long it is."""

_LOWER: Final = ("venue", "channel")
_SEPARATOR: Final = "; "
_CLOCKED: Final = ("observed_at", "available_at", "available_at_estimated", "source")
_NUMBER: Final[Mapping[object, str]] = {pl.Float64(): "number", pl.Int64(): "whole number"}


def cell(name: str, layout: Layout) -> pl.Expr:
    """Return a cell, null where it is empty or says that it is missing."""
    text = pl.col(name)
    return pl.when(~text.str.strip_chars().is_in(["", *layout.missing])).then(text)


def in_one_chunk(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the same rows. polars 2.1 panics where it puts together text of filtered rows that lie in several."""
    return rows.rechunk()


class Reading:
    """One version of the rows, cast to the table.

    Parameters
    ----------
    layout : Layout
        How it is read.
    version : Version
        Which.
    found : mapping of str to tuple of str
        The columns of the file of each column of the table; the first that is filled counts.
    variables : mapping of str to str
        What ``{name}`` stands for.
    now : datetime
        The instant of reading.
    """

    def __init__(
        self,
        layout: Layout,
        version: Version,
        found: Mapping[str, tuple[str, ...]],
        variables: Mapping[str, str],
        now: datetime,
    ) -> None:
        self._layout = layout
        self._found = found
        self._variables = variables
        self._now = pl.lit(now, UTC_US)
        self._constants = {
            target: render(value, variables) for target, value in {**layout.constants, **version.constants}.items()
        }
        self._rule: Available = layout.published.get(self._constants.get("series", ""), layout.available)
        self._numbers = [
            name
            for name, dtype in layout.table.columns.items()
            if name in found and name not in _CLOCKED and dtype != pl.String
        ]

    def read(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns of the table, ``@fact``, and ``@reason``, "" where all cells could be read."""
        layout, table = self._layout, self._layout.table
        # In steps, since polars works out again whatever an expression has in it twice.
        texts = rows.select("@fact", *self._texts())
        values = [self._value(name).alias(name) for name in table.columns if name not in _CLOCKED]
        cast = texts.select("@fact", *self._instants(), *values)
        cast = cast.with_columns(self._reasons(texts, cast))
        cast = _cut_off(cast)
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

    def _texts(self) -> list[pl.Expr]:
        """Return the cells as text, replaced as declared, null where missing: of the columns and the clocks."""
        layout = self._layout
        texts = {target: self._text(target) for target in self._found}
        if "observed_at" not in texts:
            texts["observed_at"] = pl.lit(self._constants["observed_at"])
        if layout.id_from:
            parts = [pl.col(name).fill_null("") for name in layout.id_from]
            texts["id"] = pl.concat_str(parts, separator="\n")
        base = self._base()
        return [text.alias(target) for target, text in texts.items()] + ([] if base is None else [base.alias("@base")])

    def _text(self, target: str) -> pl.Expr:
        text = pl.coalesce(cell(name, self._layout) for name in self._found[target])
        replaced = self._layout.replace.get(target, {})
        for old, new in replaced.items():
            text = text.str.replace_all(old, new, literal=True)
        return pl.when(text != "").then(text) if replaced else text

    def _base(self) -> pl.Expr | None:
        """Return the text of the instant that a fact was known from, None where no text tells it."""
        match self._rule.base:
            case "column":
                return self._text("available_at")
            case "path":
                stamp = render("{stamp}", self._variables)
                if pl.select(instant(pl.lit(stamp), self._rule.stamp)).item() is None:
                    raise BadInput(f"the stamp {stamp!r} is not an instant as declared")
                return pl.lit(stamp)
            case "sidecar":
                return pl.col("@seen")
        return None

    def _number(self, target: str) -> pl.Expr:
        form, dtype = self._layout.format, self._layout.table.columns[target]
        text = pl.col(target).str.strip_chars()
        if form.thousands:
            text = text.str.replace_all(form.thousands, "", literal=True)
        if form.decimal != ".":
            text = text.str.replace_all(form.decimal, ".", literal=True)
        number = text.cast(dtype, strict=False)
        return number.map_batches(_finite, return_dtype=dtype, is_elementwise=True) if dtype.is_float() else number

    def _value(self, target: str) -> pl.Expr:
        dtype = self._layout.table.columns[target]
        if target == "id" and self._layout.id_from:
            return _digest(pl.col("id"))
        if target not in self._found:
            value = self._constants.get(target)
            return pl.lit(value.lower() if value and target in _LOWER else value, pl.String).cast(dtype)
        if dtype != pl.String:
            return self._number(target)
        # Nobody means a NUL, and a database like PostgreSQL takes no text with one.
        text = pl.col(target).str.replace_all("\0", "", literal=True)
        return text.str.to_lowercase() if target in _LOWER else text

    def _instants(self) -> list[pl.Expr]:
        """Return the stamp, what the fact was known from, and when it was edited; null where there is none."""
        layout, rule = self._layout, self._rule
        undated = pl.col("observed_at").is_null() if layout.kind == "news" else pl.lit(False)
        since = self._now if rule.base == "now" else pl.lit(None, UTC_US)
        edited = instant(pl.col("edited_at"), layout.observed) if "edited_at" in self._found else pl.lit(None, UTC_US)
        return [
            instant(pl.col("observed_at"), layout.observed).alias("@observed"),
            undated.alias("@undated"),
            (instant(pl.col("@base"), rule.stamp) if self._has_base else since).alias("@known"),
            edited.alias("@edited"),
        ]

    def _reasons(self, texts: pl.DataFrame, cast: pl.DataFrame) -> pl.Series:
        """Return what is wrong with each row, "" where nothing is.

        Whatever is wrong leaves a null behind. Only there is it put into words, which costs more than all the rest.
        """
        says = [name for name in self._found if name in self._layout.table.content and name != "observed_at"]
        suspect = cast["@observed"].is_null() & ~cast["@undated"]
        for name in self._numbers:
            suspect |= cast[name].is_null()
        if self._has_base:
            suspect |= cast["@known"].is_null()
        if "edited_at" in self._found:
            suspect |= cast["@edited"].is_null() & texts["edited_at"].is_not_null()
        suspect |= cast.select(pl.all_horizontal(pl.col(name).is_null() for name in says)).to_series()
        reasons = pl.repeat("", texts.height, dtype=pl.String, eager=True).alias("@reason")
        if not suspect.any():
            return reasons
        told = in_one_chunk(texts.filter(suspect)).select(self._reason()).to_series()
        return reasons.scatter(suspect.arg_true(), told)

    def _reason(self) -> pl.Expr:
        """Return what is wrong with the cells, "" where nothing is."""
        layout, table = self._layout, self._layout.table
        told: list[pl.Expr] = [
            _unread(pl.col(name), self._number(name), f"{name}: '{{}}' is not a {_NUMBER[table.columns[name]]}")
            for name in self._numbers
        ]
        absent = "" if layout.kind == "news" else "observed_at is empty"
        told.append(_stamp_reason("observed_at", pl.col("observed_at"), layout.observed, absent))
        if self._has_base:
            absent = "available_at is empty"
            if layout.sidecar is not None:
                absent = f"available_at: the file is not listed in {layout.sidecar.file}"
            told.append(_stamp_reason("available_at", pl.col("@base"), self._rule.stamp, absent))
        if "edited_at" in self._found:
            told.append(_stamp_reason("edited_at", pl.col("edited_at"), layout.observed, ""))
        reasons = pl.concat_str(told, separator=_SEPARATOR, ignore_nulls=True)
        return pl.when(self._is_empty()).then(pl.lit("empty row")).otherwise(reasons)

    def _is_empty(self) -> pl.Expr:
        """Return whether no cell of what the fact says is filled. A series may be published without a value."""
        layout = self._layout
        says = [
            target
            for target in self._found
            if layout.kind == "macro" or (target in layout.table.content and target != "observed_at")
        ]
        return pl.all_horizontal(pl.col(name).is_null() for name in says)

    @property
    def _has_base(self) -> bool:
        return self._rule.base in ("column", "path", "sidecar")

    def _observed(self) -> pl.Expr:
        at = pl.col("@observed")
        if self._layout.stamp == "open":
            return at + timeframe(self._constants["timeframe"])
        if self._layout.stamp == "quarter end":
            return at.dt.truncate("1q")
        return pl.when("@undated").then(self._first_seen()).otherwise(at)

    def _first_seen(self) -> pl.Expr:
        return self._now if self._rule.base == "observed" else pl.col("@known")

    def _available(self) -> tuple[pl.Expr, pl.Expr]:
        rule = self._rule
        lag = duration(render(rule.lag, self._variables))
        zone = self._layout.observed.zone if rule.base == "observed" else rule.stamp.zone
        base = pl.col("observed_at") if rule.base == "observed" else pl.col("@known")
        at, estimated = known(pl.max_horizontal(base, "@edited"), rule, zone=zone, lag=lag)
        return pl.when("@undated").then(self._first_seen()).otherwise(at), estimated | pl.col("@undated")


def _cut_off(read: pl.DataFrame) -> pl.DataFrame:
    """Return the rows, titles and texts no longer than allowed; one that was cut off says so at its end."""
    texts = [name for name in ("title", "text") if name in read.columns]
    if not any((read[name].str.len_bytes() > LONGEST_TEXT).any() for name in texts):
        return read
    return in_one_chunk(read).with_columns(
        pl.when(pl.col(name).str.len_chars() > LONGEST_TEXT)
        .then(pl.format(CUT_OFF, pl.col(name).str.head(LONGEST_TEXT), pl.col(name).str.len_chars()))
        .otherwise(name)
        .alias(name)
        for name in texts
    )


def _unread(text: pl.Expr, value: pl.Expr, template: str) -> pl.Expr:
    return pl.when(text.is_not_null() & value.is_null()).then(pl.format(template, text))


def _stamp_reason(name: str, text: pl.Expr, stamp: Stamp, absent: str) -> pl.Expr:
    """Return why a stamp cannot be read, ``absent`` where there is none, null where nothing is wrong."""
    missing = pl.when(text.is_null()).then(pl.lit(absent or None, pl.String))
    wrong = pl.format(f"{name}: '{{}}' is not an instant as declared", text)
    return missing.when(instant(text, stamp).is_null()).then(wrong)


def _finite(numbers: pl.Series) -> pl.Series:
    """Return the numbers, null in place of infinities and of what is none."""
    finite = numbers.is_finite()
    return numbers if finite.all() else numbers.set(~finite, None)


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
