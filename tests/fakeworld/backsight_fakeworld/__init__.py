"""A world on loopback that the real clients of exchanges, Reddit, news and FRED talk to, with scripted faults.

    with FakeWorld(seed=7) as world:
        world.fault("/kraken/0/public/OHLC", Fault.too_many_requests(2))
        ...
        world.exchange.truth("kraken", "BTC/USD", "1h", since, until)

Nothing in it is real, and nothing of it is shipped.
"""

from backsight_fakeworld.exchange import Gap
from backsight_fakeworld.faults import BY_NAME, Fault
from backsight_fakeworld.urls import ccxt_urls, praw_urls
from backsight_fakeworld.world import DEFAULT_NOW, FakeWorld, Hit

__all__ = ["BY_NAME", "DEFAULT_NOW", "FakeWorld", "Fault", "Gap", "Hit", "ccxt_urls", "praw_urls"]
