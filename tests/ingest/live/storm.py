"""The jobs of the kill storm, run once in a process of their own: storm.py HOME URL INSTANT."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from backsight_features.lake import Lake
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.job import Job
from backsight_ingest.live.limiter import Limiter
from backsight_ingest.live.pull import pull
from backsight_ingest.live.retry import Retry
from backsight_ingest.live.web import Web
from backsight_ingest.sources.books import Books
from backsight_ingest.sources.exchange import Exchange
from backsight_ingest.sources.exchange_markets import market
from backsight_ingest.sources.fred import Fred
from backsight_ingest.sources.macro import Macro
from backsight_ingest.sources.news_feeds import Feed
from backsight_ingest.sources.news_gdelt import Gdelt
from backsight_ingest.sources.news_search import Search
from backsight_ingest.sources.prices import Prices
from backsight_ingest.sources.reddit import Subreddit
from backsight_ingest.sources.reddit_client import Client, Credentials

CREDENTIALS = {"REDDIT_CLIENT_ID": "an-id-of-an-app", "REDDIT_CLIENT_SECRET": "a-secret-of-an-app"}
BACKFILL = timedelta(days=2)
MARKETS = (("binance", "BTC/USDT", "1m"), ("kraken", "ETH/USD", "1h"))
SERIES = ("CPIAUCSL", "ICSA")


class Standing(Clock):
    """A clock that stands where the world's stands."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self._now = now

    def now(self) -> datetime:
        return self._now


def jobs(web: Web, lake: Lake) -> list[Job]:
    """Return a job of each kind, of prices, books, news and macro series two."""
    found: list[Job] = []
    for name, symbol, length in MARKETS:
        exchange = Exchange(name, web)
        found.append(Prices(exchange, market(name, symbol), length))
        found.append(Books(exchange, market(name, symbol)))
    client = Client(web, Credentials.read(CREDENTIALS))
    found.append(Subreddit(lake, web, client, "bitcoin", recheck=timedelta(days=2), tell=lambda line: None))
    found += [Feed(web, "https://wire.example/feed.rss"), Search(web, Gdelt(web), "bitcoin")]
    fred = Fred("k" * 32, web)
    found += [Macro(series, fred, lake, web.clock, cadence=timedelta(days=1)) for series in SERIES]
    return found


def main() -> None:
    home, url, now = Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
    clock, lake = Standing(now), Lake(home / "lake")
    web = Web(
        clock=clock,
        retry=Retry(clock),
        limiter=Limiter(clock),
        interval=timedelta(microseconds=1),
        endpoint=url,
    )
    prices, others = [], []
    for job in jobs(web, lake):
        (prices if isinstance(job, Prices) else others).append(job)
    print("begun", flush=True)
    accounts = pull(lake, prices, locks=home / "locks", clock=clock, since=now - BACKFILL)
    accounts += pull(lake, others, locks=home / "locks", clock=clock)
    for account in accounts:
        if account.error is not None:
            raise account.error


if __name__ == "__main__":
    main()
