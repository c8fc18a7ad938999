"""The job of one search in an archive of news: what is new, and as much of the past as is asked for.

An answer of an archive has room for so many articles. A full one may not be all, so it is not used: its stretch of time
is asked for in parts, each by itself, until every answer has room left. So no page turns over while it is read, and no
article is lost between two.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Final, Protocol

from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BadInput
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news import LIVE, Article, records

_SECOND: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One answer of an archive.

    Parameters
    ----------
    articles : tuple of Article
        What it found.
    parts : int
        1 if that is all; else in how many parts the stretch should be asked for.
    begins : int, optional
        Where what the archive gives us begins, in microseconds, if that lies within or after the stretch.
    reason : str
        Why not all is there, and the way out.
    """

    articles: tuple[Article, ...] = ()
    parts: int = 1
    begins: int | None = None
    reason: str = ""


class Archive(Protocol):
    """An archive of news.

    Parameters
    ----------
    name : str
        As in ``news:gdelt:bitcoin``.
    past : str
        The layout of what is filled in: that of its answers kept in files.
    fields : mapping of str to str
        What that calls the fields of an `Article`, where the names differ.
    cadence : timedelta
        How often something new is expected.
    overlap : timedelta
        Articles get into the archive so much later than they are stamped: they are asked for again.
    finest : timedelta
        The shortest stretch that makes sense.
    """

    name: str
    past: str
    fields: Mapping[str, str]
    cadence: timedelta
    overlap: timedelta
    finest: timedelta

    def ask(self, query: str, since: datetime, until: datetime) -> Listing:
        """Return the articles stamped within [since, until), whole seconds.

        Raises
        ------
        SourceError
            If it does not answer, or not to us.
        """
        ...


class Search:
    """The job of one search; see `backsight_ingest.live.job.Job`.

    Parameters
    ----------
    web : Web
        Tells the time.
    archive : Archive
        Where.
    query : str
        What for, in the archive's own words.

    Raises
    ------
    BadInput
        If there is no query.
    """

    verb = "pull news"
    length = timedelta(0)
    variables: Mapping[str, str] = {}
    lanes = 1

    def __init__(self, web: Web, archive: Archive, query: str) -> None:
        query = " ".join(query.split())
        if not query:
            raise BadInput(f'--{archive.name} has no words to search for; write --{archive.name} "bitcoin"')
        self.name = f"news:{archive.name}:{query}"
        self.source = archive.name
        self.cadence = archive.cadence
        self.layouts: tuple[str, ...] = (archive.past, LIVE)
        self._web = web
        self._archive = archive
        self._query = query
        self._forward: Span | None = None
        """What the last plan asks for as new; all else is the past."""

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return what a run asks for; the first one begins some time ago, as what was stamped then comes in now."""
        overlap = self._archive.overlap // timedelta(microseconds=1)
        stop = to_us(now if until is None else min(until, now))
        start = (to_us(now) if coverage.reached is None else coverage.reached) - overlap
        self._forward = Span(start, stop) if start < stop else None
        past = [] if since is None else coverage.unasked(Span(to_us(since), min(start, stop)))
        return Plan(forward=self._forward, backfill=tuple(past))

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the answers that have room left, the earliest first."""
        past = span != self._forward
        waiting = [span]
        while waiting:
            part = waiting.pop()
            since, until = _seconds(part)
            listing = self._web.retry(partial(self._archive.ask, self._query, since, until))
            if listing.begins is not None and listing.begins > part.start:
                reached = min(listing.begins, part.stop)
                waiting += [Span(reached, part.stop)] if reached < part.stop else []
                yield self._page(Span(part.start, reached), listing, past=past)
            elif listing.parts > 1 and until - since > self._archive.finest:
                waiting += reversed(_cut(part, listing.parts))
            else:
                yield self._page(part, listing, past=past)

    def _page(self, span: Span, listing: Listing, *, past: bool) -> Page:
        seen_at = self._web.clock.now()
        found, nothing = records(listing.articles, seen_at), records((), seen_at)
        filled_in = found if past else nothing
        return Page(
            span=span,
            records={self._archive.past: filled_in.rename(self._archive.fields), LIVE: nothing if past else found},
            fetched_at=seen_at,
            holes=(Hole(span=span, reason=listing.reason, again=False),) if listing.reason else (),
        )


def _seconds(span: Span) -> tuple[datetime, datetime]:
    """Return the whole seconds that hold a span."""
    return from_us(span.start // _SECOND * _SECOND), from_us(-(-span.stop // _SECOND) * _SECOND)


def _cut(span: Span, parts: int) -> list[Span]:
    """Return a span in parts of about one length, which meet at whole seconds."""
    step = -(-(span.stop - span.start) // parts)
    edges = [(span.start + step * i) // _SECOND * _SECOND for i in range(1, parts)]
    edges = [edge for edge in edges if span.start < edge < span.stop]
    return [Span(low, high) for low, high in pairwise([span.start, *edges, span.stop])]
