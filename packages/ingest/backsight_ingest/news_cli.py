"""``backsight pull news``: articles of feeds, of NewsAPI and of GDELT."""

import os
from typing import TYPE_CHECKING

import click
from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

from backsight_ingest.live_cli import Run, execute, live

if TYPE_CHECKING:
    from backsight_ingest.live.job import Job
    from backsight_ingest.live.web import Web


@click.command()
@click.option("--feed", "feeds", multiple=True, metavar="URL", help="An RSS or Atom feed; repeatable.")
@click.option("--newsapi", multiple=True, metavar="QUERY", help="A search in NewsAPI; repeatable.")
@click.option("--gdelt", multiple=True, metavar="QUERY", help="A search in GDELT, which needs no key; repeatable.")
@live
@click.pass_obj
def news(
    workspace: Workspace, run: Run, feeds: tuple[str, ...], newsapi: tuple[str, ...], gdelt: tuple[str, ...]
) -> None:
    """Read articles as they come out, known from when they are first seen here.

    A feed lists its last articles only: what a pull comes too late for is in `backsight gaps`. NewsAPI needs a key in
    NEWSAPI_KEY. The two archives can be asked for the past with --since. `backsight link` then finds which articles
    tell the same.

    \b
      backsight pull news --feed https://www.coindesk.com/arc/outboundfeeds/rss
      backsight pull news --gdelt '(bitcoin OR ethereum) sourcelang:english' --since 2024-01-01
    """
    if not (feeds or newsapi or gdelt):
        raise click.UsageError("give --feed, --newsapi or --gdelt")
    if feeds and (run.since or run.until):
        raise BadInput("a feed has no past to ask for; leave out --feed, or --since and --until")

    def jobs(web: "Web") -> "list[Job]":
        from backsight_ingest.sources.news_search import Archive, Search

        found: list[Job] = []
        if feeds:
            from backsight_ingest.sources.news_feeds import Feed

            found += [Feed(web, url) for url in feeds]
        archives: list[tuple[Archive, tuple[str, ...]]] = []
        if newsapi:
            from backsight_ingest.sources.news_newsapi import NewsApi

            archives.append((NewsApi(web, os.environ), newsapi))
        if gdelt:
            from backsight_ingest.sources.news_gdelt import Gdelt

            archives.append((Gdelt(web), gdelt))
        found += [Search(web, archive, query) for archive, queries in archives for query in queries]
        return list({job.name: job for job in found}.values())

    execute(workspace, run, jobs)
