"""NewsAPI's search."""

from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import takewhile
from typing import Final

from backsight_fakeworld.messages import Answer, Request, json_document, json_page
from backsight_fakeworld.stories import SOURCES, Story, stories_before

_CONTENT: Final = 200
_DEFAULT_AGE: Final = timedelta(days=30)
_SECOND: Final = timedelta(seconds=1)


class NewsApi:
    """``/v2/everything?q=...``, newest first, with a key in the header ``X-Api-Key``, as bearer or as ``apiKey``.

    ``from``, by default 30 days ago, and ``to`` are both within.

    Attributes
    ----------
    max_results : int
        How far a search may be paged; beyond it is an error.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.max_results = 1000

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not (request.headers.get("x-api-key") or bearer or request.query.get("apiKey")):
            return _error(
                401, "apiKeyMissing", "Your API key is missing. Append this to the URL with the apiKey param."
            )
        if request.path != "/v2/everything":
            return _error(404, "notFound", "The endpoint is not known.")
        words = request.query.get("q", "")
        if not words:
            return _error(
                400, "parametersMissing", "Required parameters are missing, the scope of your search is too broad."
            )
        size, page = request.number("pageSize", 100), request.number("page", 1)
        if not 1 <= size <= 100 or page < 1:
            return _error(
                400, "parameterInvalid", f"pageSize must be 1 to 100 and page at least 1, not {size} and {page}."
            )
        if size * page > self.max_results:
            return _error(
                426,
                "maximumResultsReached",
                f"You are limited to a max of {self.max_results} results. You are trying to go beyond.",
            )
        try:
            since, until = _instant(request, "from", now - _DEFAULT_AGE), _instant(request, "to", now)
        except ValueError as error:
            return _error(400, "parameterInvalid", str(error))
        newest = merge(
            *(stories_before(self._seed, source, min(until + _SECOND, now)) for source in SOURCES),
            key=lambda story: story.published,
            reverse=True,
        )
        recent = takewhile(lambda story: story.published >= since, newest)
        found = [story for story in recent if matches(story, words)]
        return json_page(
            [_article(story) for story in found[size * (page - 1) : size * page]],
            lambda rows: {"status": "ok", "totalResults": len(found), "articles": rows},
        )


def matches(story: Story, words: str) -> bool:
    """Return whether a story has one of the alternatives of a search: ``bitcoin OR "the fed"``."""
    text = f"{story.title} {story.summary}".lower()
    alternatives = words.replace("(", "").replace(")", "").split(" OR ")
    return any(
        all(word in text for word in ([part.strip('"')] if '"' in part else part.split()))
        for part in (alternative.strip().lower() for alternative in alternatives)
    )


def _instant(request: Request, name: str, default: datetime) -> datetime:
    text = request.query.get(name)
    if text is None:
        return default
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _article(story: Story) -> dict[str, object]:
    content = story.summary * 3
    rest = len(content) - _CONTENT
    return {
        "source": {"id": None, "name": SOURCES[story.source]},
        "author": story.author,
        "title": story.title,
        "description": story.summary,
        "url": story.url,
        "urlToImage": None,
        "publishedAt": f"{story.published:%Y-%m-%dT%H:%M:%SZ}",
        "content": content if rest <= 0 else f"{content[:_CONTENT]}… [+{rest} chars]",
    }


def _error(status: int, code: str, message: str) -> Answer:
    return json_document({"status": "error", "code": code, "message": message}, status=status)
