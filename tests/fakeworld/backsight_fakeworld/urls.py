"""Where clients find the world.

=================  ====================================================================================================
ccxt               ``exchange.urls["api"] = ccxt_urls(exchange.urls["api"], f"{world.url}/{exchange.id}")``
praw               ``praw.Reddit(..., **praw_urls(world.url), check_for_updates=False)``
fredapi            ``root_url`` of a subclass: ``f"{world.url}/fred"``
feeds              ``/news/feed.rss``, ``/news/feed.atom``
NewsAPI, GDELT     ``/newsapi/v2/everything``, ``/gdelt/api/v2/doc/doc``
fredgraph          ``/fredgraph/fredgraph.csv``
=================  ====================================================================================================
"""

from typing import Any
from urllib.parse import urlsplit, urlunsplit


def ccxt_urls(api: Any, base: str) -> Any:
    """Return ``urls["api"]`` of an exchange with the scheme and host of each URL replaced, and its path kept.

    >>> ccxt_urls({"public": "https://api.example.com/api/v3"}, "http://127.0.0.1:8080/binance")
    {'public': 'http://127.0.0.1:8080/binance/api/v3'}
    """
    if isinstance(api, dict):
        return {name: ccxt_urls(url, base) for name, url in api.items()}
    here, there = urlsplit(base), urlsplit(api)
    return urlunsplit((here.scheme, here.netloc, here.path.rstrip("/") + there.path, there.query, ""))


def praw_urls(url: str) -> dict[str, str]:
    """Return the URLs of Reddit; the one for requests needs the slash, as praw puts relative paths behind it."""
    return {"reddit_url": f"{url}/reddit", "oauth_url": f"{url}/reddit/"}
