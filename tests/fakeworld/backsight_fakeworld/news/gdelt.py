"""GDELT's DOC 2.0 API, lists of articles."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice, takewhile
from typing import Final

from backsight_fakeworld.messages import Answer, Request, json_document, json_page, text_document
from backsight_fakeworld.news.newsapi import matches
from backsight_fakeworld.stories import SOURCES, Story, stories, stories_before

_MOST: Final = 250
_SLOT: Final = timedelta(minutes=15)
_REACH: Final = timedelta(days=90)
_UNITS: Final = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Gdelt:
    """``/api/v2/doc/doc?query=...&mode=artlist&format=json``: 75 to 250 articles of a stretch of the last 90 days.

    A complaint is a line of text with status 200, and nothing found an empty object, as there.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        query = request.query
        if request.path != "/api/v2/doc/doc":
            return text_document("Not Found", status=404)
        if len(query.get("query", "")) < 3:
            return text_document("Your query was too short or too long.\n")
        if query.get("mode", "").lower() != "artlist" or query.get("format", "").lower() != "json":
            return text_document("The fake world has mode=artlist and format=json only.\n")
        try:
            since, until = _stretch(request, now)
        except ValueError:
            return text_document("Invalid/Unsupported Timespan.\n")
        most = min(request.number("maxrecords", 75), _MOST)
        # Seen when its quarter of an hour is over.
        if query.get("sort", "datedesc").lower() == "dateasc":
            parts = [stories(self._seed, source, since - _SLOT, until) for source in SOURCES]
            found: Iterable[Story] = merge(*parts, key=lambda story: story.published)
        else:
            parts = [stories_before(self._seed, source, until) for source in SOURCES]
            newest = merge(*parts, key=lambda story: story.published, reverse=True)
            found = takewhile(lambda story: story.published >= since - _SLOT, newest)
        seen = (story for story in found if since <= _seen(story) <= until and matches(story, query["query"]))
        rows = [_article(story) for story in islice(seen, most)]
        return json_page(rows, lambda rows: {"articles": rows}) if rows else json_document({})


def _stretch(request: Request, now: datetime) -> tuple[datetime, datetime]:
    query = request.query
    if "startdatetime" in query:
        since = datetime.strptime(query["startdatetime"], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        until = now
        if "enddatetime" in query:
            until = min(now, datetime.strptime(query["enddatetime"], "%Y%m%d%H%M%S").replace(tzinfo=UTC))
        return max(since, now - _REACH), until
    if "timespan" not in query:
        return now - _REACH, now
    number = query["timespan"].rstrip("minhdw")
    unit = query["timespan"].removeprefix(number)
    if unit not in _UNITS:
        raise ValueError(unit)
    return now - timedelta(**{_UNITS[unit]: int(number)}), now


def _seen(story: Story) -> datetime:
    since = story.published - datetime(1970, 1, 1, tzinfo=UTC)
    return datetime(1970, 1, 1, tzinfo=UTC) + (since // _SLOT + 1) * _SLOT


def _article(story: Story) -> dict[str, str]:
    return {
        "url": story.url,
        "url_mobile": "",
        "title": story.title,
        "seendate": f"{_seen(story):%Y%m%dT%H%M%SZ}",
        "socialimage": "",
        "domain": f"{story.source}.example.com",
        "language": "English",
        "sourcecountry": "United States",
    }
