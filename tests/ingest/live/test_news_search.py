"""A search is walked without losing an article: what is full is asked for in parts, what is out of reach is told."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us, to_us
from backsight_features.errors import BacksightError, BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import COVERAGE, NEWS, QUARANTINE
from backsight_features.spans import Span
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.job import Page
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news_gdelt import Gdelt
from backsight_ingest.sources.news_newsapi import NewsApi
from backsight_ingest.sources.news_search import Search

NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)
KEY = "0123456789abcdef"
EVERYTHING = "bitcoin OR ethereum OR fed OR binance OR miners OR etf OR crypto"
ARCHIVES = ("newsapi", "gdelt")

Run = Callable[..., Account]


def search(web: Web, archive: str, query: str = EVERYTHING) -> Search:
    return Search(web, NewsApi(web, {"NEWSAPI_KEY": KEY}) if archive == "newsapi" else Gdelt(web), query)


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Return a way to the world that is patient: nothing hangs here, and the machine may be busy."""
    return make_web(idle=timedelta(seconds=10), total=timedelta(seconds=20))


@pytest.fixture
def run(web: Web, clock: Clock, lake: Lake, tmp_path: Path) -> Run:
    """Return what runs a search once."""

    def run(archive: str, query: str = EVERYTHING, **bounds: datetime) -> Account:
        (account,) = pull(lake, [search(web, archive, query)], locks=tmp_path / "locks", clock=clock, **bounds)
        assert account.read == account.accepted + account.duplicate + account.quarantined
        return account

    return run


@pytest.fixture
def answers(world: FakeWorld) -> Callable[..., None]:
    """Return what lets the next requests be answered by these documents."""

    def answers(archive: str, *documents: object, status: int = 200) -> None:
        world.fault(f"/{archive}/", *(Fault.in_band(document, status=status) for document in documents))

    return answers


def stored(lake: Lake) -> pl.DataFrame:
    return lake.scan(NEWS).sort("available_at", "observed_at", "id").collect()


QUARTER = timedelta(minutes=15)


def truth(world: FakeWorld, archive: str, since: datetime, until: datetime) -> dict[str, datetime]:
    """Return the addresses of what is stamped within [since, until), and the stamps."""
    stories = world.news.truth(since - QUARTER, until)
    begun = datetime(1970, 1, 1, tzinfo=UTC)
    stamps = {
        story.url.partition("?utm")[0]: story.published
        if archive == "newsapi"
        else begun + ((story.published - begun) // QUARTER + 1) * QUARTER
        for story in stories
    }
    return {url: stamp for url, stamp in stamps.items() if since <= stamp < until}


# ------------------------------------------------------------------------------------------------ what is found


@pytest.mark.parametrize("archive", ARCHIVES)
def test_what_is_new_is_known_from_when_it_was_seen(archive: str, world: FakeWorld, run: Run, lake: Lake) -> None:
    assert run(archive).error is None
    first = world.now
    world.advance(timedelta(hours=30))
    account = run(archive)
    assert account.error is None
    assert account.duplicate > 0, "what was there before is asked for once more"
    found = stored(lake)
    overlap = timedelta(hours=26 if archive == "newsapi" else 2)
    assert set(found["url"]) == truth(world, archive, NOW - overlap, world.now).keys()
    assert found["id"].n_unique() == found.height
    late = found.filter(pl.col("available_at") > first)
    assert late.select((pl.col("available_at") >= first + timedelta(hours=30)).all()).item()
    assert not found["available_at_estimated"].any()


@pytest.mark.parametrize("archive", ARCHIVES)
def test_the_past_is_filled_in_whole_and_known_by_rule(archive: str, world: FakeWorld, run: Run, lake: Lake) -> None:
    since = NOW - timedelta(days=12)
    assert run(archive, since=since).error is None
    asked = len(world.log)
    found = stored(lake)
    stamps = truth(world, archive, since, NOW)
    assert len(stamps) > 700, "more than seven answers of NewsAPI hold, and two of GDELT"
    assert set(found["url"]) == stamps.keys()
    begun = coverage.read(lake, f"news:{archive}:{EVERYTHING}", NEWS).begun
    assert begun is not None
    past = found.filter(pl.col("observed_at") < from_us(begun))
    assert past["observed_at"].to_list() == [stamps[url] for url in past["url"]]
    lag = timedelta(hours=1 if archive == "newsapi" else 0)
    assert (past["available_at"] == past["observed_at"] + lag).all()
    assert past["available_at_estimated"].all() == (archive == "newsapi")
    again = run(archive, since=since)
    assert (again.error, again.accepted) == (None, 0)
    assert len(world.log) == asked + 1, "only what is new is asked for again"


def test_parts_meet_and_none_is_asked_for_twice(web: Web, world: FakeWorld) -> None:
    job = search(web, "newsapi")
    span = Span(to_us(NOW - timedelta(days=12)), to_us(NOW))
    pages = list(job.walk(span))
    assert [page.span.start for page in pages[1:]] == [page.span.stop for page in pages[:-1]]
    assert (pages[0].span.start, pages[-1].span.stop) == span
    found = pl.concat(page.records["newsapi"] for page in pages)
    assert found.height == found["url"].n_unique() == len(world.news.truth(NOW - timedelta(days=12), NOW))
    assert len(world.log) < 2 * found.height / 100 + 10


def test_a_run_that_ends_early_asks_only_for_the_rest(world: FakeWorld, run: Run, lake: Lake) -> None:
    archive = "gdelt"
    since = NOW - timedelta(days=12)
    world.fault(f"/{archive}/", Fault.in_band([]), times=-1, skip=3)
    assert isinstance(run(archive, since=since).error, BacksightError)
    kept = stored(lake).height
    assert kept > 0
    world.clear()
    account = run(archive, since=since)
    assert account.error is None
    assert set(stored(lake)["url"]) >= truth(world, archive, since, NOW).keys()
    assert account.read < stored(lake).height


def test_until_ends_the_walk_and_the_gap_is_asked_for_later(world: FakeWorld, run: Run, lake: Lake) -> None:
    week, day = NOW - timedelta(days=7), NOW - timedelta(days=6)
    assert run("newsapi", since=week, until=day).error is None
    assert set(stored(lake)["url"]) == truth(world, "newsapi", week, day).keys()
    assert run("newsapi", since=week).error is None
    assert set(stored(lake)["url"]) >= truth(world, "newsapi", week, NOW).keys()


# ------------------------------------------------------------------------------------------------ what is not there


def article(i: int, at: str = "2024-05-17T10:00:00Z") -> dict[str, object]:
    return {
        "source": {"id": None, "name": "Wire"},
        "title": f"Title {i}",
        "url": f"https://example.com/{i}",
        "publishedAt": at,
    }


def test_more_articles_of_one_second_than_are_given_are_told(web: Web, world: FakeWorld) -> None:
    document = {"status": "ok", "totalResults": 130, "articles": [article(i) for i in range(100)]}
    world.fault("/newsapi/", Fault.in_band(document), times=-1)
    (page,) = search(web, "newsapi").walk(Span(to_us(NOW), to_us(NOW) + 1_000_000))
    (hole,) = page.holes
    assert hole.reason == "NewsAPI gives 100 of the 130 articles of one second; search for more words"
    assert (hole.span, hole.again) == (page.span, False)
    assert page.records["newsapi"].height == 100


def test_more_articles_of_one_quarter_of_an_hour_than_are_given_are_told(web: Web, world: FakeWorld) -> None:
    seen = {"seendate": "20240517T101500Z", "title": "A title", "domain": "example.com"}
    document = {"articles": [{**seen, "url": f"https://example.com/{i}"} for i in range(250)]}
    world.fault("/gdelt/", Fault.in_band(document), times=-1)
    quarter = timedelta(minutes=15)
    pages = list(search(web, "gdelt").walk(Span(to_us(NOW), to_us(NOW + 4 * quarter))))
    assert [from_us(page.span.stop) - from_us(page.span.start) for page in pages] == [quarter] * 4
    assert {hole.reason for page in pages for hole in page.holes} == {
        "GDELT gives 250 articles of one quarter of an hour, and has more; search for more words"
    }


def test_what_lies_before_the_reach_of_a_plan_is_told_and_the_rest_is_asked_for(
    answers: Callable[..., None], world: FakeWorld, run: Run, lake: Lake
) -> None:
    said = (
        "You are trying to request results too far in the past. Your plan permits you to request articles as far back "
        "as 2024-05-10, but you have requested 2024-05-01. You may need to upgrade to a paid plan."
    )
    assert run("newsapi").error is None
    answers("newsapi", {"status": "ok", "totalResults": 0, "articles": []})
    answers("newsapi", {"status": "error", "code": "parameterInvalid", "message": said}, status=426)
    assert run("newsapi", since=datetime(2024, 5, 1, tzinfo=UTC)).error is None
    reach = datetime(2024, 5, 11, tzinfo=UTC)
    known = coverage.read(lake, f"news:newsapi:{EVERYTHING}", NEWS)
    assert [(stretch.status, from_us(stretch.span.stop)) for stretch in known.stretches[:1]] == [("lost", reach)]
    assert known.stretches[0].reason == f"NewsAPI: {said}"
    assert set(stored(lake)["url"]) == truth(world, "newsapi", reach, NOW).keys()


def test_gdelt_has_a_first_day(web: Web, world: FakeWorld) -> None:
    begins = datetime(2017, 1, 1, tzinfo=UTC)
    span = Span(to_us(begins - timedelta(days=3)), to_us(begins + timedelta(hours=1)))
    before, after = search(web, "gdelt").walk(span)
    assert [hole.reason for hole in before.holes] == ["GDELT's search begins with 2017-01-01"]
    assert (from_us(before.span.stop), after.span.start) == (begins, before.span.stop)
    assert len(world.log) == 1


# ------------------------------------------------------------------------------------------------ what is said in band


@pytest.mark.parametrize(
    ("code", "status", "error", "says"),
    [
        ("apiKeyInvalid", 401, BadInput, "NEWSAPI_KEY: NewsAPI says"),
        ("apiKeyDisabled", 401, BadInput, "NEWSAPI_KEY: NewsAPI says"),
        ("rateLimited", 200, Transient, "NewsAPI: key \\*\\*\\* is no good"),
        ("apiKeyExhausted", 200, Transient, "NewsAPI: key"),
        ("unexpectedError", 200, Transient, "NewsAPI: key"),
        ("parameterInvalid", 400, Refused, "NewsAPI: status 400, parameterInvalid: key \\*\\*\\* is no good"),
        ("maximumResultsReached", 426, Refused, "status 426, maximumResultsReached"),
        ("somethingNew", 200, Refused, "status 200, somethingNew"),
    ],
)
def test_errors_of_newsapi(
    code: str, status: int, error: type[BacksightError], says: str, web: Web, clock: Clock, answers: Callable[..., None]
) -> None:
    impatient = replace(web, retry=Retry(clock, attempts=1))
    answers("newsapi", {"status": "error", "code": code, "message": f"key {KEY}\n is no good"}, status=status)
    with pytest.raises(error, match=says) as raised:
        next(search(impatient, "newsapi").walk(Span(to_us(NOW), to_us(NOW) + 1)))
    assert type(raised.value) is error
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("archive", "document", "error", "says"),
    [
        ("newsapi", [], Drifted, "has no list of articles"),
        ("newsapi", {"status": "ok"}, Drifted, "has no list of articles"),
        ("newsapi", {"status": "ok", "totalResults": "7", "articles": []}, Drifted, "has no list of articles"),
        ("newsapi", {"status": "ok", "totalResults": 7, "articles": []}, Transient, "7 articles are there, and none"),
        ("gdelt", {"articles": "none"}, Drifted, "articles are no list"),
        ("gdelt", [], Transient, "no whole JSON document"),
    ],
)
def test_answers_of_another_shape(
    archive: str, document: object, error: type[BacksightError], says: str, web: Web, clock: Clock, world: FakeWorld
) -> None:
    world.fault(f"/{archive}/", Fault.in_band(document), times=-1)
    impatient = replace(web, retry=Retry(clock, attempts=1))
    with pytest.raises(error, match=says):
        next(search(impatient, archive).walk(Span(to_us(NOW), to_us(NOW) + 1)))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"Your query was too short or too long.\n", Refused),
        (b"The specified phrase is too short.\n", Refused),
        (b"Please limit requests to one every 5 seconds or contact us.", Transient),
        (b"<html><body>Bad gateway</body></html>", Transient),
    ],
)
def test_gdelt_says_in_a_line_what_it_does_not_like(
    line: bytes, error: type[BacksightError], web: Web, clock: Clock, world: FakeWorld
) -> None:
    world.fault("/gdelt/", Fault(name="line", status=200, body=line), times=-1)
    impatient = replace(web, retry=Retry(clock, attempts=1))
    with pytest.raises(error) as raised:
        next(search(impatient, "gdelt").walk(Span(to_us(NOW), to_us(NOW) + 1)))
    assert type(raised.value) is error


def test_titles_of_gdelt_may_be_no_json(web: Web, world: FakeWorld) -> None:
    title = rb"It\'s a \"tab\"" + b"\t" + rb"here \\ and \u00e9\q"
    body = b'{"articles": [{"url": "u", "title": "' + title + b'", "seendate": "20240517T101500Z"}]}'
    world.fault("/gdelt/", Fault(name="escapes", status=200, body=body))
    (page,) = search(web, "gdelt").walk(Span(to_us(NOW), to_us(NOW) + 1))
    assert page.records["gdelt-doc"]["title"].to_list() == ['It\\\'s a "tab"\there \\ and é\\q']


# ------------------------------------------------------------------------------------------------ nasty inputs


def walked(answers: Callable[..., None], run: Run, *articles: object) -> Account:
    answers("newsapi", {"status": "ok", "totalResults": len(articles), "articles": articles})
    account = run("newsapi")
    assert account.error is None
    return account


@pytest.mark.parametrize(
    ("why", "changes", "expected"),
    [
        ("half of a surrogate pair is left out", {"title": "Bit\ud83dcoin"}, {"title": "Bitcoin"}),
        ("NUL is left out", {"title": "Bit\0coin"}, {"title": "Bitcoin"}),
        ("a number is a text", {"title": 42}, {"title": "42"}),
        ("no publisher", {"source": None}, {"publisher": None}),
        ("no date", {"publishedAt": None}, {"observed_at": NOW, "available_at_estimated": True}),
        ("an epoch", {"publishedAt": "1715940000"}, {"observed_at": NOW, "available_at_estimated": True}),
        ("a time in no zone", {"publishedAt": "2024-05-17T10:00:00"}, {"observed_at": NOW}),
        ("the future", {"publishedAt": "2024-05-18T10:00:00Z"}, {"observed_at": NOW, "available_at_estimated": True}),
    ],
)
def test_nasty_fields(
    why: str,
    changes: dict[str, object],
    expected: dict[str, object],
    answers: Callable[..., None],
    run: Run,
    lake: Lake,
) -> None:
    assert walked(answers, run, {**article(1), **changes}).accepted == 1, why
    (row,) = stored(lake).to_dicts()
    assert {name: row[name] for name in expected} == expected, why


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("empty row", None),
        ("empty row", "an article"),
        ("title and text are both empty", {**article(1), "title": "[Removed]", "description": "[Removed]"}),
        ("title and text are both empty", {**article(1), "title": ""}),
    ],
)
def test_what_is_no_article_is_set_aside(
    reason: str, found: object, answers: Callable[..., None], run: Run, lake: Lake
) -> None:
    account = walked(answers, run, found, article(2))
    assert (account.accepted, account.quarantined) == (1, 1)
    assert lake.scan(QUARANTINE).collect()["reason"].to_list() == [reason]


# ------------------------------------------------------------------------------------------------ the job


def test_the_key_goes_into_a_header_and_nowhere_else(world: FakeWorld, run: Run, lake: Lake) -> None:
    assert run("newsapi").error is None
    (hit,) = world.hits("/newsapi/")
    assert hit.headers["x-api-key"] == KEY
    assert KEY not in str(hit.query)
    files = [path for path in Path(lake.root).rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_the_key_follows_no_redirect(world: FakeWorld, run: Run) -> None:
    world.fault("/newsapi/", Fault.redirect_loop())
    assert isinstance(run("newsapi").error, Refused)
    assert world.hits("/_loop") == []


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "--newsapi needs a key of https://newsapi.org in the variable NEWSAPI_KEY"),
        ({"NEWSAPI_KEY": " "}, "--newsapi needs a key"),
        ({"NEWSAPI_KEY": "a\nb"}, "NEWSAPI_KEY is no key"),
    ],
)
def test_a_key_that_is_none(environment: dict[str, str], says: str, web: Web) -> None:
    with pytest.raises(BadInput, match=says):
        NewsApi(web, environment)


def test_a_search_for_nothing(web: Web) -> None:
    with pytest.raises(BadInput, match="--gdelt has no words to search for"):
        search(web, "gdelt", "  ")


def test_what_would_be_asked_for(web: Web, lake: Lake) -> None:
    job, since = search(web, "gdelt", "bitcoin"), NOW - timedelta(days=3)
    found = plan(lake, job, since=since, until=None, now=NOW)
    start = NOW - timedelta(hours=2)
    assert found.forward == Span(to_us(start), to_us(NOW))
    assert found.backfill == (Span(to_us(since), to_us(start)),)
    assert lake.scan(COVERAGE).collect().is_empty()


def test_addresses_of_the_archives_themselves(web: Web) -> None:
    own = replace(web, endpoint=None)
    assert NewsApi(own, {"NEWSAPI_KEY": KEY})._url == "https://newsapi.org/v2/everything"
    assert Gdelt(own)._url == "https://api.gdeltproject.org/api/v2/doc/doc"


def test_pages_have_a_place_for_each_layout(web: Web) -> None:
    page: Page
    for archive in ARCHIVES:
        job = search(web, archive)
        for page in job.walk(Span(to_us(NOW) - 1, to_us(NOW))):
            assert set(page.records) == set(job.layouts)
    assert json.dumps(sorted(page.records)) == '["gdelt-doc", "news-live"]'
