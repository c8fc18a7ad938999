"""``backsight pull reddit`` from end to end: the system's clock, real HTTP, a world of the present."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from backsight_fakeworld import FakeWorld
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import POSTS, REACTIONS
from backsight_ingest.live.faults import Refused
from click.testing import CliRunner, Result

KEYS = {"REDDIT_CLIENT_ID": "app", "REDDIT_CLIENT_SECRET": "planted-0123456789"}
Pull = Callable[..., Result]


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    with FakeWorld(seed=7, now=None) as world:
        world.advance(timedelta(0))  # it stands still from here on: no post comes between two runs
        world.reddit.cap = 120
        world.reddit.reset = 0  # so that the budget is no reason to wait
        yield world


@pytest.fixture
def pull(world: FakeWorld, tmp_path: Path) -> Pull:
    """Return what runs the verb with keys and on the world, and gives back how it ended."""

    def run(*options: str, **keys: str | None) -> Result:
        before = ["--home", str(tmp_path / "home"), "pull", "reddit", "--endpoint", world.url, "--rate", "1000"]
        return CliRunner(env={**KEYS, "REDDIT_USER_AGENT": None, **keys}).invoke(cli, [*before, *options])

    return run


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home" / "lake")


def test_subreddits_are_pulled_with_one_token(pull: Pull, world: FakeWorld, lake: Lake) -> None:
    options = ("--subreddit", "Bitcoin", "--subreddit", "ethereum", "--subreddit", "bitcoin", "--json")
    done = pull(*options)
    assert done.exit_code == 0, done.output
    jobs = json.loads(done.stdout)["jobs"]
    assert [(job["origin"], job["status"], job["accepted"]) for job in jobs] == [
        ("reddit:bitcoin", "ok", 240),
        ("reddit:ethereum", "ok", 240),
    ]
    assert len(world.hits("/reddit/api/v1/access_token")) == 1
    stored = [lake.scan(table).collect().height for table in (POSTS, REACTIONS)]
    again = json.loads(pull(*options).stdout)["jobs"]
    assert [job["accepted"] for job in again] == [0, 0]
    assert [lake.scan(table).collect().height for table in (POSTS, REACTIONS)] == stored == [240, 240]
    assert KEYS["REDDIT_CLIENT_SECRET"] not in done.output


def test_one_subreddit_that_fails_leaves_the_others(pull: Pull, lake: Lake) -> None:
    done = pull("--subreddit", "private", "--subreddit", "ethereum")
    assert isinstance(done.exception, Refused)
    assert "r/private/new: status 403 Forbidden (private)" in str(done.exception)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["reddit:private", "failed"],
        ["reddit:ethereum", "ok"],
    ]
    assert lake.scan(POSTS).collect()["channel"].unique().to_list() == ["ethereum"]


def test_a_dry_run_asks_nobody(pull: Pull, world: FakeWorld, lake: Lake) -> None:
    since = f"{world.now - timedelta(days=3):%Y-%m-%d}"
    done = pull("--subreddit", "bitcoin", "--since", since, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    assert [each["why"] for each in json.loads(done.stdout)["asked"]] == ["go on", "fill in"]
    assert world.log == []
    assert lake.version(POSTS) is None


@pytest.mark.parametrize(
    ("options", "keys", "says"),
    [
        (("--subreddit", "bitcoin"), {"REDDIT_CLIENT_ID": None}, "REDDIT_CLIENT_ID is not set"),
        (("--subreddit", "bitcoin"), {"REDDIT_CLIENT_SECRET": ""}, "REDDIT_CLIENT_SECRET is not set"),
        (("--subreddit", "r/bitcoin"), {}, "write it as in bitcoin, without r/"),
        (("--subreddit", "bitcoin+ethereum"), {}, "is no name of one subreddit"),
        (("--subreddit", "All"), {}, "is a mixture of subreddits; name each"),
    ],
)
def test_what_cannot_be_asked_for_is_told_before_anybody_is_asked(
    options: tuple[str, ...], keys: dict[str, str | None], says: str, pull: Pull, world: FakeWorld
) -> None:
    done = pull(*options, **keys)
    assert isinstance(done.exception, BadInput)
    assert says in str(done.exception)
    assert world.log == []
