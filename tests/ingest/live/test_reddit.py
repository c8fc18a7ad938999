"""The job of a subreddit: nothing is lost that Reddit shows, and nothing is known before it was seen."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us, to_us
from backsight_features.lake import Appended, Lake
from backsight_features.schemas import COVERAGE, POSTS, QUARANTINE, REACTIONS
from backsight_features.texts import REMOVED
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.reddit import Subreddit
from backsight_ingest.sources.reddit_client import Client, Credentials, Sheet

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
"""Where the world's clock stands at first."""

LISTING, LOOKS = "/reddit/r/bitcoin/new", "/reddit/api/info"


@pytest.fixture
def job(make_web: Callable[..., Web], lake: Lake, told: list[str]) -> Callable[..., Subreddit]:
    """Return a maker of jobs, each as of a process of its own."""

    def make(recheck: timedelta = 2 * DAY, client: type[Client] = Client) -> Subreddit:
        web = make_web(idle=timedelta(seconds=5), total=timedelta(seconds=10))
        who = Credentials(client_id="app", client_secret="secret", user_agent="python:tests:1")
        return Subreddit(lake, web, client(web, who), "bitcoin", recheck=recheck, tell=told.append)

    return make


@pytest.fixture
def run(
    job: Callable[..., Subreddit], lake: Lake, clock: Clock, world: FakeWorld, tmp_path: Path
) -> Callable[..., Account]:
    """Return one run of the job; its account. The world's log is that of the last run."""

    def run(since: datetime | None = None, until: datetime | None = None, **options: Any) -> Account:
        world.log.clear()
        (account,) = pull(lake, [job(**options)], locks=tmp_path / "locks", clock=clock, since=since, until=until)
        assert account.error is None, account.error
        return account

    return run


def shown(world: FakeWorld, days: int = 60) -> list[dict[str, Any]]:
    """Return the posts of some days as Reddit shows them now, the newest first."""
    return world.reddit.truth("Bitcoin", world.now - days * DAY, world.now)[::-1]


def ids(posts: list[dict[str, Any]]) -> set[str]:
    return {post["id"] for post in posts}


def stored(lake: Lake) -> pl.DataFrame:
    return lake.scan(POSTS).sort("observed_at", "available_at", descending=True).collect()


def holes(lake: Lake, job: Subreddit) -> list[tuple[str, datetime, datetime]]:
    return [
        (stretch.status, from_us(stretch.span.start), from_us(stretch.span.stop))
        for stretch in coverage.read(lake, job.name, POSTS).stretches
        if stretch.status != "whole"
    ]


def asked(world: FakeWorld) -> list[str]:
    return [hit.path for hit in world.log if hit.method == "GET"]


def test_the_first_run_takes_all_that_is_listed_as_known_from_now(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    world.reddit.cap = 230
    world.reddit.null_authors = True
    before, listed = world.now, shown(world)[:230]
    account = run()
    assert (account.read, account.accepted) == (460, 460)
    posts = stored(lake)
    assert posts["id"].to_list() == [post["id"] for post in listed]
    assert posts["title"].to_list() == [post["title"] for post in listed]
    gone = [post["selftext"].lower() in REMOVED for post in listed]
    assert posts["text"].to_list() == [
        None if g else post["selftext"] or None for g, post in zip(gone, listed, strict=True)
    ]
    assert posts["url"].to_list() == [None if g else post["url"] for g, post in zip(gone, listed, strict=True)]
    assert posts["available_at"].is_between(before, world.now).all()
    assert not posts["available_at_estimated"].any()
    known = coverage.read(lake, job().name, POSTS)
    assert (known.begun, known.reached) == (to_us(posts["observed_at"].min()), to_us(before))
    assert holes(lake, job()) == []


def test_a_run_at_the_same_instant_has_nothing_to_ask(world: FakeWorld, run: Callable[..., Account]) -> None:
    world.reddit.cap = 50
    instant = world.now
    run()
    world.now = instant
    assert run().read == 0
    assert world.log == []


def test_later_runs_add_what_is_new(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 150
    run()
    for _ in range(2):
        world.advance(HOUR)
        before = stored(lake)["id"].n_unique()
        new = len(ids(shown(world, 1)) - set(stored(lake)["id"]))
        run()
        assert asked(world) == [LISTING]
        assert stored(lake)["id"].n_unique() - before == new > 0
    assert ids(shown(world)[:100]) <= set(stored(lake)["id"])


def test_posts_that_are_listed_late_are_not_lost(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 80
    hidden = ids(shown(world)[:2])
    world.fault(LISTING, Fault.rewrite(lambda rows: [row for row in rows if row["id"] not in hidden]))
    run()
    assert not hidden & set(stored(lake)["id"])
    world.advance(5 * MINUTE)
    run()
    late = stored(lake).filter(pl.col("id").is_in(hidden))
    assert late.height == 2
    assert (late["available_at"] > late["observed_at"] + 5 * MINUTE).all()


def test_a_listing_that_grows_while_it_is_walked_loses_nothing(
    world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    class Slow(Client):
        """Two hours pass before each page but the first."""

        def listing(self, path: str, **params: str) -> Sheet:
            if "after" in params:
                world.advance(2 * HOUR)
            return super().listing(path, **params)

    world.reddit.cap = 300
    run()
    world.advance(5 * DAY)
    there = ids(shown(world, 6))
    run(client=Slow)
    assert len(asked(world)) >= 3
    assert there <= set(stored(lake)["id"])
    run()
    assert ids(shown(world, 7)) <= set(stored(lake)["id"])


def test_what_the_listing_no_longer_reaches_is_lost_and_the_way_out_is_named(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    world.reddit.cap = 120
    run()
    reached = world.now - timedelta(seconds=1)
    world.advance(7 * DAY)
    oldest = datetime.fromtimestamp(shown(world)[119]["created_utc"], world.now.tzinfo)
    run()
    ((status, since, until),) = holes(lake, job())
    assert (status, until) == ("lost", oldest + timedelta(seconds=1))
    assert abs(since - reached) < timedelta(seconds=5)
    (reason,) = lake.scan(COVERAGE).filter(pl.col("status") == "lost").collect()["reason"]
    assert "120" in reason
    assert "backsight pull dump --layout arctic-shift-posts" in reason
    world.advance(HOUR)
    run()
    assert asked(world)[0] == LISTING
    assert len(holes(lake, job())) == 1


def test_a_small_subreddit_is_whole(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    world.reddit.cap = 0
    run()
    world.advance(DAY)
    world.reddit.cap = 20
    run()
    assert holes(lake, job()) == []


def test_an_answer_without_any_post_is_asked_for_again(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    world.reddit.cap = 150
    run()
    world.advance(6 * HOUR)
    world.reddit.cap = 0
    run()
    ((status, *_),) = holes(lake, job())
    assert status == "hole"
    world.reddit.cap = 150
    world.advance(HOUR)
    run()
    assert holes(lake, job()) == []
    assert ids(shown(world)[:100]) <= set(stored(lake)["id"])


def test_the_past_is_known_by_rule(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    since, start = world.now - 6 * DAY, world.now
    listed = {post["id"]: post for post in shown(world, 6)}
    run(since=since)
    posts = stored(lake)
    assert set(posts["id"]) == set(listed)
    for post in posts.to_dicts():
        said = listed[post["id"]]
        written = datetime.fromtimestamp(said["edited"] or said["created_utc"], since.tzinfo)
        ruled = said["removed_by_category"] is None and written + HOUR < start
        assert post["available_at_estimated"] == ruled
        if ruled:
            assert post["available_at"] == written + HOUR
        else:
            assert post["available_at"] >= start
    assert 0 < posts["available_at_estimated"].sum() < posts.height
    known = coverage.read(lake, job().name, POSTS)
    assert known.unasked(coverage.span(since, start)) == []
    world.advance(HOUR)
    run(since=since)
    assert asked(world) == [LISTING]


def test_the_past_is_filled_in_behind_a_walk_that_has_begun(
    world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    world.reddit.cap = 110
    run()
    begun = stored(lake)["observed_at"].min()
    world.reddit.cap = 1000
    world.advance(HOUR)
    run(since=begun - 3 * DAY)
    posts = stored(lake)
    assert ids(world.reddit.truth("Bitcoin", begun - 3 * DAY, world.now)) == set(posts["id"])
    assert not posts.filter(pl.col("observed_at") >= begun)["available_at_estimated"].any()
    assert posts.filter(pl.col("observed_at") < begun)["available_at_estimated"].any()


def test_the_past_that_is_not_listed_is_lost_and_not_asked_for_again(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, job: Callable[..., Subreddit]
) -> None:
    world.reddit.cap = 130
    since = world.now - 30 * DAY
    run(since=since)
    ((status, start, stop),) = holes(lake, job())
    assert (status, start) == ("lost", since)
    assert stop == stored(lake)["observed_at"].min() + timedelta(seconds=1)
    world.advance(HOUR)
    run(since=since)
    assert asked(world) == [LISTING]


def test_nothing_is_asked_for_from_until_on(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 250
    until = world.now - 2 * DAY
    run(until=until)
    assert stored(lake)["observed_at"].max() < until
    run()
    assert ids(shown(world)[:100]) <= set(stored(lake)["id"])


def test_a_plan_asks_nobody(world: FakeWorld, job: Callable[..., Subreddit], lake: Lake) -> None:
    since = world.now - DAY
    found = plan(lake, job(), since=since, until=None, now=world.now)
    assert found.backfill == (coverage.span(since, world.now),)
    assert world.log == []
    assert lake.version(POSTS) is None


def test_edits_and_removals_are_versions_known_from_when_they_were_seen(
    world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    world.reddit.cap = 100
    run()
    for _ in range(5):
        world.advance(13 * HOUR)
        run()
    posts = stored(lake)
    several = 0
    for (post_id,), versions in posts.group_by("id"):
        truth = world.reddit.versions(str(post_id))
        several += versions.height > 1
        for row in versions.to_dicts():
            gone = row["text"] is None and row["url"] is None
            said = [v for v in truth if (v.kind in ("removed", "deleted")) == gone and v.title == row["title"]]
            since = min(v.since for v in said if gone or (v.selftext or None) == row["text"])
            assert row["available_at"] >= since
    assert several > 5
    assert (posts["text"].is_null() & posts["url"].is_null()).any()


def test_posts_that_are_no_longer_listed_are_looked_at_by_their_ids(
    world: FakeWorld, run: Callable[..., Account], lake: Lake, told: list[str]
) -> None:
    world.reddit.cap = 250
    run()
    world.advance(DAY)
    run(recheck=7 * DAY)
    assert asked(world) == [LISTING, LOOKS]
    looked = [name for hit in world.hits(LOOKS) for name in hit.query["id"].split(",")]
    listed = ids(shown(world)[:100])
    recent = ids(shown(world, 7))
    assert len(looked) > 50
    assert {name.removeprefix("t3_") for name in looked} <= recent - listed
    assert told == [f"reddit:bitcoin: looking again at {len(looked)} posts, in requests: 1"]
    run(recheck=7 * DAY)
    assert LOOKS not in asked(world)


def test_posts_are_counted_ever_less_often(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 60
    run()
    for _ in range(5):
        world.advance(2 * HOUR)
        run()
    counts = lake.scan(REACTIONS).sort("id", "observed_at").collect()
    created = stored(lake).group_by("id").agg(created=pl.col("observed_at").min())
    spaced = (
        counts.join(created, on="id")
        .with_columns(before=pl.col("observed_at").shift().over("id"))
        .drop_nulls("before")
        .with_columns(wait=pl.col("observed_at") - pl.col("before"), age=pl.col("before") - pl.col("created"))
    )
    assert spaced.height > 100
    assert (spaced["wait"] >= spaced["age"] * 0.25).all()
    # At most two hours beyond that, as that is how often it is run.
    assert (spaced["wait"] <= spaced["age"] * 0.25 + 2 * HOUR + MINUTE).all()
    assert (counts["observed_at"] == counts["available_at"]).all()
    assert not counts.join(created, on="id").select(pl.col("observed_at") <= pl.col("created")).to_series().any()


def test_no_second_look_where_none_is_wanted(world: FakeWorld, run: Callable[..., Account]) -> None:
    world.reddit.cap = 250
    run()
    world.advance(DAY)
    run(recheck=timedelta(0))
    assert asked(world) == [LISTING]


def test_ids_that_were_not_asked_for_are_left_alone(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 250
    run()
    world.advance(DAY)
    world.fault(LOOKS, Fault.rewrite(lambda rows: [{**row, "id": "zzz", "title": "another"} for row in rows]), times=-1)
    run(recheck=7 * DAY)
    assert "zzz" not in set(stored(lake)["id"])


def test_a_senseless_stamp_of_the_future_is_flagged_and_taken_once(
    world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    world.reddit.cap = 30
    newest = shown(world)[0]["id"]

    def ahead(rows: list[Any]) -> list[Any]:
        return [{**row, "created_utc": row["created_utc"] + 1e6} if row["id"] == newest else row for row in rows]

    world.fault(LISTING, Fault.rewrite(ahead), times=-1)
    run(recheck=timedelta(0))
    world.advance(HOUR)
    run(recheck=timedelta(0))
    (post,) = stored(lake).filter(pl.col("id") == newest).to_dicts()
    assert post["observed_at"] == post["available_at"] < world.now - HOUR + MINUTE
    assert post["available_at_estimated"]


@pytest.mark.parametrize("stamp", [0, None])
def test_a_stamp_without_sense_ends_no_walk(
    stamp: object, world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    world.reddit.cap = 250
    listed = shown(world)[:250]
    world.fault(LISTING, Fault.nasty("created_utc", stamp, every=3), times=-1)
    run()
    assert len(asked(world)) == 3
    assert ids(listed) - set(stored(lake)["id"]) <= {listed[i]["id"] for i in range(250) if i % 100 % 3 == 0}


def test_rows_that_are_no_posts_wait_in_quarantine_once(
    world: FakeWorld, run: Callable[..., Account], lake: Lake
) -> None:
    world.reddit.cap = 30
    world.fault("/reddit/", Fault.nasty("score", "many", every=10), times=-1)
    account = run(recheck=timedelta(0))
    assert (account.read, account.accepted, account.quarantined) == (60, 57, 3)
    run(recheck=timedelta(0))
    waiting = lake.scan(QUARANTINE).collect()
    assert waiting["reason"].to_list() == ["score: 'many' is not a whole number"] * 3


def test_no_name_of_an_author_is_kept(world: FakeWorld, run: Callable[..., Account], lake: Lake) -> None:
    world.reddit.cap = 100
    world.fault(LISTING, Fault.nasty("score", None, every=10))
    run()
    for table in (POSTS, REACTIONS, QUARANTINE):
        assert "user_" not in lake.scan(table).collect().write_csv()


class Standing(Clock):
    """A clock that stands still, and whose waits take no time."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now

    def now(self) -> datetime:
        return self._now

    def sleep(self, length: timedelta) -> None:
        pass


class Dying(Lake):
    """A lake whose writer is killed before a commit."""

    def __init__(self, root: str | Path, commits: int) -> None:
        super().__init__(root)
        self.commits = commits

    def append(self, *args: Any, **kwargs: Any) -> Appended:
        if self.commits == 0:
            raise SystemExit("killed")
        self.commits -= 1
        return super().append(*args, **kwargs)


def test_a_run_that_is_killed_before_any_of_its_commits_goes_on_from_there(world: FakeWorld, tmp_path: Path) -> None:
    def run(lake: Lake) -> Account:
        clock = Standing(world.now)
        web = Web(clock=clock, retry=Retry(clock), limiter=Limiter(clock), endpoint=world.url)
        client = Client(web, Credentials(client_id="app", client_secret="secret", user_agent="python:tests:1"))
        job = Subreddit(lake, web, client, "bitcoin", recheck=4 * DAY)
        since = NOW - 6 * DAY if world.now > NOW else None
        (account,) = pull(lake, [job], locks=tmp_path / "locks", clock=clock, since=since)
        assert account.error is None, account.error
        return account

    def content(root: Path) -> list[list[tuple[object, ...]]]:
        tables = (POSTS, REACTIONS, QUARANTINE)
        return [sorted(Lake(root).scan(table).collect().rows(), key=str) for table in tables]

    world.reddit.cap = 110
    run(Lake(tmp_path / "before"))
    world.advance(15 * HOUR)
    world.reddit.cap = 160
    world.fault("/reddit/", Fault.nasty("score", None, every=30), times=-1)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    world.log.clear()
    run(Lake(tmp_path / "after"))
    assert asked(world) == [LISTING, LOOKS, LISTING, LISTING]
    truth = content(tmp_path / "after")
    for commits in count():
        shutil.copytree(tmp_path / "before", tmp_path / f"killed-{commits}")
        try:
            run(Dying(tmp_path / f"killed-{commits}", commits))
        except SystemExit:
            run(Lake(tmp_path / f"killed-{commits}"))
            assert content(tmp_path / f"killed-{commits}") == truth
        else:
            break
    assert commits > 8
