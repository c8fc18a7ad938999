"""News as feeds, as NewsAPI and as GDELT, on one history of stories."""

from datetime import datetime

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.news.feeds import Feeds
from backsight_fakeworld.news.gdelt import Gdelt
from backsight_fakeworld.news.newsapi import NewsApi
from backsight_fakeworld.stories import SOURCES, Story, stories

__all__ = ["News"]


class News:
    """All ways to the news, and the truth about it.

    Attributes
    ----------
    feeds : Feeds
        ``/news/feed.rss`` of the wire and ``/news/feed.atom`` of the desk.
    newsapi : NewsApi
        ``/newsapi/v2/everything``
    gdelt : Gdelt
        ``/gdelt/api/v2/doc/doc``
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self.feeds = Feeds(seed)
        self.newsapi = NewsApi(seed)
        self.gdelt = Gdelt(seed)

    def truth(self, since: datetime, until: datetime, *, source: str | None = None) -> list[Story]:
        """Return the stories published in [since, until) and by now, oldest first, of ``wire``, ``desk`` or both."""
        until = min(until, self._clock.now)
        found = [
            story
            for name in (SOURCES if source is None else [source])
            for story in stories(self._seed, name, since, until)
        ]
        return sorted(found, key=lambda story: (story.published, story.id))
