"""The real clients read from the fake world what the world says is true."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import ccxt
import feedparser
import fredapi
import praw
import pytest
import requests
import zstandard
from backsight_fakeworld import DEFAULT_NOW, FakeWorld, ccxt_urls, praw_urls
from backsight_fakeworld.news.feeds import RSS_DATES

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PAIRS = {
    "binance": "BTC/USDT",
    "kraken": "BTC/USD",
    "coinbase": "BTC/USD",
    "coinbaseexchange": "ETH/USD",
    "bitstamp": "ETH/USD",
    "bitfinex": "BTC/USDT",
}
KEY = "0123456789abcdef" * 2


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    with FakeWorld(seed=7) as world:
        yield world


def client(world: FakeWorld, venue: str) -> Any:
    exchange = getattr(ccxt, venue)({"enableRateLimit": False})
    exchange.urls["api"] = ccxt_urls(exchange.urls["api"], f"{world.url}/{venue}")
    return exchange


def reddit(world: FakeWorld) -> praw.Reddit:
    return praw.Reddit(
        client_id="id",
        client_secret="secret",
        user_agent="test:fakeworld:v0",
        check_for_updates=False,
        **praw_urls(world.url),
    )


def token(world: FakeWorld) -> str:
    answer = requests.post(
        f"{world.url}/reddit/api/v1/access_token",
        data={"grant_type": "client_credentials"},
        auth=("id", "secret"),
        timeout=10,
    )
    return answer.json()["access_token"]


def fred(world: FakeWorld) -> fredapi.Fred:
    class Fred(fredapi.Fred):
        root_url = f"{world.url}/fred"

    return Fred(api_key=KEY)


def ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


def ask(world: FakeWorld, path: str, **query: object) -> requests.Response:
    answer = requests.get(world.url + path, params={name: str(value) for name, value in query.items()}, timeout=10)
    answer.encoding = "utf-8"
    return answer


# Exchanges


@pytest.mark.parametrize("venue", PAIRS)
def test_ccxt_reads_bars_trades_and_books(world: FakeWorld, venue: str) -> None:
    exchange, symbol, now = client(world, venue), PAIRS[venue], world.now
    markets = exchange.load_markets()
    since = now.replace(minute=0, second=0) - 100 * HOUR
    bars = exchange.fetch_ohlcv(symbol, "1h", since=ms(since), limit=200)
    book = exchange.fetch_order_book(symbol, limit=20)
    trades = exchange.fetch_trades(symbol)

    assert symbol in markets
    assert bars[:-1] == world.exchange.truth(venue, symbol, "1h", since, now)
    assert bars[-1][0] == ms(now.replace(minute=0, second=0)), "the last bar is the unfinished one"
    bids, asks = world.exchange.book(venue, symbol, 20)
    assert [level[:2] for level in book["bids"][:20]] == bids
    assert [level[:2] for level in book["asks"][:20]] == asks
    assert bids[0][0] < asks[0][0]
    true = world.exchange.trades(venue, symbol, now - DAY, now)[-len(trades) :]
    assert [(trade["price"], trade["amount"]) for trade in trades] == [
        (trade.price / 100, trade.amount / 1e8) for trade in true
    ]
    assert all(trade["timestamp"] // 1000 == true.at // 10**6 for trade, true in zip(trades, true, strict=True))


@pytest.mark.parametrize("venue", ["binance", "kraken", "coinbase", "coinbaseexchange"])
def test_venues_tell_the_time(world: FakeWorld, venue: str) -> None:
    assert client(world, venue).fetch_time() == ms(world.now)


@pytest.mark.parametrize(
    ("venue", "timeframe", "back", "page"),
    [
        ("binance", "1m", 2000 * HOUR / 60, 1000),
        ("bitstamp", "1m", 2000 * HOUR / 60, 1000),
        ("coinbase", "1m", 400 * HOUR / 60, 300),
        ("coinbaseexchange", "1m", 400 * HOUR / 60, 300),
    ],
)
def test_pages_have_caps(world: FakeWorld, venue: str, timeframe: str, back: timedelta, page: int) -> None:
    world.exchange.has_outages = False
    since = world.now.replace(second=0) - back
    bars = client(world, venue).fetch_ohlcv(PAIRS[venue], timeframe, since=ms(since), limit=5000)
    true = world.exchange.truth(venue, PAIRS[venue], timeframe, since, since + page * HOUR / 60)
    assert bars[: len(true)] == true
    assert bars[-1][0] < ms(since + (page + 1) * HOUR / 60)


def test_kraken_has_the_last_720_intervals_whatever_is_asked_for(world: FakeWorld) -> None:
    bars = client(world, "kraken").fetch_ohlcv("BTC/USD", "1m", since=ms(world.now - 10 * DAY))
    assert bars[0][0] >= ms(world.now.replace(second=0)) - 719 * 60_000
    assert 400 < len(bars) < 720, "minutes without trades are left out"


@pytest.mark.parametrize("venue", ["coinbase", "coinbaseexchange"])
def test_coinbase_refuses_too_long_a_stretch(world: FakeWorld, venue: str) -> None:
    with pytest.raises(ccxt.ExchangeError, match=r"candles|granularity"):
        client(world, venue).fetch_ohlcv(PAIRS[venue], "1m", since=ms(world.now - DAY), params={"until": ms(world.now)})


def test_coinbase_and_bitfinex_list_newest_first(world: FakeWorld) -> None:
    start = int((world.now - 5 * HOUR).timestamp())
    newest = ask(
        world,
        "/coinbase/api/v3/brokerage/market/products/BTC-USD/candles",
        granularity="ONE_HOUR",
        start=start,
        end=start + 4 * 3600,
    ).json()["candles"]
    listed = ask(world, "/bitfinex/v2/candles/trade:1h:tBTCUSD/hist", limit=4).json()
    for times in ([int(bar["start"]) for bar in newest], [bar[0] for bar in listed]):
        assert len(times) == 4
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_bars_can_be_rebuilt_from_trades(world: FakeWorld, venue: str) -> None:
    symbol, since = PAIRS[venue], datetime(2024, 5, 14, 20, tzinfo=UTC)
    rebuilt: dict[int, list[float]] = {}
    lots: Counter[int] = Counter()
    for trade in world.exchange.trades(venue, symbol, since, since + 2 * HOUR):
        opened, price = trade.at // 300_000_000 * 300_000, trade.price / 100
        bar = rebuilt.setdefault(opened, [opened, price, price, price, price])
        bar[2], bar[3], bar[4] = max(bar[2], price), min(bar[3], price), price
        lots[opened] += trade.amount
    true = world.exchange.truth(venue, symbol, "5m", since, since + 2 * HOUR)
    assert [[*bar, lots[opened] / 1e8] for opened, bar in rebuilt.items()] == true
    assert len(true) == 24


def test_bars_of_all_lengths_agree(world: FakeWorld) -> None:
    since = datetime(2024, 5, 6, tzinfo=UTC)
    minutes = world.exchange.truth("binance", "ETH/USDT", "1m", since, since + DAY)
    [day] = world.exchange.truth("binance", "ETH/USDT", "1d", since, since + DAY)
    assert day[:5] == [
        ms(since),
        minutes[0][1],
        max(bar[2] for bar in minutes),
        min(bar[3] for bar in minutes),
        minutes[-1][4],
    ]
    assert day[5] == pytest.approx(sum(bar[5] for bar in minutes))
    assert any(bar[5] == 0 for bar in minutes), "binance has a bar where nothing was traded"
    [week] = world.exchange.truth("binance", "ETH/USDT", "1w", since, since + DAY)
    assert week[1] == day[1], "weeks of binance begin on Monday"


def test_kraken_trades_are_paged_by_nanoseconds(world: FakeWorld) -> None:
    since = world.now - 3 * HOUR
    cursor, ids = str(ms(since) * 10**6), []
    while True:
        result = ask(world, "/kraken/0/public/Trades", pair="XBTUSD", since=cursor, count=300).json()["result"]
        ids += [trade[6] for trade in result["XXBTZUSD"]]
        if result["last"] == cursor:
            break
        cursor = result["last"]
    assert ids == [trade.id for trade in world.exchange.trades("kraken", "BTC/USD", since, world.now)]
    assert len(ids) > 600


def test_the_unfinished_bar_is_made_of_the_trades_so_far(world: FakeWorld) -> None:
    exchange, symbol = client(world, "binance"), "BTC/USDT"
    [bar] = exchange.fetch_ohlcv(symbol, "1h", since=ms(world.now.replace(minute=0, second=0)))
    trades = world.exchange.trades("binance", symbol, world.now.replace(minute=0, second=0), world.now)
    assert bar[4] == trades[-1].price / 100
    assert bar[5] == sum(trade.amount for trade in trades) / 1e8
    world.advance(HOUR)
    finished, _ = exchange.fetch_ohlcv(symbol, "1h", since=bar[0])
    assert finished[0] == bar[0]
    assert finished[5] > bar[5]


@pytest.mark.parametrize("venue", PAIRS)
def test_a_gap_is_empty_until_it_is_filled(world: FakeWorld, venue: str) -> None:
    world.exchange.has_outages = False
    exchange, symbol = client(world, venue), PAIRS[venue]
    start = world.now.replace(minute=0, second=0) - 8 * HOUR

    def opens() -> list[int]:
        return [bar[0] for bar in exchange.fetch_ohlcv(symbol, "1h", since=ms(start), limit=10)]

    whole = [ms(start + i * HOUR) for i in range(9)]
    world.exchange.gap(venue, start + HOUR, start + 4 * HOUR, filled_at=world.now + HOUR)
    gap = world.exchange.gap(venue, start + 5 * HOUR, start + 6 * HOUR)
    assert opens() == [whole[0], whole[4], whole[6], whole[7], whole[8]]
    world.exchange.fill(gap)
    assert opens() == [whole[0], *whole[4:]]
    world.advance(HOUR)
    assert opens()[:9] == whole


def test_outages_come_by_themselves(world: FakeWorld) -> None:
    outages = world.exchange.gaps("bitstamp")
    assert 20 < len(outages) < 70
    outage = outages[-1]
    bars = world.exchange.truth("bitstamp", "BTC/USD", "1m", outage.start - HOUR, outage.end + HOUR)
    assert len(bars) == 120
    assert not [bar for bar in bars if ms(outage.start) <= bar[0] < ms(outage.end)]


def test_unknown_pairs_are_refused_as_the_venue_does(world: FakeWorld) -> None:
    assert ask(world, "/binance/api/v3/klines", symbol="NOPE", interval="1h").json()["code"] == -1121
    assert ask(world, "/kraken/0/public/OHLC", pair="NOPE").json()["error"] == ["EQuery:Unknown asset pair"]
    assert ask(world, "/coinbaseexchange/products/NOPE/candles").status_code == 404
    assert ask(world, "/nowhere/at/all").status_code == 404


# Reddit


def test_praw_reads_listings(world: FakeWorld) -> None:
    listed = list(reddit(world).subreddit("Bitcoin").new(limit=250))
    true = world.reddit.truth("Bitcoin", world.now - 30 * DAY, world.now)[::-1]
    assert [(post.id, post.title, post.selftext, post.score) for post in listed] == [
        (post["id"], post["title"], post["selftext"], post["score"]) for post in true[:250]
    ]
    assert [hit.query["limit"] for hit in world.hits("/reddit/r/Bitcoin/new")] == ["250"] * 3


def test_listings_end_at_the_cap(world: FakeWorld) -> None:
    world.reddit.cap = 130
    assert len(list(reddit(world).subreddit("CryptoCurrency").new(limit=None))) == 130


def test_listings_can_be_read_towards_the_present(world: FakeWorld) -> None:
    true = world.reddit.truth("ethereum", world.now - 10 * DAY, world.now)
    page = reddit(world).request(method="GET", path="r/ethereum/new", params={"before": true[-6]["name"]})
    assert [child["data"]["id"] for child in page["data"]["children"]] == [post["id"] for post in true[:-6:-1]]


def test_posts_by_id_come_in_hundreds(world: FakeWorld) -> None:
    names = [post["name"] for post in world.reddit.truth("Bitcoin", world.now - 10 * DAY, world.now)][:150]
    found = list(reddit(world).info(fullnames=names))
    assert [post.fullname for post in found] == names
    assert [len(hit.query["id"].split(",")) for hit in world.hits("/reddit/api/info")] == [100, 50]


def test_posts_are_edited_removed_and_grow(world: FakeWorld) -> None:
    posts = world.reddit.truth("CryptoCurrency", world.now - 20 * DAY, world.now - 10 * DAY)
    kinds = Counter(version.kind for post in posts for version in world.reddit.versions(post["id"]))
    assert set(kinds) == {"written", "edited", "removed", "deleted"}
    assert {"[removed]", "[deleted]", ""} < {post["selftext"] for post in posts}
    edited = next(post for post in posts if post["edited"] and post["selftext"].count("EDIT") == 1)
    written, edit = world.reddit.versions(edited["id"])[:2]
    assert edited["edited"] == edit.since.timestamp()

    world.now = edit.since - timedelta(seconds=1)
    [before] = reddit(world).info(fullnames=[edited["name"]])
    assert (before.selftext, before.edited) == (written.selftext, False)


def test_scores_and_comments_grow(world: FakeWorld) -> None:
    def totals() -> tuple[int, int]:
        posts = world.reddit.truth("Bitcoin", DEFAULT_NOW - DAY, DEFAULT_NOW)
        return sum(post["score"] for post in posts), sum(post["num_comments"] for post in posts)

    scores, comments = totals()
    world.advance(HOUR)
    assert totals() > (scores, comments)
    assert totals()[1] > comments


def test_texts_are_escaped_unless_raw_json_is_asked_for(world: FakeWorld) -> None:
    bearer = {"Authorization": f"Bearer {token(world)}"}

    def titles(**query: object) -> list[str]:
        answer = requests.get(
            f"{world.url}/reddit/r/Bitcoin/new?limit=100",
            params={name: str(value) for name, value in query.items()},
            headers=bearer,
            timeout=10,
        )
        return [child["data"]["title"] for child in answer.json()["data"]["children"]]

    raw, escaped = titles(raw_json=1), titles()
    assert any("& rates" in title for title in raw)
    assert any("&amp; rates" in title for title in escaped)
    assert any("\u200b" in title for title in raw)
    assert any("\U0001f680" in title for title in raw)


def test_null_authors_are_there_when_asked_for(world: FakeWorld) -> None:
    def authors() -> set[str | None]:
        return {post["author"] for post in world.reddit.truth("Bitcoin", world.now - 20 * DAY, world.now)}

    assert None not in authors()
    assert "[deleted]" in authors()
    world.reddit.null_authors = True
    assert None in authors()


def test_tokens_expire_and_can_be_revoked(world: FakeWorld) -> None:
    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{world.url}/reddit/r/Bitcoin/new", headers=headers, timeout=10).status_code

    first = token(world)
    assert (status(first), status("another")) == (200, 401)
    world.advance(timedelta(seconds=world.reddit.token_life))
    second = token(world)
    assert (status(first), status(second)) == (401, 200)
    world.reddit.revoke()
    assert status(second) == 401
    assert requests.post(f"{world.url}/reddit/api/v1/access_token", timeout=10).status_code == 401


def test_rate_limits_are_told(world: FakeWorld) -> None:
    world.reddit.remaining, world.reddit.used, world.reddit.reset = 500, 100, 33
    client = reddit(world)
    client.request(method="GET", path="r/Bitcoin/new")
    limits = client._core._rate_limiter
    assert (limits.remaining, limits.used) == (499, 101)


def test_dumps_have_posts_as_they_were_when_retrieved(world: FakeWorld, tmp_path: Path) -> None:
    since, until = world.now - 10 * DAY, world.now - 5 * DAY
    for name in ("posts.ndjson", "posts.zst"):
        assert world.reddit.write_dump(tmp_path / name, "Bitcoin", since, until) > 50
    packed, plain = (tmp_path / "posts.zst").read_bytes(), (tmp_path / "posts.ndjson").read_bytes()
    with pytest.raises(zstandard.ZstdError, match="too much memory"):
        zstandard.ZstdDecompressor().stream_reader(packed).read()
    assert zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed).read() == plain
    [first, *_] = map(json.loads, plain.splitlines())
    assert first["retrieved_on"] == first["created_utc"] + 36 * 3600


# News


@pytest.mark.parametrize(("path", "source"), [("/news/feed.rss", "wire"), ("/news/feed.atom", "desk")])
def test_feedparser_reads_the_last_thirty_stories(world: FakeWorld, path: str, source: str) -> None:
    feed = feedparser.parse(io.BytesIO(ask(world, path).content))
    true = world.news.truth(world.now - 5 * DAY, world.now, source=source)[:-31:-1]
    assert not feed.bozo
    assert [(entry.id, entry.title, entry.link, entry.author) for entry in feed.entries] == [
        (story.id, story.title, story.url, story.author) for story in true
    ]
    assert [datetime(*entry.published_parsed[:6], tzinfo=UTC) for entry in feed.entries] == [
        story.published for story in true
    ]


def test_feeds_answer_304_to_whom_has_them(world: FakeWorld) -> None:
    url = f"{world.url}/news/feed.rss"
    first = requests.get(url, timeout=10)

    def again(header: str, value: str) -> int:
        return requests.get(url, headers={header: value}, timeout=10).status_code

    assert again("If-None-Match", first.headers["ETag"]) == 304
    assert again("If-Modified-Since", first.headers["Last-Modified"]) == 304
    world.advance(6 * HOUR)
    assert again("If-None-Match", first.headers["ETag"]) == 200
    assert again("If-Modified-Since", first.headers["Last-Modified"]) == 200


@pytest.mark.parametrize(
    ("dates", "hours"), [("numeric", 0), ("gmt", 0), ("est", 0), ("ist", 5.5), ("cet", 1), ("jst", 9)]
)
def test_feedparser_is_wrong_by_the_hours_of_zones_that_it_does_not_know(
    world: FakeWorld, dates: str, hours: float
) -> None:
    feed = feedparser.parse(io.BytesIO(ask(world, "/news/feed.rss", dates=dates).content))
    newest = world.news.truth(world.now - DAY, world.now, source="wire")[-1]
    read = datetime(*feed.entries[0].published_parsed[:6], tzinfo=UTC)
    assert read - newest.published == timedelta(hours=hours)


def test_dates_can_be_of_every_kind(world: FakeWorld) -> None:
    feed = feedparser.parse(io.BytesIO(ask(world, "/news/feed.rss", dates="mixed").content))
    dates = [entry.get("published") for entry in feed.entries]
    assert None in dates
    assert any(text and text.isdigit() for text in dates)
    assert any(text and text.endswith("JST") for text in dates)
    assert ask(world, "/news/feed.rss", dates="nope").status_code == 404
    assert len(RSS_DATES) == 10


def test_a_namespace_can_be_undeclared(world: FakeWorld) -> None:
    feed = feedparser.parse(io.BytesIO(ask(world, "/news/feed.rss", undeclared=1).content))
    assert feed.bozo
    assert len(feed.entries) == 30


def test_the_desk_copies_stories_of_the_wire(world: FakeWorld) -> None:
    stories = {story.id: story for story in world.news.truth(world.now - 5 * DAY, world.now)}
    copies = [(story, stories[story.copy_of]) for story in stories.values() if story.copy_of in stories]
    assert len(copies) > 30
    assert all(original.published < copy.published and original.title in copy.title for copy, original in copies)
    assert any(original.title != copy.title for copy, original in copies)


def test_newsapi_is_paged_and_wants_a_key(world: FakeWorld) -> None:
    since = world.now - 5 * DAY
    query = {"q": "bitcoin OR miners", "from": f"{since:%Y-%m-%dT%H:%M:%S}", "pageSize": 50, "apiKey": "key"}
    pages = [ask(world, "/newsapi/v2/everything", page=page, **query).json() for page in (1, 2, 3)]
    found = [article["url"] for page in pages for article in page["articles"]]
    true = [
        story.url
        for story in world.news.truth(since, world.now)
        if "bitcoin" in story.title.lower() or "miners" in story.title.lower()
    ]
    assert sorted(found) == sorted(true)
    assert pages[0]["totalResults"] == len(true) > 100
    world.news.newsapi.max_results = 100
    beyond = ask(world, "/newsapi/v2/everything", page=3, **query)
    assert (beyond.status_code, beyond.json()["code"]) == (426, "maximumResultsReached")
    assert ask(world, "/newsapi/v2/everything", q="bitcoin").json()["code"] == "apiKeyMissing"


def test_gdelt_lists_at_most_250_of_a_stretch(world: FakeWorld) -> None:
    asked = {"query": "bitcoin", "mode": "artlist", "format": "json"}

    def articles(**query: object) -> list[dict[str, str]]:
        return ask(world, "/gdelt/api/v2/doc/doc", **asked, **query).json()["articles"]

    assert len(articles()) == 75
    assert len(articles(maxrecords=1000)) == 250
    stretch = articles(startdatetime="20240501000000", enddatetime="20240503000000", maxrecords=250)
    seen = [datetime.strptime(article["seendate"], "%Y%m%dT%H%M%S%z") for article in stretch]
    assert seen == sorted(seen, reverse=True)
    assert {article["url"] for article in stretch} == {
        story.url
        for story in world.news.truth(seen[-1] - HOUR / 4, datetime(2024, 5, 3, tzinfo=UTC))
        if "bitcoin" in story.title.lower()
    }
    assert articles(timespan="2d", sort="dateasc") == articles(timespan="2d", maxrecords=250)[:-76:-1]
    assert ask(world, "/gdelt/api/v2/doc/doc", **asked, timespan="0h").json() == {}
    assert "too short" in ask(world, "/gdelt/api/v2/doc/doc", query="x").text


# FRED


@pytest.mark.parametrize("series", ["DGS10", "ICSA", "GDPC1"])
def test_fredapi_reads_the_latest_values(world: FakeWorld, series: str) -> None:
    read = fred(world).get_series(series)
    known = world.fred.known_at(series, world.now.date())
    assert [day.date() for day in read.index] == sorted(known)
    assert read.isna().sum() == sum(value == "." for value in known.values())
    assert read.dropna().tolist() == [float(value) for _, value in sorted(known.items()) if value != "."]


@pytest.mark.parametrize("series", ["GDPC1", "CPIAUCSL"])
def test_fredapi_reads_all_releases(world: FakeWorld, series: str) -> None:
    read = fred(world).get_series_all_releases(series)
    assert [(row.date.date(), row.realtime_start.date(), row.value) for row in read.itertuples(index=False)] == [
        (release.date, release.realtime_start, float(release.value)) for release in world.fred.truth(series)
    ]
    vintages = fred(world).get_series_vintage_dates(series)
    assert [day.date() for day in vintages] == sorted({release.realtime_start for release in world.fred.truth(series)})


@pytest.mark.parametrize("series", ["DGS10", "ICSA", "CPIAUCSL", "PAYEMS", "GDPC1", "DFF"])
def test_a_day_publishes_one_value_of_a_period_and_a_new_one(world: FakeWorld, series: str) -> None:
    truth = world.fred.truth(series)
    assert len({release[:2] for release in truth}) == len(truth)
    for release, following in pairwise(truth):
        assert release.date != following.date or release.value != following.value


def test_series_are_revised_as_theirs_are(world: FakeWorld) -> None:
    by_vintage = Counter(release.realtime_start for release in world.fred.truth("PAYEMS"))
    assert max(by_vintage.values()) > 200, "a benchmark changes hundreds of months"
    quarter = date(2023, 10, 1)
    releases = [release for release in world.fred.truth("GDPC1") if release.date == quarter]
    assert 2 <= len(releases) <= 3
    values = {}
    for release in world.fred.truth("CPIAUCSL"):
        values.setdefault(release.date, []).append(release.value)
    assert any(values[0] == values[2] for values in values.values() if len(values) >= 3), "from A to B and back"
    assert len({release.realtime_start for release in world.fred.truth("DFF")}) > 4100
    assert fred(world).get_series_info("PAYEMS")["frequency_short"] == "M"


def test_more_than_2000_vintages_are_refused(world: FakeWorld) -> None:
    with pytest.raises(ValueError, match=r"exceeds the maximum number of vintage dates allowed \(2000\)"):
        fred(world).get_series_all_releases("DFF")


def test_validity_is_cut_to_the_real_time_period(world: FakeWorld) -> None:
    start, end = date(2020, 1, 10), date(2022, 3, 1)
    read = ask(
        world,
        "/fred/series/observations",
        series_id="CPIAUCSL",
        api_key=KEY,
        file_type="json",
        realtime_start=start,
        realtime_end=end,
    ).json()["observations"]
    assert {row["realtime_start"] for row in read if row["date"] < "2015-01-01"} >= {str(start)}
    assert all(str(start) <= row["realtime_start"] <= row["realtime_end"] <= str(end) for row in read)
    for day in (start, date(2021, 2, 20), end):
        shown = {
            date.fromisoformat(row["date"]): row["value"]
            for row in read
            if row["realtime_start"] <= str(day) <= row["realtime_end"]
        }
        assert shown == world.fred.known_at("CPIAUCSL", day)


def test_observations_and_vintages_are_paged(world: FakeWorld) -> None:
    world.fred.max_observations = world.fred.max_vintage_dates = 50
    about = {"series_id": "GDPC1", "api_key": KEY, "file_type": "json"}
    pages = [ask(world, "/fred/series/observations", **about, offset=offset).json() for offset in (0, 50)]
    assert [len(page["observations"]) for page in pages] == [50, pages[0]["count"] - 50]
    vintages = ask(world, "/fred/series/vintagedates", **about, limit=7, offset=5, realtime_end="2010-01-01").json()
    true = sorted({release.realtime_start for release in world.fred.truth("GDPC1")})
    assert vintages["vintage_dates"] == [str(day) for day in true[5:12]]
    assert vintages["count"] == sum(day <= date(2010, 1, 1) for day in true)
    assert ask(world, "/fred/series/observations", **about, limit=51).status_code == 400


def test_series_without_an_archive_have_a_present_only(world: FakeWorld) -> None:
    client = fred(world)
    with pytest.raises(ValueError, match="does not exist in ALFRED but may exist in FRED"):
        client.get_series_all_releases("DGS10")
    with pytest.raises(ValueError, match="does not exist in ALFRED"):
        client.get_series_vintage_dates("DGS10")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"series_id": "GDPC1"}, "api_key is not set"),
        ({"series_id": "GDPC1", "api_key": "short"}, "not a 32 character"),
        ({"series_id": "NOPE", "api_key": KEY}, "The series does not exist."),
        ({"series_id": "GDPC1", "api_key": KEY, "realtime_start": "soon"}, "realtime_start is not a YYYY-MM-DD date"),
    ],
)
def test_fred_refuses_with_400(world: FakeWorld, query: dict[str, str], message: str) -> None:
    as_xml = ask(world, "/fred/series/observations", **query)
    as_json = ask(world, "/fred/series/observations", **query, file_type="json")
    assert as_xml.status_code == as_json.status_code == 400
    assert as_xml.text.startswith("<?xml")
    assert message in as_xml.text
    assert message in as_json.json()["error_message"]


def test_nothing_is_released_before_its_time(world: FakeWorld) -> None:
    day = world.fred.truth("ICSA")[-1].realtime_start
    world.now = datetime(day.year, day.month, day.day, 13, 29, tzinfo=UTC)
    assert world.fred.truth("ICSA")[-1].realtime_start < day
    world.advance(timedelta(minutes=1))
    assert max(release.realtime_start for release in world.fred.truth("ICSA")) == day


def test_fredgraph_needs_no_key(world: FakeWorld) -> None:
    now = ask(world, "/fredgraph/fredgraph.csv", id="ICSA").text.splitlines()
    old = ask(world, "/fredgraph/fredgraph.csv", id="CPIAUCSL", vintage_date="2015-01-01", cosd="2014-01-01").text
    known = world.fred.known_at("CPIAUCSL", date(2015, 1, 1))
    assert now[0] == "observation_date,ICSA"
    assert any(line.endswith(",") for line in now), "a withdrawn value is empty"
    assert old.splitlines() == [
        "observation_date,CPIAUCSL_20150101",
        *(f"{day},{value}" for day, value in sorted(known.items()) if day >= date(2014, 1, 1)),
    ]
    assert ask(world, "/fredgraph/fredgraph.csv", id="NOPE").status_code == 404


# The world


def test_the_same_seed_and_now_give_the_same_world() -> None:
    paths = (
        "/binance/api/v3/klines?symbol=BTCUSDT&interval=15m",
        "/kraken/0/public/Trades?pair=XBTUSD",
        "/bitstamp/api/v2/order_book/btcusd/",
        "/news/feed.atom",
        "/gdelt/api/v2/doc/doc?query=bitcoin&mode=artlist&format=json",
        f"/fred/series/observations?series_id=PAYEMS&api_key={KEY}",
    )

    def seen(seed: int, now: datetime) -> list[bytes]:
        with FakeWorld(seed, now) as world:
            return [requests.get(world.url + path, timeout=10).content for path in paths]

    now = DEFAULT_NOW
    first = seen(7, now)
    assert seen(7, now) == first
    assert all(other != body for other, body in zip(seen(8, now), first, strict=True))
    assert all(other != body for other, body in zip(seen(7, now + 40 * DAY), first, strict=True))


def test_a_world_can_follow_the_real_time() -> None:
    with FakeWorld(now=None) as world:
        before = datetime.now(UTC)
        assert before <= world.now <= datetime.now(UTC)
        assert world.reddit.truth("Bitcoin", before - DAY, before)


def test_a_world_listens_only_while_it_is_open() -> None:
    world = FakeWorld()
    assert world.exchange.truth("kraken", "BTC/USD", "1d", world.now - 3 * DAY, world.now)
    with pytest.raises(RuntimeError, match="with statement"):
        _ = world.url
