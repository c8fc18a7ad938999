"""Three days without a source, or without the online store, in the life of the loop: what is said meanwhile, and that
nothing of it is left when it is over."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.bars import BarSeries
from backsight_features.cli import cli
from backsight_features.errors import BacksightError, SourceError, Stale
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, REACTIONS, RUNS, SCORES, Table
from backsight_features.snapshot import Snapshot
from backsight_features.store import Store
from backsight_features.workspace import Workspace
from backsight_ingest.gaps import KEEPERS
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.job import Job
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.scoring import models
from backsight_ingest.scoring.engine import score
from backsight_ingest.scoring.scorer import Scorer
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_markets import market
from backsight_ingest.sources.fred import Fred
from backsight_ingest.sources.macro import Macro
from backsight_ingest.sources.news_gdelt import Gdelt
from backsight_ingest.sources.news_search import Search
from backsight_ingest.sources.prices import Prices
from backsight_ingest.sources.reddit import Subreddit
from backsight_ingest.sources.reddit_client import Client, Credentials
from backsight_ingest.status import Status, survey
from backsight_model import bundle
from backsight_model.live.loop import Outcome, Round, rounds
from backsight_model.live.plan import LivePlan, Step, read
from backsight_model.training import collect
from click.testing import CliRunner

pytestmark = pytest.mark.slow

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BTC: Final = "binance:BTC-USDT:1h"
ROOT = Path(__file__).resolve().parents[2]
TEXT: Final = """
bars = ["binance:BTC-USDT:1h"]
service = "forecast_1h"
length = 12
pull = {}
scorer = "sentfin-tiny-bert"
repo = "{}"
"""
REDDIT: Final = {"REDDIT_CLIENT_ID": "an-id-of-an-app", "REDDIT_CLIENT_SECRET": "a-secret-of-an-app"}
PLACES: Final = {"prices": "/binance/", "reddit": "/reddit/", "news": "/gdelt/", "macro": "/fred/"}
STORE: Final = "online store"
AGES: Final = {"reddit": ("reddit_age_h", 70), "news": ("news_age_h", 70), "macro": ("dgs10_age_d", 2.5)}
"""The sources without which forecasts go on: by which feature they know how old their news is, and how old at least."""
LATE: Final = {"reddit": ("posts", "reactions", "scores"), "news": ("news", "scores")}
"""What is known from when it was first seen. Of bars and numbers a rule or the publisher says when they were known."""
GONE, BACK, END = NOW + DAY / 2, NOW + DAY / 2 + 3 * DAY, NOW + DAY / 2 + 4 * DAY


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What is pulled in a round, and how far apart rounds are.

    Parameters
    ----------
    sources : tuple of str
    every : timedelta
    """

    sources: tuple[str, ...]
    every: timedelta


QUICK = Pace(sources=("prices",), every=DAY)
WHOLE = Pace(sources=tuple(PLACES), every=8 * HOUR)


class WorldClock(Clock):
    """The clock of the world; to wait takes no time in either."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__()
        self._world, self._waited = world, timedelta(0)

    def now(self) -> datetime:
        return self._world.now

    def elapsed(self) -> timedelta:
        return super().elapsed() + self._waited

    def sleep(self, length: timedelta) -> None:
        self._waited += length


@dataclass
class Life:
    """A home in which the live loop runs on a made-up world, hours apart.

    Parameters
    ----------
    home : Workspace
    world : FakeWorld
    repo : Path
    pace : Pace
    only_facts : bool
        Whether to leave out all that comes after the facts.
    """

    home: Workspace
    world: FakeWorld
    repo: Path
    pace: Pace
    only_facts: bool = False

    @cached_property
    def lake(self) -> Lake:
        return Lake(self.home.lake)

    def live(self, until: datetime) -> list[Round]:
        """Go through the rounds up to an instant, where the world then stands."""

        def wait(seconds: float) -> bool:
            due = self.world.now + timedelta(seconds=seconds)
            self.world.now = min(due, until)
            return seconds > 0 and due > until

        made = rounds(self.plan, self.home, clock=lambda: self.world.now, wait=wait, perform=self.perform)
        return list(made)

    def begin(self, straight_bundle: Callable[..., Path]) -> None:
        """Pull for the first time, and put a model into use."""
        for source in self.pace.sources:
            self.pulled(source)
        self.verb("build", "--bars", BTC)
        self.verb("apply", "--repo", str(self.repo))
        facts, series = Snapshot.take(self.lake), [BarSeries.parse(BTC)]
        data = collect(Store(self.repo, self.home), facts, series, service="forecast_1h", length=12, horizon=24)
        bundle.promote(self.home.models, straight_bundle(self.home.models, data, "BTC-USDT"))

    def newest(self, feature: str) -> float:
        """Return the newest value of a feature that is online."""
        window = Store(self.repo, self.home).online("forecast_1h", "BTC-USDT", at=self.world.now)
        return float(window.values[-1, window.features.index(feature)])

    @cached_property
    def plan(self) -> LivePlan:
        path = self.home.root / "live.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT.format(json.dumps(self.pace.sources), self.repo))
        plan = read(path)
        # `watch` tells the time by itself.
        return replace(
            plan, timeframe=self.pace.every, looks=tuple(step for step in plan.looks if step.name == "status")
        )

    def perform(self, step: Step) -> Outcome:
        """Run a step as of the world's time."""
        verb, document = step.arguments[0], None
        try:
            if verb == "pull":
                document = self.pulled(step.arguments[1])
            elif verb == "score":
                score(self.lake, shipped(), now=self.world.now)
            elif verb == "status":
                document = [one.state for one in self.status()]
            elif not self.only_facts:
                document = self.verb(*step.arguments)
        except BacksightError as error:
            return Outcome(name=step.name, code=error.exit_code, failed=True, said=str(error), document=None)
        return Outcome(name=step.name, code=0, failed=False, said="", document=document)

    def pulled(self, source: str) -> int:
        """Pull from one source, as a process that begins anew; return how many facts are new."""
        clock = WorldClock(self.world)
        web = Web(clock=clock, retry=Retry(clock), limiter=Limiter(clock), endpoint=self.world.url)
        locks = self.home.root / "locks"
        [account] = pull(self.lake, [self.job(source, web)], locks=locks, clock=clock)
        if account.error is not None:
            raise account.error
        return account.accepted

    def job(self, source: str, web: Web) -> Job:
        if source == "prices":
            return Prices(Exchange("binance", web), market("binance", "BTC/USDT"), "1h")
        if source == "reddit":
            client = Client(web, Credentials.read(REDDIT))
            return Subreddit(self.lake, web, client, "bitcoin", recheck=2 * DAY)
        if source == "news":
            return Search(web, Gdelt(web), "bitcoin OR ethereum OR fed OR binance OR miners OR etf OR crypto")
        return Macro("DGS10", Fred("k" * 32, web), self.lake, web.clock, cadence=DAY)

    def verb(self, *arguments: str) -> Any:
        """Run a verb of the command line in this process."""
        at = ["--at", self.world.now.isoformat()] if arguments[0] in ("publish", "forecast") else []
        with chdir(ROOT):
            done = CliRunner().invoke(cli, ["--home", str(self.home.root), *arguments, *at, "--json"])
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    def status(self) -> list[Status]:
        return survey(self.lake, now=self.world.now, every=self.pace.every)


@cache
def shipped() -> Scorer:
    return models.shipped()


@contextmanager
def living(folder: Path, repo: Path, pace: Pace, *, only_facts: bool = False) -> Iterator[Life]:
    with FakeWorld(seed=7, now=NOW) as world:
        yield Life(Workspace(root=folder), world, repo, pace, only_facts)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Pace], Life]:
    """Return a function that lives without an outage; of that, only the facts are there."""

    @cache
    def live(pace: Pace) -> Life:
        with living(tmp_path_factory.mktemp("whole"), ROOT, pace, only_facts=True) as life:
            for until in (GONE, BACK, END):
                life.live(until)
        return life

    return live


def on_redis(folder: Path, where: str) -> Path:
    """Return a feature repo whose online store is a Redis."""
    repo = Path(shutil.copytree(ROOT / "feature_repo", folder / "feature_repo"))
    config = (repo / "feature_store.yaml").read_text()
    head, _, _ = config.partition("online_store:")
    (repo / "feature_store.yaml").write_text(f"{head}online_store:\n  type: redis\n  connection_string: {where}\n")
    return repo


def step(done: Round, name: str) -> Outcome:
    """Return what became of a step."""
    return next(one for one in done.outcomes if one.name.startswith(name))


def forecasts(done: Round) -> list[Any]:
    made: list[Any] = done.to_json()["forecasts"]
    return made


def content(lake: Lake, table: Table) -> pl.DataFrame:
    return lake.scan(table).drop("ingested_at").sort(pl.all()).collect()


def walked(life: Life) -> dict[str, Any]:
    """Return of each job what it has asked for, and what of that is not there."""
    found = {}
    for one in life.status():
        seen = coverage.read(life.lake, one.job, KEEPERS[one.job.partition(":")[0]])
        found[one.job] = (seen.begun, seen.reached, [(each.span, each.status) for each in seen.stretches])
    return found


def caught_up(table: Table, whole: pl.DataFrame, late: pl.DataFrame) -> None:
    """Hold facts of which some were seen late against those of a life in which all were seen at once.

    What was known before the outage is the same. Of what came in it nothing is lost but versions that were replaced
    before anybody looked, and nothing counts as known before it was seen.
    """
    before, meanwhile = pl.col("available_at") < GONE, pl.col("available_at").is_between(GONE, BACK, closed="left")
    assert late.filter(before).equals(whole.filter(before))
    # What a scorer says of a text depends in the last bits on the texts beside it.
    says = [*table.key] if table is SCORES else [*table.key, *table.content]
    assert late.filter(meanwhile).join(whole, on=[*says, "available_at"], how="anti", nulls_equal=True).is_empty()
    if table is REACTIONS:
        # Every look is a fact of its own.
        assert set(late["id"]) == set(whole["id"])
        return
    missed = whole.join(late, on=says, how="anti", nulls_equal=True)
    assert missed.filter(~meanwhile).is_empty()
    assert table is SCORES or missed.join(late, on=table.key, how="anti").is_empty()
    both = whole.join(late, on=says, how="inner", nulls_equal=True)
    assert (both["available_at_right"] >= both["available_at"]).all()
    if table is SCORES:
        assert ((both["p_positive"] - both["p_positive_right"]).abs() < 1e-6).all()
    assert not late.select(*says, "available_at").is_duplicated().any()


@pytest.mark.parametrize(
    ("source", "pace"),
    [
        pytest.param("prices", QUICK, id="prices, quick"),
        *[pytest.param(source, WHOLE, id=source, marks=pytest.mark.prove) for source in (*PLACES, STORE)],
    ],
)
def test_after_three_days_without_a_source_all_is_as_if_it_had_been_there(
    source: str,
    pace: Pace,
    undisturbed: Callable[[Pace], Life],
    straight_bundle: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    redis = request.getfixturevalue("own_redis") if source == STORE else None
    repo = ROOT / "feature_repo" if redis is None else on_redis(tmp_path, redis.where)
    with living(tmp_path / "home", repo, pace) as life:
        life.begin(straight_bundle)
        assert {len(forecasts(done)) for done in life.live(GONE)} == {1}

        if redis is None:
            life.world.fault(PLACES[source], Fault.server_error(503), times=-1)
        else:
            redis.go()
        during = life.live(BACK)
        away = [step(done, "publish" if source == STORE else f"pull {source}") for done in during]
        if source == "prices":
            assert (away.pop(0).code, len(forecasts(during.pop(0)))) == (0, 1), "no bar has closed since"
            refused = step(during[-1], "forecast")
            assert refused.code == Stale.exit_code
            assert "its newest bar closed at 2024-05-18T00:00:00Z, 3 days, 0:00:20 before" in refused.said
        assert {one.code for one in away} == {SourceError.exit_code}
        assert all(("Redis at" if source == STORE else "status 503") in one.said for one in away)
        assert [len(forecasts(done)) for done in during] == [int(source in AGES)] * len(during)
        if source in AGES:
            feature, least = AGES[source]
            assert life.newest(feature) > least, "what the model is told, and who asks for the features"
        if source != STORE:
            worst = life.status()[0]
            assert (worst.job.partition(":")[0], worst.state) == (source, "failed")
            assert "status 503" in worst.runs[0].error
            assert worst.behind is not None
            assert worst.behind > 2.9 * DAY

        life.world.clear()
        if redis is not None:
            redis.come()
        after = life.live(END)
        assert {(done.code, len(forecasts(done))) for done in after} == {(0, 1)}
        assert forecasts(after[0])[0]["observed_at"] == "2024-05-21T00:00:00+00:00"

    whole = undisturbed(pace)
    for name, table in FACTS.items():
        expected, found = content(whole.lake, table), content(life.lake, table)
        if name in LATE.get(source, ()):
            caught_up(table, expected, found)
        else:
            assert found.equals(expected), name
    assert walked(life) == walked(whole)
    runs = life.lake.scan(RUNS).collect()
    assert (runs["read"] == runs["accepted"] + runs["duplicate"] + runs["quarantined"]).all()
