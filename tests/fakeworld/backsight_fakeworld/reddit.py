"""Reddit's API: tokens, listings with Reddit's cap, and posts by id."""

import json
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timedelta
from heapq import merge
from html import escape
from itertools import count, islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.messages import Answer, Request, Row, json_document, json_page
from backsight_fakeworld.posts import SUBREDDITS, Post, Version, post_of_id, posts, posts_before

_WINDOW: Final = 600
_SPELLED: Final = {name.lower(): name for name in SUBREDDITS}
"""Reddit finds a subreddit however its name is written."""


class Reddit:
    """Reddit, and the truth about its posts.

    Attributes
    ----------
    cap : int
        Most posts that a listing reaches back.
    token_life : int
        Seconds until a token expires, by the world's clock.
    remaining, used : int
        As in the headers; both move with every request.
    reset : int or None
        Seconds as in the header; ``None`` lets it shrink as the requests are used up, so that nobody has to wait.
    null_authors : bool
        Whether the author of a deleted post is null instead of ``"[deleted]"``.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self._tokens: dict[str, datetime] = {}
        self._numbers = count()
        self.cap = 1000
        self.token_life = 86_400
        self.remaining, self.used = 1000, 0
        self.reset: int | None = None
        self.null_authors = False

    def truth(self, subreddit: str, since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return the posts created in [since, until), as Reddit would show them now, oldest first."""
        now = self._clock.now
        return [self._shown(post, now) for post in posts(self._seed, subreddit, since, min(until, now))]

    def versions(self, post_id: str) -> list[Version]:
        """Return what a post has said until now, with since when; no id, no versions."""
        post = post_of_id(self._seed, post_id.removeprefix("t3_"))
        return [version for version in post.versions if version.since <= self._clock.now] if post else []

    def revoke(self) -> None:
        """Make all tokens bad."""
        self._tokens.clear()

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        path = request.path.removesuffix("/").removesuffix(".json")
        if path == "/api/v1/access_token":
            return self._token(request)
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or self._tokens.get(token, self._clock.now) <= self._clock.now:
            return json_document(
                {"message": "Unauthorized", "error": 401},
                status=401,
                headers={"www-authenticate": 'Bearer realm="reddit", error="invalid_token"'},
            )
        headers = self._count()
        escaped = request.query.get("raw_json") != "1"
        if path == "/api/info":
            wanted = request.query.get("id", "").split(",")[:100]
            found = [post for text in wanted if (post := post_of_id(self._seed, text.removeprefix("t3_")))]
            return self._listing([post for post in found if post.created <= now], None, now, escaped, headers)
        match path.split("/")[1:]:
            case ["r", names, "new"] if set(wanted := names.lower().split("+")) <= set(_SPELLED):
                return self._new([_SPELLED[name] for name in wanted], request, now, escaped, headers)
            case ["r", "private", *_]:
                return json_document({"reason": "private", "message": "Forbidden", "error": 403}, status=403)
        return json_document({"message": "Not Found", "error": 404}, status=404, headers=headers)

    def dump(self, subreddit: str, since: datetime, until: datetime, *, after: timedelta) -> Iterator[dict[str, Any]]:
        """Yield posts as dumps hold them: as they were some time after their creation, with ``retrieved_on``."""
        for post in posts(self._seed, subreddit, since, min(until, self._clock.now - after)):
            retrieved = post.created + after
            yield {**self._shown(post, retrieved), "retrieved_on": int(retrieved.timestamp())}

    def write_dump(
        self, path: Path, subreddit: str, since: datetime, until: datetime, *, after: timedelta = timedelta(hours=36)
    ) -> int:
        """Write a dump of a subreddit, a post a line, and return the number of lines.

        A path that ends with ``.zst`` is compressed with a window of 2 GiB, as the dumps of Arctic Shift are; that
        needs the package zstandard.
        """
        lines = [
            json.dumps(post, ensure_ascii=False) + "\n" for post in self.dump(subreddit, since, until, after=after)
        ]
        content = "".join(lines).encode()
        if path.suffix == ".zst":
            import zstandard

            parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=31)
            with (
                path.open("wb") as file,
                zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file) as out,
            ):
                out.write(content)
        else:
            path.write_bytes(content)
        return len(lines)

    def _token(self, request: Request) -> Answer:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic" or not b64decode(text).decode().partition(":")[0]:
            return json_document({"message": "Unauthorized", "error": 401}, status=401)
        if dict(parse_qsl(request.body)).get("grant_type") not in ("client_credentials", "password"):
            return json_document({"error": "unsupported_grant_type"})
        token = f"token-{next(self._numbers)}"
        self._tokens[token] = self._clock.now + timedelta(seconds=self.token_life)
        return json_document(
            {"access_token": token, "token_type": "bearer", "expires_in": self.token_life, "scope": "*"}
        )

    def _count(self) -> dict[str, str]:
        """Count a request, and return the headers that tell of it."""
        if self.remaining <= 0:
            self.remaining, self.used = self.remaining + self.used, 0
        self.remaining, self.used = self.remaining - 1, self.used + 1
        left = _WINDOW * self.remaining // (self.remaining + self.used)
        return {
            "x-ratelimit-used": str(self.used),
            "x-ratelimit-remaining": f"{self.remaining}.0",
            # Later in the window than evenly spread requests would be: praw then has no reason to wait.
            "x-ratelimit-reset": str(max(0, left - 10) if self.reset is None else self.reset),
        }

    def _new(self, names: list[str], request: Request, now: datetime, escaped: bool, headers: dict[str, str]) -> Answer:
        newest = merge(
            *(posts_before(self._seed, name, now) for name in names), key=lambda post: post.created, reverse=True
        )
        found = list(islice(newest, self.cap))
        places = {f"t3_{post.id}": i for i, post in enumerate(found)}
        limit = max(1, min(request.number("limit", 25), 100))
        if after := request.query.get("after"):
            found = found[places[after] + 1 :] if after in places else []
        elif before := request.query.get("before"):
            found = found[: places[before]][-limit:] if before in places else []
        page = found[:limit]
        following = f"t3_{page[-1].id}" if len(found) > limit else None
        return self._listing(page, following, now, escaped, headers)

    def _listing(
        self, page: list[Post], after: str | None, now: datetime, escaped: bool, headers: dict[str, str]
    ) -> Answer:
        def wrapped(rows: list[Row]) -> object:
            children = [{"kind": "t3", "data": row} for row in rows]
            data = {
                "after": after,
                "before": None,
                "dist": len(rows),
                "modhash": None,
                "geo_filter": "",
                "children": children,
            }
            return {"kind": "Listing", "data": data}

        rows = [self._shown(post, now) for post in page]
        if escaped:
            rows = [_escaped(row) for row in rows]
        return json_page(rows, wrapped, headers=headers)

    def _shown(self, post: Post, now: datetime) -> dict[str, Any]:
        """Return a post as Reddit shows it at an instant."""
        version, edited = post.at(now), post.edited(now)
        gone = version.kind == "deleted"
        permalink = f"/r/{post.subreddit}/comments/{post.id}/post/"
        return {
            "id": post.id,
            "name": f"t3_{post.id}",
            "subreddit": post.subreddit,
            "subreddit_name_prefixed": f"r/{post.subreddit}",
            "title": version.title,
            "selftext": version.selftext,
            "author": None if gone and self.null_authors else version.author,
            "created_utc": post.created.timestamp(),
            "edited": False if edited is None else edited.timestamp(),
            "score": post.score(now),
            "ups": post.score(now),
            "num_comments": post.comments(now),
            "upvote_ratio": post.upvote_ratio,
            "is_self": post.link is None,
            "over_18": False,
            "stickied": False,
            "link_flair_text": post.flair,
            "removed_by_category": {"removed": "moderator", "deleted": "deleted"}.get(version.kind),
            "domain": f"self.{post.subreddit}" if post.link is None else "example.com",
            "permalink": permalink,
            "url": post.link or f"https://www.reddit.com{permalink}",
        }


def _escaped(row: Row) -> Row:
    """Return a post with its texts escaped, as Reddit has them unless raw_json is asked for."""
    return {**row, **{name: escape(row[name], quote=False) for name in ("title", "selftext")}}
