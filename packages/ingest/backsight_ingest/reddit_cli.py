"""``backsight pull reddit``: the posts of subreddits, their edits, and how they are counted over time."""

import os
import re
from typing import TYPE_CHECKING, Final

import click
from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

from backsight_ingest.live_cli import Run, execute, live

if TYPE_CHECKING:
    from backsight_ingest.live.web import Web
    from backsight_ingest.sources.reddit import Subreddit

_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{1,23}")
_MIXED: Final = ("all", "popular", "friends", "mod")
"""Listings of many subreddits: what they hold at a time is no part of a time line."""


@click.command()
@click.option("--subreddit", "names", multiple=True, required=True, metavar="NAME", help="As in bitcoin; repeatable.")
@click.option(
    "--recheck-days",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Look again at posts up to this age for edits, removals and counts, at ever longer intervals: a request "
    "for 100 posts, 10 requests a run at most. 0 looks at none.",
)
@live
@click.pass_obj
def reddit(workspace: Workspace, run: Run, names: tuple[str, ...], recheck_days: float) -> None:
    """Read the posts of subreddits, and their votes and comments as they are counted now.

    Needs REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET of an app of https://www.reddit.com/prefs/apps; REDDIT_USER_AGENT
    may say who asks. Reddit lists the newest thousand posts: what a run comes too late for is in `backsight gaps`.

    \b
      backsight pull reddit --subreddit bitcoin --subreddit ethereum
      backsight pull reddit --subreddit bitcoin --since 2024-05-01
    """
    subreddits = [_subreddit(name) for name in names]

    def jobs(web: "Web") -> "list[Subreddit]":
        from datetime import timedelta

        from backsight_features.lake import Lake

        from backsight_ingest.sources.reddit import Subreddit
        from backsight_ingest.sources.reddit_client import Client, Credentials

        client = Client(web, Credentials.read(os.environ))
        return [
            Subreddit(
                Lake(workspace.lake),
                web,
                client,
                name,
                recheck=timedelta(days=recheck_days),
                tell=lambda line: click.echo(line, err=True),
            )
            for name in dict.fromkeys(subreddits)
        ]

    execute(workspace, run, jobs)


def _subreddit(name: str) -> str:
    lower = name.lower()
    if not _NAME.fullmatch(lower):
        raise BadInput(f"--subreddit {name!r} is no name of one subreddit; write it as in bitcoin, without r/")
    if lower in _MIXED:
        raise BadInput(f"--subreddit {name} is a mixture of subreddits; name each")
    return lower
