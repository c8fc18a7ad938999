"""Posts of subreddits: what was written when, edited, removed, and how scores grew."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from backsight_fakeworld.draws import rng

SUBREDDITS: Final = {"Bitcoin": 3, "CryptoCurrency": 5, "ethereum": 1}
"""Most posts per hour."""

FOUNDED: Final = datetime(2021, 1, 1, tzinfo=UTC)

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TITLES: Final = (
    "{coin} to the moon \U0001f680\U0001f680",
    "Why I sold all my {coin} today",
    "{coin} & rates: what does the Fed do next?",
    "Is {coin} < $10k still possible?",
    "Daily discussion - {coin} <3",
    "A wallet pasted &amp; broken twice",
    "{coin}\u200bhalving explained",
    "Bär oder Bulle? 比特币 {coin} \U0001f914",
    "PSA: don't keep {coin} on exchanges",
    "What are your {coin} price predictions for this month?",
)
_BODIES: Final = (
    "I have been holding for years & I am not worried.",
    "Charts say up.\n\n* first\n* second\n\n> quoted",
    "Zero\u200b-width\u200d and right-to-left \u202eabc\u202c marks.",
    'Fear \U0001f628 or greed \U0001f911? "Both" <said> nobody & everybody.',
    "tl;dr: it's complicated.",
)
_FLAIRS: Final = (None, "Discussion", "News", "Mining")


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a post says from an instant on.

    Parameters
    ----------
    since : datetime
        When it came to say so.
    kind : str
        ``"written"``, ``"edited"``, ``"removed"`` by moderators, or ``"deleted"`` by its author.
    """

    since: datetime
    kind: str
    title: str
    selftext: str
    author: str


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post, with all that will become of it.

    Parameters
    ----------
    id : str
        In base 36, without ``t3_``; grows with time in a subreddit.
    versions : tuple of Version
        By time; the first is what was written.
    link : str or None
        Where a post without a text leads.
    final_score, final_comments : int
        What both grow to, within days.
    """

    id: str
    subreddit: str
    created: datetime
    versions: tuple[Version, ...]
    link: str | None
    flair: str | None
    final_score: int
    final_comments: int
    upvote_ratio: float

    def at(self, now: datetime) -> Version:
        """Return what it says at an instant after its creation."""
        return next(version for version in reversed(self.versions) if version.since <= now)

    def score(self, now: datetime) -> int:
        """Return its score at an instant."""
        return 1 + round(self.final_score * _grown(now - self.created, timedelta(hours=6)))

    def comments(self, now: datetime) -> int:
        """Return the number of its comments at an instant."""
        return round(self.final_comments * _grown(now - self.created, timedelta(hours=9)))

    def edited(self, now: datetime) -> datetime | None:
        """Return when it was last edited, as of an instant."""
        edits = [version.since for version in self.versions if version.kind == "edited" and version.since <= now]
        return edits[-1] if edits else None


def posts(seed: int, subreddit: str, since: datetime, until: datetime) -> Iterator[Post]:
    """Yield the posts created in [since, until), oldest first."""
    hour = (max(since, FOUNDED) - FOUNDED) // timedelta(hours=1)
    while FOUNDED + timedelta(hours=hour) < until:
        yield from (post for post in _posts_of_hour(seed, subreddit, hour) if since <= post.created < until)
        hour += 1


def posts_before(seed: int, subreddit: str, until: datetime) -> Iterator[Post]:
    """Yield the posts created before an instant, newest first."""
    for hour in range((until - FOUNDED) // timedelta(hours=1), -1, -1):
        yield from (post for post in reversed(_posts_of_hour(seed, subreddit, hour)) if post.created < until)


def post_of_id(seed: int, text: str) -> Post | None:
    """Return the post with an id."""
    try:
        number = int(text, 36)
    except ValueError:
        return None
    hour, rest = divmod(number, 64)
    names = sorted(SUBREDDITS)
    if not text or rest // 16 >= len(names):
        return None
    return next((post for post in _posts_of_hour(seed, names[rest // 16], hour) if post.id == text), None)


@lru_cache(maxsize=20_000)
def _posts_of_hour(seed: int, subreddit: str, hour: int) -> tuple[Post, ...]:
    """Return the posts of an hour since the founding."""
    draw = rng(seed, "posts", subreddit, hour)
    created = sorted(draw.sample(range(3600), draw.randint(0, SUBREDDITS[subreddit])))
    room = sorted(SUBREDDITS).index(subreddit)
    return tuple(
        _post(seed, subreddit, FOUNDED + timedelta(hours=hour, seconds=second), hour * 64 + room * 16 + i)
        for i, second in enumerate(created)
    )


def _post(seed: int, subreddit: str, created: datetime, number: int) -> Post:
    draw = rng(seed, "post", number)
    is_link = draw.random() < 0.15
    coin = draw.choice(("BTC", "ETH", "Bitcoin", "$SOL"))
    title = draw.choice(_TITLES).format(coin=coin)
    body = "" if is_link else "\n\n".join(draw.choices(_BODIES, k=draw.randint(1, 3)))
    author = f"user_{draw.randrange(500)}"
    versions = [Version(since=created, kind="written", title=title, selftext=body, author=author)]
    if not is_link and draw.random() < 0.2:
        for _ in range(draw.randint(1, 2)):
            later = versions[-1].since + timedelta(seconds=draw.randint(30, 2 * 86_400))
            text = f"{versions[-1].selftext}\n\nEDIT: {draw.choice(_BODIES)}"
            versions.append(Version(since=later, kind="edited", title=title, selftext=text, author=author))
    end = versions[-1].since + timedelta(seconds=draw.randint(60, 3 * 86_400))
    fate = draw.random()
    if fate < 0.05:
        versions.append(Version(since=end, kind="removed", title=title, selftext="[removed]", author=author))
    elif fate < 0.1:
        versions.append(
            Version(since=end, kind="deleted", title="[deleted by user]", selftext="[deleted]", author="[deleted]")
        )
    return Post(
        id=_base36(number),
        subreddit=subreddit,
        created=created,
        versions=tuple(versions),
        link=f"https://example.com/{number}" if is_link else None,
        flair=draw.choice(_FLAIRS),
        final_score=int(draw.lognormvariate(3, 1.5)) - 1,
        final_comments=int(draw.lognormvariate(2, 1.2)),
        upvote_ratio=round(draw.uniform(0.4, 1), 2),
    )


def _grown(age: timedelta, span: timedelta) -> float:
    return 1 - math.exp(-(age / span))


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text or "0"
