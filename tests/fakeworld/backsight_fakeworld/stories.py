"""News stories: a wire that writes them, and a desk that writes some of its own and copies some of the wire's."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from backsight_fakeworld.draws import rng

FOUNDED: Final = datetime(2021, 1, 1, tzinfo=UTC)
SOURCES: Final = {"wire": "Fake Wire", "desk": "Fake Desk"}

_PER_HOUR: Final = 3
_SUBJECTS: Final = ("Bitcoin", "Ethereum", "The Fed", "Binance & rivals", "Miners", "ETF issuers", "Crypto funds")
_VERBS: Final = ("rises on", "falls after", "shrugs off", "braces for", "weighs", "reacts to")
_OBJECTS: Final = (
    "inflation data",
    "rate-cut bets",
    "Europe's new rules",
    "exchange outage",
    "“risk-off” mood",
    "AT&T payments plan",
    "halving — what next?",
    "$1bn of <unknown> outflows",
)
_AUTHORS: Final = ("Jane Doe", "José Núñez", "Zoë Li", "Staff")
_SUMMARIES: Final = (
    "Traders said the move was driven by thin volumes & short covering.",
    "Analysts were split: some saw “a turn”, others a pause.",
    "The next test is Friday's jobs report, economists said.",
)
_CHANGES: Final = ("{}", "UPDATE 1-{}", "{} - Fake Wire", "{} | Report", "BREAKING: {}")


@dataclass(frozen=True, kw_only=True)
class Story:
    """A story in a source.

    Parameters
    ----------
    id : str
        Its guid.
    source : str
        ``"wire"`` or ``"desk"``.
    copy_of : str or None
        The id of the wire's story that the desk's is a copy of.
    """

    id: str
    source: str
    published: datetime
    title: str
    summary: str
    author: str
    url: str
    copy_of: str | None


def stories(seed: int, source: str, since: datetime, until: datetime) -> Iterator[Story]:
    """Yield the stories that a source published in [since, until), oldest first."""
    hour = (max(since, FOUNDED) - FOUNDED) // timedelta(hours=1)
    while FOUNDED + timedelta(hours=hour) < until:
        yield from (story for story in _of_hour(seed, source, hour) if since <= story.published < until)
        hour += 1


def stories_before(seed: int, source: str, until: datetime) -> Iterator[Story]:
    """Yield the stories that a source published before an instant, newest first."""
    for hour in range((until - FOUNDED) // timedelta(hours=1), -1, -1):
        yield from (story for story in reversed(_of_hour(seed, source, hour)) if story.published < until)


@lru_cache(maxsize=20_000)
def _of_hour(seed: int, source: str, hour: int) -> tuple[Story, ...]:
    start = FOUNDED + timedelta(hours=hour)
    found = [_written(seed, source, start, number) for number in _numbers(seed, source, hour)]
    if source == "desk":
        # A copy comes up to 90 minutes after the original: of this hour or of the two before.
        for earlier in range(max(0, hour - 2), hour + 1):
            copies = (_copied(seed, original) for original in _of_hour(seed, "wire", earlier))
            found += [copy for copy in copies if copy and start <= copy.published < start + timedelta(hours=1)]
    return tuple(sorted(found, key=lambda story: (story.published, story.id)))


def _numbers(seed: int, source: str, hour: int) -> range:
    count = rng(seed, "stories", source, hour).randint(0, _PER_HOUR)
    return range(hour * _PER_HOUR, hour * _PER_HOUR + count)


def _written(seed: int, source: str, start: datetime, number: int) -> Story:
    draw = rng(seed, "story", source, number)
    url = f"https://{source}.example.com/{number}"
    return Story(
        id=f"{source}-{number}",
        source=source,
        published=start + timedelta(seconds=draw.randrange(3600)),
        title=f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)}",
        summary=draw.choice(_SUMMARIES),
        author=draw.choice(_AUTHORS),
        url=url,
        copy_of=None,
    )


def _copied(seed: int, original: Story) -> Story | None:
    draw = rng(seed, "copy", original.id)
    if draw.random() < 0.5:
        return None
    return Story(
        id=f"desk-of-{original.id}",
        source="desk",
        published=original.published + timedelta(seconds=draw.randint(60, 5400)),
        title=draw.choice(_CHANGES).format(original.title),
        summary=original.summary,
        author=original.author,
        url=f"https://desk.example.com/of/{original.id}?utm_source=rss",
        copy_of=original.id,
    )
