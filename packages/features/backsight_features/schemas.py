"""The tables of the lake: their columns, keys and the rules that a row has to keep.

Kinds of facts are ``bars``, ``books``, ``posts``, ``news``, ``reactions``, ``scores`` and ``macro``. Beside them the
lake keeps ``links`` (which news tell the same), ``quarantine`` (rows that broke a rule), ``resolutions`` (what became
of them), ``runs`` (the accounts) and ``coverage`` (what was asked for).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import polars as pl
from polars._typing import PolarsDataType

from backsight_features.clocks import UTC_US
from backsight_features.errors import Drifted

if TYPE_CHECKING:
    import pandera.polars as pa

Columns = Mapping[str, PolarsDataType]

CLOCKS: Final[Columns] = {
    "observed_at": UTC_US,
    "available_at": UTC_US,
    "available_at_estimated": pl.Boolean(),
    "source": pl.String(),
}
"""What every fact carries beside its own columns; the lake adds ``ingested_at``."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition on a row.

    Parameters
    ----------
    holds : pl.Expr
        True where the row keeps the rule. A null counts as broken.
    reason : str
        What a person reads when it is broken.
    """

    holds: pl.Expr
    reason: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the lake.

    Parameters
    ----------
    name : str
        Its folder.
    columns : mapping of str to polars type
        All columns in order, without ``ingested_at``.
    key : tuple of str
        What a row is about. Two rows with one key are two versions of one fact.
    content : tuple of str
        What a version says.
    identity : {"sighting", "state", "vintage", "row", "none"}
        When an incoming row says nothing new. ``sighting``: the same content is stored as known no later. ``state``:
        so does what was known last at its instant; what is changed back is a further version. That is for facts that
        one source alone tells of: of several that differ each would seem to change what the others said.
        ``vintage``: the same content is stored as known at that very instant, since a series may be revised back
        to an old value. ``row``: the key is stored. ``none``: never; what is stored is not looked at.
    partition : {"month", "year"} or None
        The calendar unit of ``observed_at`` that makes a folder.
    nullable : tuple of str
        Columns that may be null.
    rules : tuple of Rule
        What has to hold in each row, beyond types and nulls.
    """

    name: str
    columns: Columns
    key: tuple[str, ...]
    content: tuple[str, ...]
    identity: Literal["sighting", "state", "vintage", "row", "none"]
    partition: Literal["month", "year"] | None = None
    nullable: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def empty(self) -> pl.DataFrame:
        """Return a frame with all columns, ``ingested_at`` too, and no row."""
        return pl.DataFrame(schema={**self.columns, "ingested_at": UTC_US})

    def apart(self, rows: pl.DataFrame) -> bool:
        """Return whether no two rows are about the same fact."""
        # Of most batches one column alone tells, at a tenth of the cost.
        alone = any(rows[name].n_unique() == rows.height for name in reversed(self.key))
        return alone or not rows.select(self.key).is_duplicated().any()


def _positive(*names: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(holds=pl.col(n).is_finite() & (pl.col(n) > 0), reason=f"{n} must be a finite number above 0")
        for n in names
    )


def _not_negative(*names: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            holds=pl.col(n).is_null() | (pl.col(n).is_finite() & (pl.col(n) >= 0)),
            reason=f"{n} must be a finite number of 0 or more",
        )
        for n in names
    )


def _some(*names: str) -> Rule:
    return Rule(
        holds=pl.any_horizontal(pl.col(n).is_not_null() for n in names),
        reason=f"{' and '.join(names)} are both empty",
    )


KNOWN_AFTER: Final = Rule(
    holds=pl.col("available_at") >= pl.col("observed_at"),
    reason="available_at lies before observed_at: a fact cannot be known before it happens",
)


BARS: Final = Table(
    name="bars",
    columns={
        "venue": pl.String(),
        "symbol": pl.String(),
        "timeframe": pl.String(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "quote_volume": pl.Float64(),
        **CLOCKS,
    },
    key=("venue", "symbol", "timeframe", "observed_at"),
    content=("open", "high", "low", "close", "volume", "quote_volume"),
    identity="sighting",
    partition="month",
    nullable=("volume", "quote_volume"),
    rules=(
        *_positive("open", "high", "low", "close"),
        *_not_negative("volume", "quote_volume"),
        _some("volume", "quote_volume"),
        Rule(
            holds=pl.col("symbol").str.contains(r"^[A-Z0-9]+-[A-Z0-9]+$"),
            reason="symbol must be written as BTC-USD",
        ),
        Rule(
            holds=(pl.col("high") >= pl.max_horizontal("open", "close"))
            & (pl.col("low") <= pl.min_horizontal("open", "close")),
            reason="open and close must lie between low and high",
        ),
        KNOWN_AFTER,
    ),
)
"""Candles. ``observed_at`` is the bar's close; ``volume`` is in base units, ``quote_volume`` in quote units."""

POSTS: Final = Table(
    name="posts",
    columns={
        "site": pl.String(),
        "channel": pl.String(),
        "id": pl.String(),
        "title": pl.String(),
        "text": pl.String(),
        "url": pl.String(),
        **CLOCKS,
    },
    key=("site", "channel", "id"),
    content=("observed_at", "title", "text", "url"),
    identity="state",
    partition="year",
    nullable=("title", "text", "url"),
    rules=(_some("title", "text"), KNOWN_AFTER),
)
"""Forum posts. ``observed_at`` is the creation; an edit is a new version, and so is one that is taken back."""

NEWS: Final = Table(
    name="news",
    columns={
        "id": pl.String(),
        "publisher": pl.String(),
        "title": pl.String(),
        "text": pl.String(),
        "url": pl.String(),
        **CLOCKS,
    },
    key=("id",),
    content=("observed_at", "publisher", "title", "text", "url"),
    identity="sighting",
    partition="year",
    nullable=("publisher", "title", "text", "url"),
    rules=(_some("title", "text"), KNOWN_AFTER),
)
"""Articles. ``observed_at`` is the publication as the publisher states it; ``id`` comes from the address."""

REACTIONS: Final = Table(
    name="reactions",
    columns={
        "site": pl.String(),
        "channel": pl.String(),
        "id": pl.String(),
        "score": pl.Int64(),
        "comments": pl.Int64(),
        **CLOCKS,
    },
    key=("site", "channel", "id", "observed_at"),
    content=("score", "comments"),
    identity="sighting",
    partition="year",
    nullable=("comments",),
    rules=(KNOWN_AFTER,),
)
"""Votes and comments of a post as counted at ``observed_at``: never known at the post's creation."""

_PROBABILITIES: Final = ("p_positive", "p_negative", "p_neutral")
_SHARES: Final = ("share_positive", "share_negative")
_TONES: Final = ("tone_least", "tone_most")

SCORES: Final = Table(
    name="scores",
    columns={
        "text_id": pl.String(),
        "scorer": pl.String(),
        "revision": pl.String(),
        **{name: pl.Float64() for name in (*_PROBABILITIES, *_TONES, *_SHARES)},
        "sentences": pl.Int64(),
        "unread": pl.Int64(),
        **CLOCKS,
    },
    key=("text_id", "scorer", "revision"),
    content=(*_PROBABILITIES, *_TONES, *_SHARES, "sentences", "unread"),
    identity="sighting",
    rules=(
        *(
            Rule(holds=pl.col(n).is_between(0.0, 1.0), reason=f"{n} must lie in [0, 1]")
            for n in (*_PROBABILITIES, *_SHARES)
        ),
        *(Rule(holds=pl.col(n).is_between(-1.0, 1.0), reason=f"{n} must lie in [-1, 1]") for n in _TONES),
        Rule(holds=(pl.col("sentences") > 0) & (pl.col("unread") >= 0), reason="a sentence must have been read"),
        Rule(
            holds=(pl.sum_horizontal(_PROBABILITIES) - 1.0).abs() < 1e-3,
            reason="the three probabilities must add up to 1",
        ),
        KNOWN_AFTER,
    ),
)
"""A scorer's verdict on a title or a body. Both clocks are the text's first sight: a pinned model is a fixed function.

The probabilities are the means over the sentences that were read, the tones the least and the most of
p_positive - p_negative, the shares those of sentences whose p_positive, or p_negative, is the largest; ``unread`` are
the sentences beyond those."""

BOOKS: Final = Table(
    name="books",
    columns={
        "venue": pl.String(),
        "symbol": pl.String(),
        "bid": pl.Float64(),
        "ask": pl.Float64(),
        "bid_size": pl.Float64(),
        "ask_size": pl.Float64(),
        "bid_depth": pl.Float64(),
        "ask_depth": pl.Float64(),
        "reach_bp": pl.Float64(),
        **CLOCKS,
    },
    key=("venue", "symbol", "observed_at"),
    content=("bid", "ask", "bid_size", "ask_size", "bid_depth", "ask_depth", "reach_bp"),
    identity="sighting",
    partition="month",
    rules=(
        *_positive("bid", "ask", "bid_size", "ask_size"),
        *_not_negative("bid_depth", "ask_depth", "reach_bp"),
        Rule(
            holds=pl.col("ask") > pl.col("bid"),
            reason="ask must lie above bid: a crossed book is none",
        ),
        Rule(
            holds=pl.col("symbol").str.contains(r"^[A-Z0-9]+-[A-Z0-9]+$"),
            reason="symbol must be written as BTC-USD",
        ),
        KNOWN_AFTER,
    ),
)
"""Order books as seen at ``observed_at``: best prices and their sizes, and the depth on each side, in base units.

Depth adds up what is offered no further than ``reach_bp`` basis points from the middle: 50, or as far as the venue's
answer reached on both sides.
"""

MACRO: Final = Table(
    name="macro",
    columns={
        "series": pl.String(),
        "units": pl.String(),
        "value": pl.Float64(),
        **CLOCKS,
    },
    key=("series", "units", "observed_at"),
    content=("value",),
    identity="vintage",
    nullable=("value",),
    rules=(
        Rule(
            holds=pl.col("value").is_null() | pl.col("value").is_finite(),
            reason="value must be a finite number, or empty where none was published",
        ),
        KNOWN_AFTER,
    ),
)
"""Series with their vintages. ``observed_at`` is the period's start; ``units`` as FRED names them (lin, pch)."""

LINKS: Final = Table(
    name="links",
    columns={
        "id": pl.String(),
        "story": pl.String(),
        "similarity": pl.Float64(),
        "method": pl.String(),
        **CLOCKS,
    },
    key=("id", "method"),
    content=("story", "similarity"),
    identity="sighting",
    rules=(
        Rule(
            holds=pl.col("similarity").is_between(0.0, 1.0, closed="right"), reason="similarity must lie above 0, to 1"
        ),
        KNOWN_AFTER,
    ),
)
"""Which news tell the same: ``story`` is the ``id`` of the earliest article that tells what the article ``id`` tells.

Of one that is the first to tell it, ``story`` is its own ``id``. Both clocks are the article's first sight.
"""

FACTS: Final[Mapping[str, Table]] = {
    table.name: table for table in (BARS, BOOKS, POSTS, NEWS, REACTIONS, SCORES, MACRO)
}

QUARANTINE: Final = Table(
    name="quarantine",
    columns={
        "batch": pl.String(),
        "row": pl.Int64(),
        "kind": pl.String(),
        "layout": pl.String(),
        "settings": pl.String(),
        "origin": pl.String(),
        "reason": pl.String(),
        "original": pl.String(),
    },
    key=("batch", "row"),
    content=("reason", "original"),
    identity="row",
)
"""Rows that broke a rule, with their original text.

``batch`` identifies layout and file content, ``row`` the record in it, counted from 1; ``origin`` is the file as a
person knows it, ``settings`` what was given by hand, as JSON.
"""

RESOLUTIONS: Final = Table(
    name="resolutions",
    columns={"batch": pl.String(), "row": pl.Int64(), "outcome": pl.String()},
    key=("batch", "row"),
    content=("outcome",),
    identity="row",
)
"""What became of a quarantined row when it was replayed: ``accepted`` or ``duplicate``."""

COVERAGE: Final = Table(
    name="coverage",
    columns={
        "job": pl.String(),
        "since": UTC_US,
        "until": UTC_US,
        "status": pl.String(),
        "reason": pl.String(),
        "asked_at": UTC_US,
        "cadence_s": pl.Int64(),
    },
    key=("job", "since", "until", "asked_at"),
    content=("status", "reason"),
    identity="none",
)
"""What a live source was asked for beside its walk forward, and what it did not give; half-open spans.

``status`` is ``begun`` (the walk forward started at ``since``), ``whole``, ``hole`` (not there, asked for again) or
``lost`` (the source cannot give it any more). Of several rows about one instant the one asked last counts.
``cadence_s`` is how often something new is expected.
"""

RUNS: Final = Table(
    name="runs",
    columns={
        "run": pl.String(),
        "origin": pl.String(),
        "verb": pl.String(),
        "source": pl.String(),
        "started_at": UTC_US,
        "finished_at": UTC_US,
        "status": pl.String(),
        "read": pl.Int64(),
        "accepted": pl.Int64(),
        "duplicate": pl.Int64(),
        "quarantined": pl.Int64(),
    },
    key=("run", "origin"),
    content=("status", "read", "accepted", "duplicate", "quarantined"),
    identity="none",
    rules=(
        Rule(
            holds=pl.col("read") == pl.col("accepted") + pl.col("duplicate") + pl.col("quarantined"),
            reason="the accounts do not add up: read must be accepted + duplicate + quarantined",
        ),
    ),
)
"""The accounts of each job, a row per file or request."""


def _keeps(table: Table, frame: pl.DataFrame) -> bool:
    """Return whether every row keeps the table's rules."""
    if any(frame[name].has_nulls() for name in table.columns if name not in table.nullable):
        return False
    held = [rule.holds.fill_null(False).all().alias(str(number)) for number, rule in enumerate(table.rules)]
    return all(frame.select(held).row(0)) if held else True


def _schema(table: Table) -> "pa.DataFrameSchema":
    """Return the pandera schema; each check selects one boolean per row and is named by its reason."""
    import pandera.polars as pa

    def check(rule: Rule) -> pa.Check:
        return pa.Check(lambda data, holds=rule.holds: data.lazyframe.select(holds.fill_null(False)), error=rule.reason)

    return pa.DataFrameSchema(
        {name: pa.Column(dtype, nullable=name in table.nullable) for name, dtype in table.columns.items()},
        checks=[check(rule) for rule in table.rules],
    )


def validate(table: Table, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows into those that keep the table's rules and those that break one.

    Parameters
    ----------
    table : Table
        Whose rules.
    frame : pl.DataFrame
        Has every column of the table with its type; further columns ride along.

    Returns
    -------
    good : pl.DataFrame
        Rows that keep all rules, in their order.
    bad : pl.DataFrame
        The others, with a column ``reason`` that lists each broken rule.

    Raises
    ------
    Drifted
        If a column is missing or has another type.
    """
    wrong = [
        f"{name} is {frame.schema.get(name, 'missing')}, should be {dtype}"
        for name, dtype in table.columns.items()
        if frame.schema.get(name) != dtype
    ]
    if wrong:
        raise Drifted(f"{table.name}: {'; '.join(wrong)}")
    none = frame.clear().with_columns(reason=pl.lit(None, pl.String()))
    if _keeps(table, frame):
        return frame, none
    # It names what is wrong. To load it takes longer than most batches, of which nothing is.
    import pandera.polars as pa

    try:
        _schema(table).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return _split(frame, errors.failure_cases)
    return frame, none


def _split(frame: pl.DataFrame, failures: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    if failures["index"].null_count() > 0:
        raise Drifted(f"the batch breaks its schema: {failures.filter(pl.col('index').is_null())['check'][0]}")
    reason = pl.when(pl.col("check") == "not_nullable").then(pl.col("column") + " is empty").otherwise(pl.col("check"))
    reasons = (
        failures.select(index=pl.col("index").cast(pl.UInt32), reason=reason)
        .unique(maintain_order=True)
        .group_by("index", maintain_order=True)
        .agg(pl.col("reason").str.join("; "))
    )
    numbered = frame.with_row_index("index")
    good = numbered.join(reasons, on="index", how="anti", maintain_order="left").drop("index")
    bad = numbered.join(reasons, on="index", how="inner", maintain_order="left").drop("index")
    return good, bad
