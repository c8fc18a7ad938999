"""A job: what is pulled from one source again and again, and the pages that it comes in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import polars as pl
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage


@dataclass(frozen=True, kw_only=True)
class Hole:
    """What a source was asked for and did not give.

    Parameters
    ----------
    span : Span
        Of the job's time line.
    reason : str
        What a person reads.
    again : bool
        Whether to ask for it again. False where the source cannot give it any more.
    """

    span: Span
    reason: str
    again: bool = True


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answer of a source, or several that belong together: committed as one.

    Parameters
    ----------
    span : Span
        The part of the job's time line for which this is the whole answer, but for the holes.
    records : mapping of str to pl.DataFrame
        By the name of the layout that reads them: a text column per cell, in the layout's names.
    fetched_at : datetime
        When the answer was there.
    holes : tuple of Hole
        Within the span.
    """

    span: Span
    records: Mapping[str, pl.DataFrame]
    fetched_at: datetime
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run asks for.

    Parameters
    ----------
    forward : Span, optional
        From where the last run ended; each page of it moves the watermark.
    backfill : tuple of Span
        What was never asked for.
    again : tuple of Span
        What was asked for, and was not there.
    """

    forward: Span | None = None
    backfill: tuple[Span, ...] = ()
    again: tuple[Span, ...] = field(default=())


class Job(Protocol):
    """A source with what is wanted of it.

    Its time line is that of ``observed_at``, but for bars: a bar belongs to the span of time that it is made of.

    Parameters
    ----------
    name : str
        As in ``prices:binance:BTC-USDT:1h``; the same name goes on where the last run ended.
    verb : str
        As in ``pull prices``.
    source : str
        Whom it asks: ``binance``, ``reddit``.
    cadence : timedelta
        How often something new is expected.
    length : timedelta
        From where a fact begins on the time line to its ``observed_at``: that of a bar, and otherwise none.
    layouts : tuple of str
        Names of the layouts that read its pages, in the order of writing; the last table keeps the watermark.
    variables : mapping of str to str
        What ``{name}`` stands for in them.
    lanes : int
        How many walks may go on at once.
    """

    name: str
    verb: str
    source: str
    cadence: timedelta
    length: timedelta
    layouts: tuple[str, ...]
    variables: Mapping[str, str]
    lanes: int

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return what a run asks for; asks nobody."""
        ...

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the pages of a span, the earliest first, without a gap between them.

        Raises
        ------
        SourceError
            If the source does not answer, or not to us; what was yielded stays.
        Drifted
            If its answers have another shape.
        """
        ...
