"""``backsight pull news`` and ``link`` from end to end: the system's clock, real HTTP, a world of today."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.cli import cli
from backsight_features.clocks import utc_now
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import LINKS, NEWS
from backsight_ingest.live.faults import Refused
from click.testing import CliRunner, Result

KEY = "planted-0123456789"
RSS, ATOM = "https://wire.example.com/feed.rss", "https://desk.example.com/feed.atom"

Call = Callable[..., Result]


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    with FakeWorld(seed=7, now=None) as world:
        yield world


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Return what runs a command with a key, and gives back how it ended."""

    def call(*words: str, key: str | None = KEY) -> Result:
        return CliRunner(env={"NEWSAPI_KEY": key}).invoke(cli, ["--home", str(tmp_path / "home"), *words])

    return call


@pytest.fixture
def pull(call: Call, world: FakeWorld) -> Call:
    """Return what pulls news of the world."""
    return lambda *words, **key: call("pull", "news", "--endpoint", world.url, "--rate", "1000", *words, **key)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "home" / "lake")


def test_all_ways_to_the_news_at_once_and_then_the_links(call: Call, pull: Call, lake: Lake) -> None:
    words = ("--feed", RSS, "--feed", ATOM, "--feed", RSS, "--newsapi", "bitcoin", "--gdelt", "bitcoin", "--json")
    done = pull(*words)
    assert done.exit_code == 0, done.output
    jobs = json.loads(done.stdout)["jobs"]
    assert [(job["origin"], job["status"]) for job in jobs] == [
        ("news:wire.example.com/feed.rss", "ok"),
        ("news:desk.example.com/feed.atom", "ok"),
        ("news:newsapi:bitcoin", "ok"),
        ("news:gdelt:bitcoin", "ok"),
    ]
    # GDELT is asked for the last hours, in which it may be that nothing was said of it.
    assert all(job["accepted"] > 0 for job in jobs[:3])
    since = f"{utc_now() - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    (earlier,) = json.loads(pull("--gdelt", "bitcoin", "--since", since, "--json").stdout)["jobs"]
    assert earlier["accepted"] > 0
    assert KEY not in done.output
    articles = lake.scan(NEWS).select("id").unique().collect().height
    linked = json.loads(call("link", "--json").stdout)
    assert (linked["status"], linked["read"], linked["accepted"]) == ("ok", articles, articles)
    links = lake.scan(LINKS).collect()
    assert 0 < links.filter(pl.col("id") != pl.col("story")).height < articles
    assert json.loads(call("link", "--json").stdout)["read"] == 0
    verbs = {run["verb"] for run in json.loads(call("runs", "--json").stdout)}
    assert verbs == {"pull news", "link"}


def test_a_table_tells_people_and_a_source_that_fails_leaves_the_others(
    pull: Call, world: FakeWorld, lake: Lake
) -> None:
    world.fault("/newsapi/", Fault.server_error(404), times=-1)
    done = pull("--newsapi", "bitcoin", "--feed", RSS)
    assert isinstance(done.exception, Refused)
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["news:wire.example.com/feed.rss", "ok"],
        ["news:newsapi:bitcoin", "failed"],
    ]
    assert lake.scan(NEWS).collect().height == 30


def test_a_dry_run_asks_nobody(pull: Call, world: FakeWorld, lake: Lake) -> None:
    done = pull("--gdelt", "bitcoin", "--since", "2024-05-01", "--dry-run", "--json")
    assert [each["why"] for each in json.loads(done.stdout)["asked"]] == ["go on", "fill in"]
    assert world.log == []
    assert lake.version(NEWS) is None


@pytest.mark.parametrize(
    ("words", "key", "says"),
    [
        (("--newsapi", "bitcoin"), None, "NEWSAPI_KEY"),
        (("--feed", "feed.xml"), KEY, "is no address"),
        (("--feed", RSS, "--since", "2024-01-01"), KEY, "a feed has no past to ask for"),
        (("--gdelt", " "), KEY, "no words to search for"),
    ],
)
def test_what_cannot_be_done_is_said(words: tuple[str, ...], key: str | None, says: str, pull: Call) -> None:
    done = pull(*words, key=key)
    assert isinstance(done.exception, BadInput)
    assert says in str(done.exception)


def test_nothing_to_pull_is_a_mistake(pull: Call) -> None:
    assert pull().exit_code == 2


def test_no_news_no_links(call: Call, lake: Lake) -> None:
    done = call("link")
    assert done.exit_code == 0, done.output
    assert lake.version(LINKS) is None
