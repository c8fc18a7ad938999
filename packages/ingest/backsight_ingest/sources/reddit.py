"""The job of one subreddit: its new posts, another look at recent ones, and as much of its past as Reddit lists.

Reddit lists posts from the newest on, and about a thousand at most. So a walk fetches all of them back to where the
last run ended before it gives the one page that moves the watermark; what the listing does not reach is a hole.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import polars as pl
from backsight_features.clocks import UTC_US, from_us, to_us
from backsight_features.errors import Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import POSTS, REACTIONS, Table
from backsight_features.spans import Span

from backsight_ingest.live.coverage import Coverage, read
from backsight_ingest.live.job import Hole, Page, Plan
from backsight_ingest.live.web import Web
from backsight_ingest.sources.reddit_client import Client
from backsight_ingest.sources.reddit_posts import COUNTS, FIRST, HISTORY, SEEN, posts, records

OVERLAP: Final = timedelta(minutes=10)
"""Posts are listed some time after they were created, and clocks differ: so much is asked for again."""

MOST_LOOKS: Final = 1_000
"""Posts that one run looks at again at most; that costs as many requests as a whole listing."""

_PAGE: Final = 100
_SECOND: Final = 1_000_000
_SHORTEST_LOOK: Final = timedelta(minutes=10)
_LOOK_AFTER: Final = 0.25
"""A post is looked at again when it was left alone for this part of its age: some 20 times in its first two days."""


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """What a listing showed.

    Parameters
    ----------
    posts : pl.DataFrame
        See `reddit_posts.posts`.
    ended : bool
        Whether it had no more.
    seen_at : datetime
        When its last page was there.
    """

    posts: pl.DataFrame
    ended: bool
    seen_at: datetime


class Subreddit:
    """The job of one subreddit; see `backsight_ingest.live.job.Job`.

    Parameters
    ----------
    lake : Lake
        Tells how far the job is, and which posts to look at again.
    web : Web
        Tells the time.
    client : Client
        Asks; shared by all subreddits.
    subreddit : str
        A name in lower case.
    recheck : timedelta
        Posts up to this age are looked at again.
    tell : callable
        Is told in a line what that costs.
    """

    verb = "pull reddit"
    source = "reddit"
    cadence = timedelta(hours=1)
    length = timedelta(0)
    layouts: tuple[str, ...] = (COUNTS, HISTORY, SEEN)
    variables: Mapping[str, str] = {}
    lanes = 1

    def __init__(
        self,
        lake: Lake,
        web: Web,
        client: Client,
        subreddit: str,
        *,
        recheck: timedelta,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.name = f"reddit:{subreddit}"
        self._lake = lake
        self._web = web
        self._client = client
        self._subreddit = subreddit
        self._recheck = recheck
        self._tell = tell

    def plan(self, coverage: Coverage, *, since: datetime | None, until: datetime | None, now: datetime) -> Plan:
        """Return what a run asks for.

        The first one asks for all that Reddit lists. With ``since`` it begins with the present, and what was before
        is filled in: so that all of it counts as known by rule.
        """
        stop = to_us(now if until is None else min(until, now))
        begun = coverage.begun
        if begun is None:
            begun = to_us(FIRST) if since is None else stop
        start = begun if coverage.reached is None else max(begun, coverage.reached)
        return Plan(
            # Even if it is empty: the last run may have been cut off in its second looks.
            forward=Span(start, stop) if start <= stop else None,
            backfill=() if since is None else tuple(coverage.unasked(Span(to_us(since), min(begun, stop)))),
            again=coverage.due(now, shortest=OVERLAP, reach=timedelta(0)),
        )

    def walk(self, span: Span) -> Iterator[Page]:
        """Yield the listing as one page; going forward, those of the posts that are looked at again follow it."""
        known = read(self._lake, self.name, POSTS)
        if known.begun is not None and span.start < known.begun:
            yield self._past(span)
            return
        if known.reached is None or span.start < span.stop:
            yield self._present(span, known.begun)
        if known.reached is None or known.reached <= span.stop:
            yield from self._looks(Span(span.stop, span.stop))

    def _past(self, span: Span) -> Page:
        """Return the posts created in a span before the walk began, known by rule."""
        listed = self._listed(from_us(span.start))
        created = pl.col("created")
        outside = (created < from_us(span.start)) | (created >= from_us(span.stop))
        return _page(span, listed, outside, by_rule=True)

    def _present(self, span: Span, begun: int | None) -> Page:
        """Return the posts listed since the walk began, known from now unless they were known before."""
        listed = self._listed(from_us(span.start) - OVERLAP)
        created, latest = pl.col("created"), listed.seen_at + self._web.limits.skew
        stored = pl.col("id").is_in(self._stored(listed.posts).implode())
        # Unless it is stored, what was created before the walk began is left to those who ask for the past.
        before = (created < from_us(span.start if begun is None else begun)) & ~stored
        # What was created since is left to the next run. A stamp beyond all doubt about clocks is wrong: such a post
        # is taken at once, and never again, as each time it would look like another version.
        later = created.is_between(from_us(span.stop), latest) | ((created > latest) & stored)
        outside = before | later
        listed = replace(listed, posts=self._spared(listed.posts))
        if begun is None:
            oldest = _oldest(listed.posts.filter(~outside.fill_null(False)))
            start = span.stop if oldest is None else min(to_us(oldest), span.stop)
            return _page(Span(start, span.stop), listed, outside, by_rule=False)
        return _page(span, listed, outside, by_rule=False)

    def _listed(self, back_to: datetime) -> _Listed:
        """Return the newest posts, back to an instant or as far as Reddit lists them."""
        pages: list[pl.DataFrame] = []
        anchors: list[str] = []
        after: dict[str, str] = {}
        while True:
            sheet = self._client.listing(f"r/{self._subreddit}/new", limit=str(_PAGE), **after)
            pages.append(posts(sheet.children, sheet.seen_at))
            # Of most posts on the page: a single stamp may be wrong.
            middle = pages[-1]["created"].median()
            assert middle is None or isinstance(middle, datetime)
            if sheet.after is None or (middle is not None and middle < back_to):
                return _Listed(posts=pl.concat(pages), ended=sheet.after is None, seen_at=sheet.seen_at)
            if sheet.after in anchors:
                raise Drifted(f"{self.name}: the listing goes round in circles at {sheet.after[:20]!r}")
            anchors.append(sheet.after)
            after = {"after": sheet.after}

    def _looks(self, span: Span) -> Iterator[Page]:
        """Yield what has become of recent posts."""
        due = self._due(self._web.clock.now())
        batches = [due[at : at + _PAGE] for at in range(0, len(due), _PAGE)]
        if due:
            self._tell(f"{self.name}: looking again at {len(due)} posts, in requests: {len(batches)}")
        for batch in batches:
            sheet = self._client.listing("api/info", id=",".join(f"t3_{each}" for each in batch))
            found = posts(sheet.children, sheet.seen_at).filter(pl.col("id").is_in(batch).fill_null(True))
            made = records(found, by_rule=False)
            # Counts last: they say that there was a look, so a look that is cut off before them is taken again.
            for counted in (False, True):
                part = {name: rows if (name == COUNTS) == counted else rows.clear() for name, rows in made.items()}
                yield Page(span=span, records=part, fetched_at=sheet.seen_at)

    def _due(self, now: datetime) -> list[str]:
        """Return the ids of the posts to look at again, those first that were left alone for longest."""
        since = now - self._recheck
        return (
            self._own(POSTS)
            .filter(pl.col("observed_at") >= since)
            .group_by("id")
            .agg(created=pl.col("observed_at").min())
            .join(self._looked(since), on="id", how="left")
            .filter(_is_due(pl.lit(now, UTC_US)))
            .sort("looked", "created", "id", nulls_last=False)
            .head(MOST_LOOKS)
            .collect()["id"]
            .to_list()
        )

    def _spared(self, posts: pl.DataFrame) -> pl.DataFrame:
        """Return listed posts, those marked as not counted that are not due: a listing shows some again and again."""
        looked = self._looked(_oldest(posts) or FIRST).collect()
        return posts.join(looked, on="id", how="left", maintain_order="left").with_columns(
            counted=_is_due(pl.col("seen"))
        )

    def _looked(self, since: datetime) -> pl.LazyFrame:
        """Return when each post was last counted: ``id`` and ``looked``."""
        counted = self._own(REACTIONS).filter(pl.col("observed_at") >= since)
        return counted.group_by("id").agg(looked=pl.col("observed_at").max())

    def _stored(self, posts: pl.DataFrame) -> pl.Series:
        """Return the ids of those listed posts that the lake has."""
        own = self._own(POSTS).filter(pl.col("observed_at") >= (_oldest(posts) or FIRST))
        return own.filter(pl.col("id").is_in(posts["id"].implode())).select("id").unique().collect()["id"]

    def _own(self, table: Table) -> pl.LazyFrame:
        return self._lake.scan(table).filter(pl.col("site") == "reddit", pl.col("channel") == self._subreddit)


def _oldest(posts: pl.DataFrame) -> datetime | None:
    oldest = posts["created"].min()
    assert oldest is None or isinstance(oldest, datetime)
    return oldest


def _is_due(now: pl.Expr) -> pl.Expr:
    wait = pl.max_horizontal((pl.col("looked") - pl.col("created")) * _LOOK_AFTER, pl.lit(_SHORTEST_LOOK))
    return (now - pl.col("looked") >= wait).fill_null(True)


def _page(span: Span, listed: _Listed, outside: pl.Expr, *, by_rule: bool) -> Page:
    """Return the page of what was listed, but for what lies outside; what has no stamp that can be read is kept."""
    return Page(
        span=span,
        records=records(listed.posts.filter(~outside.fill_null(False)), by_rule=by_rule),
        fetched_at=listed.seen_at,
        holes=_holes(span, listed),
    )


def _holes(span: Span, listed: _Listed) -> tuple[Hole, ...]:
    """Return the part of a span that a listing did not reach."""
    oldest = _oldest(listed.posts)
    if not listed.ended or span.start == span.stop or (oldest is not None and to_us(oldest) <= span.start):
        return ()
    count = listed.posts["id"].n_unique()
    if count == 0:
        # So Reddit answers in an outage, too.
        return (Hole(span=span, reason="Reddit listed no post at all"),)
    if oldest is None or count < _PAGE:
        return ()  # these are all posts of the subreddit
    reason = (
        f"Reddit lists only the newest posts, {count} of them, back to {oldest:%Y-%m-%dT%H:%M:%SZ}; "
        "fill in from a dump: backsight pull dump --layout arctic-shift-posts"
    )
    # Others of the oldest one's second may be missing.
    missing = Span(span.start, min(to_us(oldest) + _SECOND, span.stop))
    return (Hole(span=missing, reason=reason, again=False),)
