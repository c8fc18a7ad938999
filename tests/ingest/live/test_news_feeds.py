"""What a feed lists becomes facts that are known from when they were first seen; what it no longer lists is told."""

import html
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

import feedparser
import polars as pl
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.clocks import from_us
from backsight_features.errors import BadInput, Drifted
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, QUARANTINE
from backsight_features.texts import compose, normalise
from backsight_ingest.accounts import Account
from backsight_ingest.live import coverage
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.pull import plan, pull
from backsight_ingest.live.web import Web
from backsight_ingest.sources.news_feeds import Feed, articles

RSS, ATOM = "https://wire.example.com/feed.rss", "https://desk.example.com/feed.atom"
NOW = datetime(2024, 5, 17, 12, 30, 20, tzinfo=UTC)

Run = Callable[..., Account]


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    """Return a way to the world that is patient: nothing hangs here, and the machine may be busy."""
    return make_web(idle=timedelta(seconds=10), total=timedelta(seconds=20))


@pytest.fixture
def run(web: Web, clock: Clock, lake: Lake, tmp_path: Path) -> Run:
    """Return what pulls a feed once."""

    def run(url: str = RSS) -> Account:
        (account,) = pull(lake, [Feed(web, url)], locks=tmp_path / "locks", clock=clock)
        assert account.error is None, account.error
        assert account.read == account.accepted + account.duplicate + account.quarantined
        return account

    return run


@pytest.fixture
def serve(world: FakeWorld) -> Callable[..., None]:
    """Return what lets the next pull of the feed find these items."""

    def serve(*items: str, head: str = '<rss version="2.0">', tail: str = "</rss>") -> None:
        body = f"{head}<channel><title>Wire</title>{''.join(items)}</channel>{tail}".encode()
        world.fault("/news/", Fault(name="feed", status=200, body=body, content_type="application/rss+xml"))

    return serve


def item(title: str = "A title", link: str = "https://example.com/1", date: str = "", more: str = "") -> str:
    dated = f"<pubDate>{date}</pubDate>" if date else ""
    return f"<item><title>{title}</title><link>{escape(link)}</link>{dated}{more}</item>"


def stored(lake: Lake) -> pl.DataFrame:
    return lake.scan(NEWS).sort("available_at", "observed_at", "id").collect()


# ------------------------------------------------------------------------------------------------ what is listed


@pytest.mark.parametrize(("url", "source"), [(RSS, "wire"), (ATOM, "desk"), (f"{RSS}?undeclared=1", "wire")])
def test_articles_are_those_of_the_world_and_known_from_when_they_were_seen(
    url: str, source: str, world: FakeWorld, run: Run, lake: Lake
) -> None:
    world.news.feeds.length = 60
    assert (run(url).accepted, run(url).accepted) == (60, 0)
    truth = world.news.truth(NOW - timedelta(days=5), NOW, source=source)[-60:]
    found = stored(lake)
    says = {
        (row["url"], row["title"], html.unescape(row["text"]), row["publisher"], row["observed_at"])
        for row in found.to_dicts()
    }
    assert says == {
        (story.url.partition("?utm")[0], story.title, story.summary, f"{source}.example.com", story.published)
        for story in truth
    }
    assert found["available_at"].unique().to_list() == [NOW]
    assert not found["available_at_estimated"].any()


def test_feeds_as_they_are_become_articles(shared_data: Path) -> None:
    folder = shared_data / "api_fixtures" / "rss"
    listed = articles((folder / "cointelegraph_trimmed_2026-08-15.xml").read_bytes(), "https://cointelegraph.com/rss")
    assert [each.article.text for each in listed] == [
        "Tokenized equities reached 1.31 million holders over the past month.",
        "Need to know what happened in crypto today?",
    ]
    assert listed[0].article.published_at == datetime(2026, 8, 15, 17, 26, 43, tzinfo=UTC)
    assert listed[0].article.publisher == "cointelegraph.com"


def test_an_edit_is_a_version_known_when_it_was_seen(
    serve: Callable[..., None], run: Run, lake: Lake, world: FakeWorld
) -> None:
    date = "Fri, 17 May 2024 10:00:00 GMT"
    serve(item("Bitcoin rises", date=date))
    run()
    world.advance(timedelta(hours=1))
    serve(item("Bitcoin rises (updated)", date=date))
    assert run().accepted == 1
    found = stored(lake)
    assert found["id"].n_unique() == 1
    assert found["title"].to_list() == ["Bitcoin rises", "Bitcoin rises (updated)"]
    assert found["available_at"].to_list() == [NOW, world.now]


def test_where_a_reader_came_from_is_no_part_of_an_address(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    addresses = [
        "https://example.com/1?utm_source=rss&utm_medium=feed",
        "https://example.com/1",
        "https://example.com/1?id=2",
        "https://example.com/1?utm_source=rss&id=2",
        "https://example.com/1?id=2&UTM_source=rss",
        "https://example.com/1?id=3#top",
        "https://example.com/1?id=3&utm_source=rss#top",
    ]
    serve(*(item("A title", link=link) for link in addresses))
    account = run()
    assert (account.accepted, account.duplicate) == (3, 4)
    found = stored(lake)
    assert sorted(found["url"]) == [addresses[1], addresses[2], addresses[5]]
    assert found["id"].n_unique() == 3


# ------------------------------------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ("url", "way", "dated"),
    [
        (RSS, "numeric", True),
        (RSS, "gmt", True),
        (RSS, "est", True),
        (RSS, "ist", False),
        (RSS, "cet", False),
        (RSS, "jst", False),
        (RSS, "nozone", False),
        (RSS, "missing", False),
        (RSS, "epoch", False),
        (ATOM, "numeric", True),
        (ATOM, "nozone", False),
        (ATOM, "missing", False),
    ],
)
def test_a_date_counts_if_its_zone_is_certain_and_else_the_first_sight(
    url: str, way: str, dated: bool, world: FakeWorld, run: Run, lake: Lake
) -> None:
    run(f"{url}?dates={way}")
    world.advance(timedelta(hours=2))
    run(f"{url}?dates={way}")
    source = "wire" if url == RSS else "desk"
    published = {
        story.url.partition("?utm")[0]: story.published
        for story in world.news.truth(NOW - timedelta(days=5), world.now, source=source)
    }
    found = stored(lake)
    assert found["id"].n_unique() == found.height > 30, "each article once, also where it has no date"
    assert set(found["available_at"].unique()) == {NOW, world.now}
    assert found["available_at_estimated"].all() == (not dated)
    expected = found["url"].replace_strict(published) if dated else found["available_at"]
    assert found["observed_at"].to_list() == expected.to_list()


def test_a_date_without_a_time_is_the_end_of_that_day(world: FakeWorld, run: Run, lake: Lake) -> None:
    run(f"{RSS}?dates=dateonly")
    truth = {story.url: story.published for story in world.news.truth(NOW - timedelta(days=5), NOW, source="wire")}
    midnight = datetime(2024, 5, 17, tzinfo=UTC)
    for row in stored(lake).to_dicts():
        today = truth[row["url"]] >= midnight
        day = truth[row["url"]].replace(hour=0, minute=0, second=0) + timedelta(days=1)
        assert row["observed_at"] == (NOW if today else day), "the day of today has not ended"
        assert row["available_at"] == NOW
        assert row["available_at_estimated"] == today


def test_a_stamp_of_the_future_counts_from_the_first_sight_until_it_comes_true(
    serve: Callable[..., None], run: Run, lake: Lake, world: FakeWorld
) -> None:
    accepted, instants = [], []
    for _ in range(4):
        serve(item(date="Fri, 17 May 2024 14:00:00 GMT"))
        accepted.append(run().accepted)
        instants.append(world.now)
        world.advance(timedelta(minutes=40))
    assert accepted == [1, 0, 0, 1]
    first, last = stored(lake).to_dicts()
    assert (first["observed_at"], first["available_at"], first["available_at_estimated"]) == (NOW, NOW, True)
    assert (last["observed_at"], last["available_at_estimated"]) == (datetime(2024, 5, 17, 14, tzinfo=UTC), False)
    assert last["available_at"] == instants[3]


# ------------------------------------------------------------------------------------------------ coverage


def test_a_feed_that_rolled_over_leaves_a_hole_that_nobody_can_fill(world: FakeWorld, run: Run, lake: Lake) -> None:
    run()
    world.advance(timedelta(hours=2))
    run()
    assert coverage.read(lake, "news:wire.example.com/feed.rss", NEWS).holes == ()
    before = world.now
    world.advance(timedelta(days=2))
    run()
    known = coverage.read(lake, "news:wire.example.com/feed.rss", NEWS)
    (lost,) = [stretch for stretch in known.stretches if stretch.status == "lost"]
    oldest = min(story.published for story in world.news.truth(before, world.now, source="wire")[-30:])
    assert (from_us(lost.span.start), from_us(lost.span.stop)) == (before, oldest)
    assert lost.reason == "the feed rolled over: all its 30 articles came after the last pull; pull it more often"
    assert known.reached is not None
    assert from_us(known.reached) == world.now


def test_a_pull_that_finds_nothing_new_moves_on(
    serve: Callable[..., None], run: Run, lake: Lake, world: FakeWorld
) -> None:
    for _ in range(2):
        serve(item(date="Fri, 17 May 2024 10:00:00 GMT"))
        run()
        known = coverage.read(lake, "news:wire.example.com/feed.rss", NEWS)
        assert known.reached is not None
        assert from_us(known.reached) == world.now
        world.advance(timedelta(minutes=5))
    assert stored(lake).height == 1
    assert [stretch.status for stretch in known.stretches] == ["whole"]


def test_a_feed_that_lists_nothing_is_a_hole_too(
    serve: Callable[..., None], run: Run, lake: Lake, world: FakeWorld
) -> None:
    serve(item())
    run()
    world.advance(timedelta(minutes=5))
    serve()
    run()
    (lost,) = coverage.read(lake, "news:wire.example.com/feed.rss", NEWS).stretches
    assert (lost.status, lost.reason) == ("lost", "the feed lists nothing, so what it listed in between is lost")


# ------------------------------------------------------------------------------------------------ nasty inputs


@pytest.mark.parametrize(
    ("why", "title", "kept", "read"),
    [
        ("entities are resolved once", "<![CDATA[AT&amp;T &amp;lt; B]]>", "AT&amp;T &amp;lt; B", "AT&T &lt; B"),
        ("entities of XML are not text", "AT&amp;T rises", "AT&T rises", "AT&T rises"),
        (
            "an angle is no tag",
            "$1bn of &lt;unknown&gt; outflows",
            "$1bn of <unknown> outflows",
            "$1bn of <unknown> outflows",
        ),
        ("markup is no text", "<![CDATA[<b>Bit</b>coin<br/>rises]]>", "Bitcoin rises", "Bitcoin rises"),
        (
            "zero-width and bidi signs are kept",
            "Bit\u200bcoin \u202erises",
            "Bit\u200bcoin \u202erises",
            "Bitcoin rises",
        ),
        ("NUL is left out", "Bit\0coin rises", "Bitcoin rises", "Bitcoin rises"),
        (
            "half of a surrogate pair is left out",
            "Bit&#55357;coin &#xD83D;&#xDE00;rises &#x1F680;",
            "Bitcoin rises 🚀",
            None,
        ),
        ("no character has that number", "Bitcoin&#x110000; rises&#99999999;", "Bitcoin rises", None),
        ("an entity of HTML", "Bitcoin&nbsp;rises", "Bitcoin\u00a0rises", "Bitcoin rises"),
        ("other scripts", "比特币上涨 🚀", "比特币上涨 🚀", "比特币上涨 🚀"),
    ],
)
def test_titles(
    why: str, title: str, kept: str, read: str | None, serve: Callable[..., None], run: Run, lake: Lake
) -> None:
    serve(item(title))
    assert run().accepted == 1, why
    found = stored(lake)
    assert found["title"].item() == kept, why
    assert found.select(compose(normalise(pl.col("title")), normalise(pl.col("text")))).item() == (read or kept), why


def test_scripts_and_comments_are_no_text(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    text = "<p>Up</p><SCRIPT type='x'>alert(1 < 2)</SCRIPT><!-- <p>no</p> --><style>p {}</style>and <i>aw</i>ay"
    serve(item(more=f"<description>{escape(text)}</description>"))
    run()
    assert stored(lake)["text"].item().split() == ["Up", "and", "away"]


def test_a_text_as_long_as_a_book_is_cut_off_and_says_so(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    serve(item(more=f"<description>{'word ' * 100_000}</description>"))
    run()
    text = stored(lake)["text"].item()
    assert text.endswith("… [cut off: 499999 characters]")
    assert len(text) < 101_000


def test_an_item_that_says_nothing_is_set_aside_once(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    for _ in range(2):
        serve("<item></item>", item(title="", date="Fri, 17 May 2024 10:00:00 GMT"), item("Sound"))
        assert run().quarantined == 2
    aside = lake.scan(QUARANTINE).collect()
    assert aside["reason"].to_list() == ["title and text are both empty"] * 2
    assert aside["original"].str.contains('"url":"https://example.com/1"', literal=True).sum() == 1


def test_an_item_without_an_address_is_known_by_its_words(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    serve("<item><title>One</title></item>", "<item><title>Two</title></item>", "<item><title>One</title></item>")
    account = run()
    assert (account.accepted, account.duplicate) == (2, 1)
    assert set(stored(lake)["publisher"]) == {"wire.example.com"}


def test_who_is_said_to_have_published_counts_before_the_host(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    serve(item(link="https://www.example.org/2", more='<source url="https://wsj.example">The Journal</source>'), item())
    run()
    assert dict(stored(lake).select("url", "publisher").iter_rows()) == {
        "https://www.example.org/2": "The Journal",
        "https://example.com/1": "example.com",
    }


def test_an_address_that_is_none_loses_no_article(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    serve(item("One", link="http://[1"), item("Two", link="mailto:jane@example.com"), item("Three", link="#"))
    assert run().accepted == 3
    assert set(stored(lake)["title"]) == {"One", "Two", "Three"}


def test_of_several_dates_the_first_that_is_certain_counts(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    more = "<dc:date>2024-05-17T10:00:00Z</dc:date>"
    serve(item(date="Fri, 17 May 2024 15:30:00 IST", more=more), item(link="https://example.com/2", more=more))
    run()
    assert stored(lake)["observed_at"].to_list() == [datetime(2024, 5, 17, 10, tzinfo=UTC)] * 2


def test_an_address_is_relative_to_that_of_the_feed(serve: Callable[..., None], run: Run, lake: Lake) -> None:
    serve(item(link="/news/1"))
    run("https://user:secret@wire.example.com/feed.rss?key=secret")
    assert stored(lake)["url"].to_list() == ["https://wire.example.com/news/1"]


def test_feedparser_is_given_bytes_and_never_an_address(tmp_path: Path) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text("<rss><channel><item><title>secret</title></item></channel></rss>")
    with pytest.raises(Drifted, match="of no kind that feedparser knows"):
        articles(str(secret).encode(), RSS)


def test_no_error_of_feedparser_is_one_that_it_raises() -> None:
    """What feedparser finds wrong it keeps beside the entries; a new kind of error should be looked at."""
    kinds = {name for name, kind in vars(feedparser.exceptions).items() if isinstance(kind, type)}
    assert kinds == {
        "CharacterEncodingOverride",
        "CharacterEncodingUnknown",
        "NonXMLContentType",
        "ThingsNobodyCaresAboutButMe",
        "UndeclaredNamespace",
    }


# ------------------------------------------------------------------------------------------------ the job


def test_feeds_are_told_apart_and_keys_are_not_told(web: Web) -> None:
    names = [
        Feed(web, url).name
        for url in (
            RSS,
            "https://user:secret@wire.example.com:8443/rss/",
            "https://wire.example.com/rss?q=bitcoin&key=secret",
            "https://wire.example.com/rss?q=ether&key=secret",
        )
    ]
    assert names[:2] == ["news:wire.example.com/feed.rss", "news:wire.example.com/rss"]
    assert all(name.startswith("news:wire.example.com/rss?") for name in names[2:])
    assert len(set(names)) == 4
    assert "secret" not in str(names)


@pytest.mark.parametrize(
    "url", ["feed.xml", "file:///etc/passwd", "ftp://example.com/rss", "https://", "https://[1/rss"]
)
def test_what_is_no_address(url: str, web: Web) -> None:
    with pytest.raises(BadInput, match="is no address; write https"):
        Feed(web, url)


def test_what_would_be_asked_for(web: Web, lake: Lake, run: Run, world: FakeWorld) -> None:
    job = Feed(web, RSS)
    assert plan(lake, job, since=None, until=None, now=NOW).forward is not None
    run()
    later = NOW + timedelta(hours=1)
    forward = plan(lake, job, since=None, until=None, now=later).forward
    assert forward is not None
    assert (from_us(forward.start), from_us(forward.stop)) == (NOW, later)


def test_the_feeds_own_address_is_asked_where_no_other_is_given(web: Web, world: FakeWorld, clock: Clock) -> None:
    job = Feed(replace(web, endpoint=None), f"{world.url}/news/feed.rss?dates=gmt")
    (page,) = job.walk(plan(Lake("nowhere"), job, since=None, until=None, now=NOW).forward)  # type: ignore[arg-type]
    assert page.records["news-live"].height == 30
    (hit,) = world.hits("/news/")
    assert hit.query == {"dates": "gmt"}
    assert hit.headers["user-agent"].startswith("backsight/")
