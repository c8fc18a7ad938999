"""Files of other venues, periods and versions than those at hand, through the layouts that come with backsight."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from backsight_features.lake import Lake
from backsight_features.schemas import BARS, MACRO, NEWS, POSTS, REACTIONS
from backsight_ingest.layouts import load
from backsight_ingest.pull import pull

NOW = datetime(2026, 9, 1, tzinfo=UTC)
JANUARY = datetime(2025, 1, 1, tzinfo=UTC)
KLINE = "2,4,1,3,10,{end},30,7,5,15,0"
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
CDD = "https://www.CryptoDataDownload.com"


def read(folder: Path, layout: str, name: str, *rows: str, **settings: str) -> list[dict[str, Any]]:
    """Return the facts of a file, of which every row has to be one, in order of time."""
    path = folder / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    lake = Lake(folder / "lake")
    (account,), _ = pull(lake, load(layout), [path], settings=settings, now=NOW, tell=lambda _: None)
    assert account.error is None, account.error
    assert (account.read, account.quarantined) == (account.accepted, 0)
    return lake.scan(load(layout).table).sort("observed_at").collect().to_dicts()


# layout, file, settings, rows, venue:symbol:timeframe, close of the first bar
BAR_FILES = [
    (
        "binance-klines",
        "BTCUSDT-1h-2024-12.csv",
        {},
        [f"1735689600000,{KLINE}"],
        "binance:BTC-USDT:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "binance-klines",  # from 2025 on in microseconds
        "1000SATSUSDC-1d-2025-01.csv",
        {},
        [f"1735689600000000,{KLINE}"],
        "binance:1000SATS-USDC:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "binance-futures-klines",
        "um/ETHUSDT-4h-2025-01.csv",
        {},
        [KLINE_HEADER, f"1735689600000,{KLINE}"],
        "binance:ETH-PERP:4h",
        datetime(2025, 1, 1, 4, tzinfo=UTC),
    ),
    (
        "binance-futures-klines",  # older files have no header
        "um/ETHUSDT-4h-2020-01.csv",
        {},
        [f"1735689600000,{KLINE}", f"1735704000000,{KLINE}"],
        "binance:ETH-PERP:4h",
        datetime(2025, 1, 1, 4, tzinfo=UTC),
    ),
    (
        "kraken-ohlcvt",
        "XBTUSD_60.csv",
        {},
        ["1735689600,2,4,1,3,10,7"],
        "kraken:BTC-USD:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "kraken-ohlcvt",
        "ETHXBT_1440.csv",
        {},
        ["1735689600,2,4,1,3,10,7"],
        "kraken:ETH-BTC:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "ccxt",
        "bybit_BTC_USDT-5m.csv",
        {"venue": "Bybit"},
        ["timestamp,open,high,low,close,volume", "1735689600000,2,4,1,3,10"],
        "bybit:BTC-USDT:5m",
        datetime(2025, 1, 1, 0, 5, tzinfo=UTC),
    ),
    (
        "ccxt",
        "candles.csv",
        {"venue": "okx", "base": "SOL", "quote": "USD", "timeframe": "1d"},
        ["1735689600000,2,4,1,3,10"],
        "okx:SOL-USD:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "cryptodatadownload",
        "Binance_ETHUSDT_1h.csv",
        {},
        [
            f"{CDD},,,,,,,,,",
            "Unix,Date,Symbol,Open,High,Low,Close,Volume ETH,Volume USDT,tradecount",
            "1735689600000,2025-01-01 00:00:00,ETHUSDT,2,4,1,3,10,25,7",
        ],
        "binance:ETH-USDT:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "cryptodatadownload",  # seconds and milliseconds in one file
        "Gemini_ETHUSD_1h.csv",
        {},
        [
            CDD,
            "unix,date,symbol,open,high,low,close,Volume ETH,Volume USD",
            "1735693200,2025-01-01 01:00:00,ETH/USD,2,4,1,3,10,25",
            "1735689600000,2025-01-01 00:00:00,ETH/USD,2,4,1,3,10,25",
        ],
        "gemini:ETH-USD:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "cryptodatadownload",
        "gemini_BTCUSD_2025_1min.csv",
        {},
        [
            CDD,
            "Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume",
            "1735689600000,2025-01-01 00:00:00,BTCUSD,2,4,1,3,10",
        ],
        "gemini:BTC-USD:1m",
        datetime(2025, 1, 1, 0, 1, tzinfo=UTC),
    ),
    (
        "bitfinex-1m",
        "tETHUSD.csv",
        {"timeframe": "1h"},
        ["1735689600000,2,3,4,1,10"],
        "bitfinex:ETH-USD:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "coinbase-candles",
        "ETH-EUR_1h.csv",
        {},
        ["time,low,high,open,close,volume", "1735689600,1,4,2,3,10"],
        "coinbase:ETH-EUR:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
    (
        "binance-1h",
        "ETHUSDT_D1.csv",
        {"timeframe": "1d"},
        ["datetime,open,high,low,close,volume", "2025-01-01,2,4,1,3,10"],
        "binance:ETH-USDT:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "perp-1m",
        "eth-perp.csv",
        {"venue": "deribit", "timeframe": "5m"},
        ["timestamp,open,high,low,close,volume", "2025-01-01 00:05:00,2,4,1,3,10"],
        "deribit:ETH-PERP:5m",
        datetime(2025, 1, 1, 0, 5, tzinfo=UTC),
    ),
    (
        "yahoo-1d",
        "ETH-USD.csv",
        {},
        [
            "Date,Open,High,Low,Close,Volume,Dividends,Stock Splits",
            "2025-01-01 00:00:00+00:00,2,4,1,3,10,0.0,0.0",
        ],
        "yahoo:ETH-USD:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "yfinance-1d",
        "prices.csv",
        {},
        [
            "Price,Close,High,Low,Open,Volume",
            "Ticker,ETH-USD,ETH-USD,ETH-USD,ETH-USD,ETH-USD",
            "Date,,,,,",
            "2025-01-01,3,4,1,2,10",
        ],
        "yahoo:ETH-USD:1d",
        datetime(2025, 1, 2, tzinfo=UTC),
    ),
    (
        "yfinance-1h",
        "prices.csv",
        {},
        [
            "Price,Close,High,Low,Open,Volume",
            "Ticker,ETH-USD,ETH-USD,ETH-USD,ETH-USD,ETH-USD",
            "Datetime,,,,,",
            "2025-01-01 00:00:00+00:00,3,4,1,2,10",
        ],
        "yahoo:ETH-USD:1h",
        datetime(2025, 1, 1, 1, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(
    ("layout", "name", "settings", "rows", "series", "closes"), BAR_FILES, ids=[f"{f[0]}:{f[1]}" for f in BAR_FILES]
)
def test_a_bar_is_told_apart_by_its_file(
    tmp_path: Path, layout: str, name: str, settings: dict[str, str], rows: list[str], series: str, closes: datetime
) -> None:
    bar = read(tmp_path, layout, name, *(row.format(end="0") for row in rows), **settings)[0]
    assert load(layout).table is BARS
    assert f"{bar['venue']}:{bar['symbol']}:{bar['timeframe']}" == series
    assert bar["observed_at"] == closes
    assert [bar[name] for name in ("open", "high", "low", "close")] == [2, 4, 1, 3]
    assert 10 in (bar["volume"], bar["quote_volume"])


def test_a_contract_with_an_expiry_is_no_perpetual(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT_250328-1h-2025-01.csv"
    path.write_text(f"1735689600000,{KLINE.format(end='0')}\n")
    lake = Lake(tmp_path / "lake")
    (account,), _ = pull(lake, load("binance-futures-klines"), [path], settings={}, now=NOW, tell=lambda _: None)
    assert "give --set base=" in str(account.error)


@pytest.mark.parametrize(
    ("layout", "name", "rows"),
    [
        ("fear-greed", "fng.csv", ["date,value,value_classification", "2025-01-01,70,Greed"]),
        ("fear-greed", "fng.csv", ["timestamp,value,value_classification", "1735689600,70,Greed"]),
        (
            "fear-greed-api",
            "fng.json",
            [
                '{"name": "Fear and Greed Index", "data": [{"value": "70", "value_classification": "Greed",',
                '"timestamp": "1735689600", "time_until_update": "100"}], "metadata": {"error": null}}',
            ],
        ),
    ],
)
def test_fear_and_greed_is_known_at_the_end_of_its_day(tmp_path: Path, layout: str, name: str, rows: list[str]) -> None:
    (fact,) = read(tmp_path, layout, name, *rows)
    assert (fact["series"], fact["value"], fact["observed_at"]) == ("FNG", 70, JANUARY)
    assert fact["available_at"] == datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("layout", "name", "header"),
    [
        ("fred-snapshot", "fredgraph.csv", "observation_date,DGS2"),
        ("fred-snapshot", "DGS2.csv", "DATE,DGS2"),
        ("fred-date-value", "DGS2.csv", "date,value"),
    ],
)
def test_a_series_of_fred_is_named_by_its_header_or_its_file(
    tmp_path: Path, layout: str, name: str, header: str
) -> None:
    first, gap = read(tmp_path, layout, name, header, "2025-01-02,4.25", "2025-01-03,.")
    assert load(layout).table is MACRO
    assert (first["series"], first["units"], first["value"], gap["value"]) == ("DGS2", "lin", 4.25, None)
    assert first["available_at"] == datetime(2025, 1, 4, 5, tzinfo=UTC)  # the next business day, at its end


def test_a_file_called_as_fred_calls_it_is_read_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "fredgraph (3).csv").write_text("observation_date,UNRATE\n2025-05-01,4.2\n")
    lake = Lake(tmp_path / "lake")
    (account,), skipped = pull(
        lake, load("fred-snapshot"), [tmp_path / "in"], settings={}, now=NOW, tell=lambda _: None
    )
    assert (account.accepted, skipped) == (1, [])


NEWS_FILES = [
    (
        "news-published",
        "bitcoin_news_2026-07-01_10-00.csv",
        "datetime,headline,summary,source,url,categories,tags,api_source",
        "2026-07-01T12:00:00+02:00,Up,,A,https://a.org/1,x,y,z",
        datetime(2026, 7, 1, 10, tzinfo=UTC),
    ),
    (
        "cryptonews",
        "cryptonews_2024.csv",
        "date;sentiment;source;subject;text;title;url",
        "1-7-2026 10:00;{};A;btc;;Up;https://a.org/1",
        datetime(2026, 7, 1, 10, tzinfo=UTC),
    ),
    (
        "cryptonews-commas",
        "cryptonews.csv",
        "date,sentiment,source,subject,text,title,url",
        "2026-07-01 10:00:00,\"{'class': 'neutral'}\",A,btc,,Up,https://a.org/1",
        datetime(2026, 7, 1, 10, tzinfo=UTC),
    ),
]


@pytest.mark.parametrize(("layout", "name", "header", "row", "published"), NEWS_FILES, ids=[f[0] for f in NEWS_FILES])
def test_news_without_a_sighting_are_known_an_hour_later(
    tmp_path: Path, layout: str, name: str, header: str, row: str, published: datetime
) -> None:
    (article,) = read(tmp_path, layout, name, header, row)
    assert load(layout).table is NEWS
    assert (article["title"], article["publisher"], article["observed_at"]) == ("Up", "A", published)
    assert article["available_at"] == datetime(2026, 7, 1, 11, tzinfo=UTC)
    assert article["available_at_estimated"]


SUBMISSION: dict[str, Any] = {
    "id": "abc", "subreddit": "Bitcoin", "title": "Up", "selftext": "and away", "url": "https://a.org/1", "score": 7,
    "num_comments": 3, "edited": False, "author": None, "all_awardings": [{"count": 1}], "removed_by_category": None,
}  # fmt: skip
CREATED = 1735689600  # 2025-01-01


@pytest.mark.parametrize(
    ("layout", "name", "fields", "known", "counted"),
    [
        # When it was retrieved stands under three names; when it was made may be text.
        ("pushshift", "RS_2015-01.zst", {"created_utc": str(CREATED), "retrieved_on": CREATED + 9}, 3600, 9),
        ("pushshift", "RS_2023-01.zst", {"created_utc": CREATED, "retrieved_utc": CREATED + 9}, 3600, 9),
        (
            "pushshift",
            "RS_v2_2009-01.zst",
            {"created_utc": CREATED, "retrieved_on": CREATED + 9, "edited": CREATED + 60.0},
            3660,
            9,
        ),
        ("arctic-shift", "RS_2023-05.zst", {"created_utc": CREATED, "retrieved_on": CREATED + 9}, 3600, 9),
        (
            "arctic-shift",
            "Bitcoin_submissions.zst",
            {"created_utc": CREATED, "retrieved_on": CREATED + 9, "_meta": {"retrieved_2nd_on": CREATED + 130_000}},
            3600,
            130_000,
        ),
        (
            "arctic-shift",
            "r_bitcoin_posts.jsonl",
            {
                "created_utc": CREATED,
                "retrieved_on": CREATED + 9,
                "_meta": {"was_initially_deleted": True, "retrieved_2nd_on": CREATED + 130_000},
            },
            133_600,
            130_000,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_dump_of_reddit_says_what_was_known_when(
    tmp_path: Path, layout: str, name: str, fields: dict[str, Any], known: int, counted: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    text = (json.dumps({**SUBMISSION, **fields}) + "\n").encode()
    (folder / name).write_bytes(zstandard.compress(text) if name.endswith(".zst") else text)
    lake = Lake(tmp_path / "lake")
    for kind in ("posts", "counts"):
        (account,), skipped = pull(lake, load(f"{layout}-{kind}"), [folder], settings={}, now=NOW, tell=lambda _: None)
        assert (account.error, account.accepted, skipped) == (None, 1, [])
    (post,) = lake.scan(POSTS).collect().to_dicts()
    assert (post["site"], post["channel"], post["id"], post["text"]) == ("reddit", "bitcoin", "abc", "and away")
    assert post["observed_at"] == JANUARY
    assert post["available_at"] == JANUARY + timedelta(seconds=known)
    assert post["available_at_estimated"]
    (reaction,) = lake.scan(REACTIONS).collect().to_dicts()
    assert (reaction["id"], reaction["score"], reaction["comments"]) == ("abc", 7, 3)
    assert reaction["observed_at"] == reaction["available_at"] == JANUARY + timedelta(seconds=counted)
    assert not reaction["available_at_estimated"]


def test_answers_of_newsapi_are_known_an_hour_after_publication(tmp_path: Path) -> None:
    article = {
        "source": {"id": None, "name": "Wire"}, "author": "Me", "title": "Up", "description": "Again",
        "content": "A […]", "url": "https://a.org/1", "urlToImage": None, "publishedAt": "2025-01-01T10:00:00Z",
    }  # fmt: skip
    answer = {
        "status": "ok",
        "totalResults": 2,
        "articles": [article, {**article, "url": "https://a.org/2", "source": None}],
    }
    first, second = read(tmp_path, "newsapi", "newsapi-btc.json", json.dumps(answer))
    assert (first["publisher"], first["title"], first["text"]) == ("Wire", "Up", "Again")
    assert first["available_at"] == datetime(2025, 1, 1, 11, tzinfo=UTC)
    assert first["available_at_estimated"]
    assert second["publisher"] is None


def test_answers_of_gdelt_are_known_when_gdelt_saw_the_article(tmp_path: Path) -> None:
    article = {
        "url": "https://a.org/1", "url_mobile": "", "title": "Up", "seendate": "20250101T101500Z", "socialimage": "",
        "domain": "a.org", "language": "English", "sourcecountry": "United States",
    }  # fmt: skip
    (fact,) = read(tmp_path, "gdelt-doc", "gdelt.json", json.dumps({"articles": [article]}))
    assert (fact["publisher"], fact["title"], fact["text"]) == ("a.org", "Up", None)
    assert fact["observed_at"] == fact["available_at"] == datetime(2025, 1, 1, 10, 15, tzinfo=UTC)
    assert not fact["available_at_estimated"]
