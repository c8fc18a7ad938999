"""The audit of a pipeline convicts every planted leak by its right name, with one fact, and nothing that is honest."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.audit.findings import Finding
from backsight_features.audit.pipeline import Pipeline
from backsight_features.audit.pipeline_future import Compute, computing, tables
from backsight_features.audit.pipeline_instants import choose
from backsight_features.audit.pipeline_stored import parity, serving
from backsight_features.audit.pipeline_stored import tables as stored_tables
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.building.identities import kept
from backsight_features.cli import cli
from backsight_features.frames import Frames
from backsight_features.lake import Lake
from backsight_features.schemas import FACTS, REACTIONS
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer
from backsight_features.texts import normalise, text_id
from backsight_features.workspace import Workspace
from click.testing import CliRunner
from deltalake import CommitProperties, DeltaTable, write_deltalake

SERIES = BarSeries.parse("v:BTC-USD:1h")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = pl.col("available_at")
LOOKBACK = 48

bars_row = pl.col("close") / pl.col("close").shift(1)


def in_time(facts: Frames) -> pl.DataFrame:
    """Return the bars that came when they closed, each in its first version: what an honest feature may keep to."""
    bars = facts["bars"].filter(AT - pl.col("observed_at") <= HOUR)
    return bars.sort("available_at", "ingested_at").unique("observed_at", keep="first", maintain_order=True)


def as_of(rows: pl.DataFrame, facts: pl.DataFrame, name: str, by: str = "available_at") -> pl.DataFrame:
    """Return rows with a value of the newest fact by their instant."""
    right = facts.sort(by, name).select(pl.col(by).alias("known"), name)
    return rows.join_asof(right, left_on="available_at", right_on="known").drop("known")


def within(
    rows: pl.DataFrame, facts: pl.DataFrame, value: pl.Expr, name: str, by: str = "available_at"
) -> pl.DataFrame:
    """Return rows with what an aggregate says of the facts of the 24 hours before their instant."""
    pairs = rows.select(at="available_at").join_where(
        facts, pl.col("at") >= pl.col(by), pl.col("at") < pl.col(by).dt.offset_by("24h")
    )
    return rows.join(pairs.group_by("at").agg(value.alias(name)), left_on="available_at", right_on="at", how="left")


def first_posts(facts: Frames) -> pl.DataFrame:
    posts = facts["posts"].sort("available_at", "ingested_at").unique("id", keep="first", maintain_order=True)
    return posts.with_columns(text_id=text_id(normalise(pl.col("text"))))


def judged(facts: Frames, posts: pl.DataFrame) -> pl.DataFrame:
    """Return posts with the first verdict on their body, from when both were known."""
    scores = facts["scores"].sort("available_at", "ingested_at").unique("text_id", keep="first", maintain_order=True)
    told = posts.join(scores.select("text_id", "p_positive", scored_at="available_at"), on="text_id")
    return told.with_columns(available_at=pl.max_horizontal("available_at", "scored_at"))


def newest_vix(facts: Frames) -> pl.DataFrame:
    """Return what was the newest number at each release: no older period wins."""
    vix = facts["macro"].filter(pl.col("series") == "VIXCLS", pl.col("value").is_not_null())
    ordered = vix.sort("available_at", "observed_at")
    return ordered.filter(pl.col("observed_at") >= pl.col("observed_at").cum_max())


def features(facts: Frames) -> pl.DataFrame:
    """Compute six honest features: the repo of somebody else."""
    rows = in_time(facts).select("observed_at", "available_at", "close", "high").sort("available_at")
    rows = rows.with_columns(ret=(pl.col("close") / pl.col("close").shift(1)).log())
    rows = rows.with_columns(vol=pl.col("ret").rolling_std(24))
    posts = first_posts(facts)
    rows = within(rows, posts, pl.col("id").n_unique(), "count")
    rows = within(rows, judged(facts, posts), pl.col("p_positive").sort_by("id").mean(), "sent")
    rows = as_of(rows, newest_vix(facts).with_columns(vix="value"), "vix")
    counts = facts["reactions"].sort("available_at").select("available_at", votes=pl.col("score").cast(pl.Float64))
    rows = as_of(rows, counts, "votes")
    middle = facts["books"].select("available_at", middle=(pl.col("bid") + pl.col("ask")) / 2)
    return as_of(rows, middle, "middle").sort("available_at")


def after(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Compute:
    """Return a leak in the rows themselves."""
    return lambda facts: change(features(facts))


def reading(**changed: Callable[[Frames], pl.DataFrame]) -> Compute:
    """Return a leak in the facts that are read."""
    return lambda facts: features(facts.having(**{name: change(facts) for name, change in changed.items()}))


def column(name: str, value: pl.Expr) -> Compute:
    return after(lambda rows: rows.with_columns(value.alias(name)))


def by_day(name: str, value: pl.Expr) -> Compute:
    return column(name, value.over(pl.col("observed_at").dt.truncate("1d")))


def newest_bars(facts: Frames) -> pl.DataFrame:
    bars = facts["bars"].sort("available_at").unique("observed_at", keep="last", maintain_order=True)
    return bars.with_columns(available_at=pl.col("observed_at") + HOUR / 240)


def last_posts(facts: Frames) -> pl.DataFrame:
    posts = facts["posts"].sort("available_at")
    first = posts.group_by("id").agg(known=AT.min())
    last = posts.unique("id", keep="last", maintain_order=True).join(first, on="id")
    return last.with_columns(available_at="known").drop("known")


def survivors(facts: Frames) -> pl.DataFrame:
    gone = facts["posts"].group_by("id").agg(pl.len()).filter(pl.col("len") > 1)["id"]
    return facts["posts"].filter(~pl.col("id").is_in(gone.implode()))


def same_day(facts: Frames) -> pl.DataFrame:
    posts = judged(facts, first_posts(facts)).with_columns(day=AT.dt.truncate("1d"))
    daily = posts.group_by("day").agg(sent=pl.col("p_positive").sort_by("id").mean())
    rows = features(facts).drop("sent").with_columns(day=AT.dt.truncate("1d"))
    return rows.join(daily, on="day", how="left").sort("available_at")


def share_of_all(facts: Frames) -> pl.DataFrame:
    return features(facts).with_columns(count=pl.col("count") / facts["posts"].height)


def last_repetition(facts: Frames) -> pl.DataFrame:
    """Leave out what is said again later, in place of what had been said before."""
    return facts["posts"].sort("available_at").unique("title", keep="last", maintain_order=True)


def final_votes(facts: Frames) -> pl.DataFrame:
    counts = facts["reactions"].with_columns(score=pl.col("score").sort_by("available_at").last().over("id"))
    return counts


def votes_at_creation(facts: Frames) -> pl.DataFrame:
    return facts["reactions"].with_columns(available_at=AT.min().over("id"))


def revised_vix(facts: Frames) -> pl.DataFrame:
    macro = facts["macro"].sort("available_at")
    over = ("series", "units", "observed_at")
    return macro.with_columns(value=pl.col("value").last().over(over), available_at=AT.first().over(over))


def between_releases(facts: Frames) -> pl.DataFrame:
    vix = newest_vix(facts).sort("available_at").unique("available_at", keep="last", maintain_order=True)
    known = vix.select("available_at", now="value", ahead=pl.col("value").shift(-1), then=AT.shift(-1))
    rows = features(facts).drop("vix").join_asof(known.with_columns(since="available_at"), on="available_at")
    share = (AT - pl.col("since")) / (pl.col("then") - pl.col("since"))
    return rows.with_columns(vix=pl.col("now") + (pl.col("ahead") - pl.col("now")) * share)


def next_book(facts: Frames) -> pl.DataFrame:
    middle = facts["books"].select(pl.col("available_at"), middle=(pl.col("bid") + pl.col("ask")) / 2)
    rows = features(facts).drop("middle")
    return rows.join_asof(middle.sort("available_at"), on="available_at", strategy="forward")


def last_verdict(facts: Frames) -> pl.DataFrame:
    scores = facts["scores"].sort("available_at")
    return scores.with_columns(p_positive=pl.col("p_positive").last().over("text_id"))


def verdict_of_all(facts: Frames) -> pl.DataFrame:
    return facts["scores"].with_columns(pl.col("p_positive") - pl.col("p_positive").mean())


ANY_TEXT = "later-texts, unseen-texts or edited-texts"

LATER: dict[str, tuple[Compute, str, str]] = {
    "back-filled": (column("vol", pl.col("vol").fill_null(strategy="backward")), "vol", "later-bars"),
    "centred window": (column("vol", pl.col("ret").rolling_std(24, center=True)), "vol", "later-bars"),
    "next bar's return": (column("ret", pl.col("ret").shift(-1)), "ret", "later-bars"),
    "target among the features": (column("ret", pl.col("ret").rolling_sum(6).shift(-6)), "ret", "later-bars"),
    "standardised on everything": (
        column("ret", (pl.col("ret") - pl.col("ret").mean()) / pl.col("ret").std()),
        "ret",
        "later-bars",
    ),
    "scaled to the range of everything": (
        column("close", pl.col("close") / pl.col("close").max()),
        "close",
        "later-bars",
    ),
    "ranks among everything": (column("ret", pl.col("ret").rank() / pl.len()), "ret", "later-bars"),
    "clipped at quantiles of everything": (
        column("ret", pl.col("ret").clip(pl.col("ret").quantile(0.2), pl.col("ret").quantile(0.8))),
        "ret",
        "later-bars",
    ),
    "interpolated over gaps": (
        column("vix", pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.col("close")).interpolate()),
        "vix",
        "later-bars",
    ),
    "smoothed from both sides": (
        column("ret", pl.col("ret").fill_null(0).reverse().ewm_mean(span=5).reverse()),
        "ret",
        "later-bars",
    ),
    "mean of the day": (by_day("close", pl.col("close").mean()), "close", "later-bars"),
    "high of the day": (by_day("high", pl.col("high").max()), "high", "later-bars"),
    "close of the day": (by_day("close", pl.col("close").last()), "close", "later-bars"),
    "rows with a label only": (
        after(lambda rows: rows.filter(pl.col("ret").shift(-3).is_not_null())),
        "rows",
        "later-bars",
    ),
    "bars stamped with their open": (
        reading(bars=lambda facts: facts["bars"].with_columns(AT - HOUR)),
        "ret",
        "later-bars",
    ),
    "corrections known from the start": (reading(bars=newest_bars), "ret", "late-bars"),
    "same-day sentiment": (same_day, "sent", "later-texts"),
    "texts known when said": (
        reading(posts=lambda facts: facts["posts"].with_columns(available_at="observed_at")),
        "count",
        "unseen-texts",
    ),
    "edits known from the start": (reading(posts=last_posts), "sent", "edited-texts"),
    "posts that were never edited or removed": (reading(posts=survivors), "count", "edited-texts"),
    "share of all posts": (share_of_all, "count", ANY_TEXT),
    "last of the same words": (reading(posts=last_repetition), "count", ANY_TEXT),
    "last verdict": (reading(scores=last_verdict), "sent", "later-scores"),
    "verdicts centred on everything": (reading(scores=verdict_of_all), "sent", "later-scores"),
    "final votes": (reading(reactions=final_votes), "votes", "later-reactions"),
    "votes at creation": (reading(reactions=votes_at_creation), "votes", "later-reactions"),
    "macro at its period": (
        reading(macro=lambda facts: facts["macro"].with_columns(available_at="observed_at")),
        "vix",
        "unreleased-macro",
    ),
    "macro from the first minute of its day": (
        reading(macro=lambda facts: facts["macro"].with_columns(AT.dt.truncate("1d"))),
        "vix",
        "unreleased-macro",
    ),
    "macro revised from the start": (reading(macro=revised_vix), "vix", "revised-macro"),
    "macro drawn out between releases": (between_releases, "vix", "unreleased-macro"),
    "next order book": (next_book, "middle", "later-books"),
}
"""Name of the leak: the computation, the feature that shows it, and the check that convicts."""

TWICE: dict[str, tuple[Compute, str, str]] = {
    "mean of all bars so far": (
        column("close", pl.col("close").cum_sum() / pl.int_range(1, pl.len() + 1)),
        "close",
        "slice",
    ),
    "sum from the beginning": (column("ret", pl.col("ret").cum_sum()), "ret", "slice"),
    "number of the row": (column("ret", pl.int_range(pl.len()).cast(pl.Float64)), "ret", "slice"),
    "whatever comes last": (
        lambda facts: features(facts).with_columns(votes=pl.lit(facts["reactions"]["score"][-1])),
        "votes",
        "order",
    ),
    "rows counted and not posts": (
        lambda facts: within(features(facts).drop("count"), facts["posts"], pl.len().cast(pl.Int64), "count").sort(
            "available_at"
        ),
        "count",
        "duplicates",
    ),
}


def world_with_votes(world: Callable, rows_of: Callable, seed: int) -> Frames:
    """Return a world with votes, a second verdict on some texts, and posts that repeat each other's title."""
    facts = dict(world(seed, hours=300))
    random = np.random.default_rng(seed)
    posts = facts["posts"].unique("id", keep="first", maintain_order=True)
    parts = []
    for hours in (1, 6, 48):
        counted = posts["available_at"].dt.epoch("us") + hours * 3_600_000_000
        parts.append(
            rows_of(
                REACTIONS,
                {
                    "site": posts["site"],
                    "channel": posts["channel"],
                    "id": posts["id"],
                    "score": random.integers(1, 1000, posts.height),
                    "comments": random.integers(1, 100, posts.height),
                    "observed_at": counted,
                    "available_at": counted,
                },
            )
        )
    later = (
        facts["scores"]
        .sample(60, seed=seed)
        .with_columns(AT + 30 * HOUR, p_positive="p_negative", ingested_at=AT + 30 * HOUR)
    )
    vix = facts["macro"].filter(pl.col("series") == "VIXCLS")
    revised = vix.with_columns(pl.col("value") + 1.5, AT + 20 * HOUR, ingested_at=AT + 20 * HOUR)
    return Frames(
        {
            **facts,
            "reactions": pl.concat(parts),
            "scores": pl.concat([facts["scores"], later]),
            "macro": pl.concat([facts["macro"], revised]),
        }
    )


@pytest.fixture(scope="module")
def facts(world: Callable, rows_of: Callable) -> Frames:
    return world_with_votes(world, rows_of, 0)


def pipeline(facts: Frames, compute: Compute) -> Pipeline:
    return Pipeline(facts=facts, series=SERIES, compute=compute, lookback=LOOKBACK)


def until(findings: Iterator[Finding], name: str, check: str) -> list[Finding]:
    """Return the findings up to the one that is looked for."""
    found = []
    for finding in findings:
        found.append(finding)
        if finding.name == name and finding.check in check:
            break
    return found


def test_there_are_enough_leaks() -> None:
    assert len(LATER) + len(TWICE) >= 30


@pytest.mark.parametrize("leak", LATER)
def test_a_leak_is_convicted_by_its_name_with_one_fact(leak: str, facts: Frames) -> None:
    compute, feature, check = LATER[leak]
    instants = choose(facts, SERIES, most=40).at
    found = until(pipeline(facts, compute).futures(instants), feature, check)
    assert found, "convicted of nothing"
    convicted = found[-1]
    assert convicted.name == feature, found
    assert convicted.check in check, found
    assert convicted.rows == 1
    assert convicted.instant is not None


@pytest.mark.parametrize("leak", TWICE)
def test_what_depends_on_the_slice_or_on_how_facts_lie_is_convicted(leak: str, facts: Frames) -> None:
    compute, feature, check = TWICE[leak]
    instants = choose(facts, SERIES, most=40).at[20:22]
    own = pipeline(facts, compute)
    found = list(own.slices(instants) if check == "slice" else own.repeats(instants))
    assert (feature, check, "error") in {(one.name, one.check, one.severity) for one in found}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 6))])
def test_honest_features_are_not_convicted(seed: int, world: Callable, rows_of: Callable) -> None:
    own = pipeline(world_with_votes(world, rows_of, seed), features)
    instants = choose(own.facts, SERIES, most=40)
    assert len(instants.at) == 40
    assert "edges of gaps" in instants.said
    assert list(own.futures(instants.at if seed else instants.at[::5])) == []
    # A running sum of polars carries its rounding along.
    rounding = list(own.slices(instants.at[20:22]))
    assert {(one.name, one.severity) for one in rounding} <= {("vol", "warning")}
    assert list(own.repeats(instants.at[20:21])) == []
    assert list(own.clocks()) == []


SCORER = Scorer(name="lexicon", revision="1")
OWN = computing(SERIES, SCORER)


def changed(facts: Frames, name: str, **columns: pl.Expr | str) -> Frames:
    return facts.having(**{name: facts[name].with_columns(**columns)})


PRODUCT: dict[str, tuple[Compute, str, str]] = {
    "back-filled": (
        lambda facts: OWN(facts).with_columns(pl.all().fill_null(strategy="backward")),
        "rsi_14",
        "later-bars",
    ),
    "stamped with the open": (
        lambda facts: OWN(changed(facts, "bars", available_at=AT - HOUR)),
        "ret_log_1h",
        "later-bars",
    ),
    "macro at its period": (
        lambda facts: OWN(changed(facts, "macro", available_at=pl.col("observed_at"))),
        "vixcls_level",
        "unreleased-macro",
    ),
    "texts when said": (
        lambda facts: OWN(changed(facts, "news", available_at=pl.col("observed_at"))),
        "news_count_24h",
        "unseen-texts",
    ),
}


@pytest.mark.prove
@pytest.mark.parametrize("leak", PRODUCT)
def test_a_leak_in_our_own_features_is_convicted(leak: str, facts: Frames) -> None:
    compute, feature, check = PRODUCT[leak]
    own = replace(pipeline(facts, compute), lookback=None, where=tables(SERIES))
    found = until(own.futures(choose(facts, SERIES, most=40).at), feature, check)
    assert found[-1].name == feature
    assert found[-1].check in check
    assert found[-1].where.endswith("_1h of BTC-USD")


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(2))
def test_our_own_features_are_not_convicted(seed: int, world: Callable, rows_of: Callable) -> None:
    facts = world_with_votes(world, rows_of, seed)
    own = replace(pipeline(facts, OWN), lookback=None, where=tables(SERIES))
    instants = choose(facts, SERIES, most=60).at
    assert list(own.futures(instants)) == []
    assert list(replace(own, lookback=100).repeats(instants[20:24])) == []


def with_dates(facts: Frames) -> Frames:
    day = pl.col("observed_at").dt.truncate("1d")
    stamps = {"observed_at": day, "available_at": day + HOUR, "ingested_at": day + HOUR}
    return changed(facts, "news", **stamps, available_at_estimated=pl.lit(True))


def with_daily_bars(facts: Frames) -> Frames:
    """Add bars of four hours, as another source stamps them: with their close."""
    own = facts["bars"].sort("available_at").unique("observed_at", keep="first", maintain_order=True)
    longer = own.filter(pl.col("observed_at").dt.hour() % 4 == 0).with_columns(timeframe=pl.lit("4h"))
    stamped = facts["bars"].with_columns(pl.col("observed_at") - HOUR)
    return facts.having(bars=pl.concat([stamped, longer]))


def with_books(facts: Frames) -> Frames:
    """Make the order books those of the market whose bars there are, and stamp the bars with their open."""
    close = facts["bars"].sort("available_at").unique("observed_at", keep="first").select("observed_at", "close")
    books = (
        facts["books"]
        .join(close, on="observed_at")
        .with_columns(bid=pl.col("close") * 0.9999, ask=pl.col("close") * 1.0001)
    )
    return changed(facts.having(books=books.drop("close")), "bars", observed_at=pl.col("observed_at") - HOUR)


CLOCKS: dict[str, tuple[Callable[[Frames], Frames], str, str]] = {
    "bars known an hour before": (
        lambda facts: changed(facts, "bars", available_at=pl.col("observed_at") - HOUR, ingested_at="observed_at"),
        "test",
        "known-before-it-happened",
    ),
    "a post seen before it was written": (
        lambda facts: changed(facts, "posts", available_at=pl.col("observed_at") - timedelta(microseconds=1)),
        "test",
        "known-before-it-happened",
    ),
    "dates taken for instants": (with_dates, "test", "date-only"),
    "macro known as its period begins": (
        lambda facts: changed(facts, "macro", available_at=pl.col("observed_at")),
        "test",
        "unreleased-macro",
    ),
    "a backfill that claims to have been there": (
        lambda facts: changed(facts, "posts", source=pl.lit("pull:reddit"), ingested_at=pl.lit(NOW)),
        "pull:reddit",
        "backfilled",
    ),
    "bars stamped with their open, beside longer ones": (with_daily_bars, "v:BTC-USD:1h", "bars-at-open"),
    "bars stamped with their open, beside order books": (with_books, "v:BTC-USD:1h", "bars-at-open"),
}


@pytest.mark.parametrize("wrong", CLOCKS)
def test_a_clock_that_cannot_be_right_is_convicted(wrong: str, facts: Frames) -> None:
    broken, name, check = CLOCKS[wrong]
    found = list(pipeline(broken(facts), features).clocks())
    assert (name, check) in {(one.name, one.check) for one in found}, found
    assert {one.check for one in found} == {check}
    assert all(one.datum and one.said and one.right for one in found)


def test_clocks_that_are_right_beside_others_are_not(facts: Frames) -> None:
    with_longer = with_daily_bars(facts)
    longer = with_longer["bars"].filter(pl.col("timeframe") == "4h")
    right = facts.having(bars=pl.concat([facts["bars"], longer]))
    assert list(pipeline(right, features).clocks()) == []
    # A feed with dates only whose articles were sighted, and an archive of what was sighted once.
    sighted = changed(with_dates(facts), "news", available_at_estimated=pl.lit(False))
    assert list(pipeline(sighted, features).clocks()) == []
    archive = changed(facts, "news", source=pl.lit("pull:gdelt-doc"), ingested_at=pl.lit(NOW))
    assert {one.severity for one in pipeline(archive, features).clocks()} == {"warning"}
    dump = changed(facts, "posts", source=pl.lit("dump:reddit-first-seen"), ingested_at=pl.lit(NOW))
    assert list(pipeline(dump, features).clocks()) == []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, world: Callable) -> Path:
    """Return a home with features, beside a feature repo."""
    root = tmp_path_factory.mktemp("audited")
    lake = Lake(root / "lake")
    for name, frame in world(0, hours=200).items():
        lake.append(FACTS[name], frame.drop("ingested_at").with_columns(source=pl.lit("dump:test")), now=NOW)
    build(Snapshot.take(lake), root / "features", [SERIES])
    return root


REPO = Path(__file__).resolve().parents[3] / "feature_repo"


def files(home: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}


def stored(home: Path, instants: list[datetime]) -> list[Finding]:
    facts = Snapshot.take(Lake(home / "lake"))
    return list(stored_tables(facts, kept(facts, home / "features"), home / "features", SERIES, SCORER, instants))


def test_tables_and_windows_as_they_are_are_not_convicted_and_nothing_is_changed(home: Path, tmp_path: Path) -> None:
    before = files(home)
    instants = [datetime(2021, 3, 5, 12, tzinfo=UTC), datetime(2021, 3, 7, 3, 30, tzinfo=UTC)]
    assert stored(home, instants) == []
    served = serving(REPO, Workspace(root=home), tmp_path, "forecast_1h", "BTC-USD")
    assert list(parity(served, "forecast_1h", "BTC-USD", instants)) == []
    assert files(home) == before

    def shifted(at: datetime) -> Any:
        """Serve the window of an hour before under the stamp of now."""
        return replace(served.online(at), values=served.offline(at - HOUR).gather()[0])

    found = list(parity(replace(served, online=shifted), "forecast_1h", "BTC-USD", instants[1:]))
    assert "ret_log_1h" in {one.name for one in found}
    assert {(one.check, one.instant) for one in found} == {("online", instants[1])}


def test_a_table_that_knew_a_correction_too_early_is_convicted_with_the_fact(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "home"
    shutil.copytree(home, broken)
    path = str(broken / "features" / "market_1h")
    bars = pl.read_delta(str(broken / "lake" / "bars")).sort("available_at")
    late = bars.filter(pl.col("observed_at").is_duplicated()).sort("available_at")[-1]
    # The row of the corrected close, as if the correction had been known at once.
    rows = pl.read_delta(path)
    first = rows.filter(pl.col("observed_at") == late["observed_at"].item()).sort("available_at")["available_at"][0]
    right = pl.lit(float(np.log(late["high"].item() / late["low"].item())), pl.Float32)
    rows = rows.with_columns(range_1h=pl.when(AT.eq(first)).then(right).otherwise("range_1h"))
    told = DeltaTable(path).history(1)[0]["backsight.built"]
    write_deltalake(
        path, rows, mode="overwrite", commit_properties=CommitProperties(custom_metadata={"backsight.built": told})
    )
    [finding] = stored(broken, [first])
    assert (finding.check, finding.name, finding.instant) == ("stored", "range_1h", first)
    assert "first of them bars: venue v" in finding.datum


@pytest.mark.prove
def test_the_verb_and_the_fixture_on_a_whole_home(home: Path, backsight_audit: Any) -> None:
    before = files(home)
    done = CliRunner().invoke(cli, ["--home", str(home), "audit", "pipeline", "--repo", str(REPO), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["findings"] == []
    assert not any(one["skipped"] for one in document["looked_for"])
    assert backsight_audit.pipeline(home, REPO, most=40).errors == ()
    assert files(home) == before
