"""``backsight pull``, ``quarantine`` and ``runs``: dumps into the lake, what was set aside, and the accounts."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from backsight_features.errors import BadInput
from backsight_features.options import JOB, JSON
from backsight_features.workspace import Workspace

from backsight_ingest.macro_cli import macro
from backsight_ingest.news_cli import news
from backsight_ingest.output import fail, print_accounts, print_json, show_frame, table
from backsight_ingest.prices_cli import books, prices
from backsight_ingest.reddit_cli import reddit

if TYPE_CHECKING:
    from backsight_ingest.accounts import Account

_SHOWN: Final = 400
"""Characters of an original text that a table shows; JSON has it all."""


@click.group()
def pull() -> None:
    """Read facts into the lake. A second pull of the same changes nothing.

    \b
      backsight pull dump --layout binance-1h BTCUSDT_1h.csv.gz
      backsight pull prices --exchange binance --symbol BTC/USDT
    """


@pull.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--layout", metavar="NAME|FILE.toml", help="How the files are read; --layouts names those shipped.")
@click.option("--layouts", "listed", is_flag=True, help="List the shipped layouts and stop.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="What the files do not say; repeatable.")
@JSON
@click.pass_obj
def dump(
    workspace: Workspace,
    paths: tuple[Path, ...],
    layout: str | None,
    listed: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Read files and folders that were downloaded: csv, JSON lines or JSON, plain, compressed or in archives.

    Each file stands for itself: if one cannot be read, the others are, and the exit code tells.

    \b
      backsight pull dump --layout binance-1h BTCUSDT_1h.csv.gz
      backsight pull dump --layout perp-1m --set venue=deribit btc-perp.csv
    """
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.layouts import load, shipped
    from backsight_ingest.pull import pull as read

    if listed:
        table(["layout", "kind", "reads"], [[n, load(n).kind, load(n).about] for n in shipped()])
        return
    if layout is None or not paths:
        raise click.UsageError("give --layout and at least one file or folder; --layouts names the shipped ones")
    with _progress() as tell:
        accounts, skipped = read(
            Lake(workspace.lake), load(layout), paths, settings=_settings(settings), now=utc_now(), tell=tell
        )
    passed_over = [*skipped, *(name for account in accounts for name in account.skipped)]
    if as_json:
        print_json({"files": [account.as_dict() for account in accounts], "skipped": passed_over})
    else:
        print_accounts(accounts, "file")
        for name in passed_over:
            click.echo(f"skipped {name}: nothing for layout {layout}", err=True)
    fail(accounts)


@click.group()
def quarantine() -> None:
    """Rows that broke a rule: what they are, why, and another try after a fix.

    \b
      backsight quarantine list
      backsight quarantine show --layout binance-1h --reason "not a number"
      backsight quarantine show --job prices:kraken:BTC-USD:1h
      backsight quarantine replay --layout my-layout.toml
    """


@quarantine.command("list")
@JOB
@JSON
@click.pass_obj
def list_(workspace: Workspace, jobs: tuple[str, ...], as_json: bool) -> None:
    """Count what waits, by job, layout and reason; files count as a job of their layout."""
    from backsight_features.lake import Lake

    from backsight_ingest.gaps import of_jobs
    from backsight_ingest.quarantine import counts

    found = of_jobs(counts(Lake(workspace.lake)).lazy(), jobs).collect()
    show_frame(found, as_json, "nothing of that is in quarantine" if jobs else "nothing is in quarantine")


@quarantine.command()
@JOB
@click.option("--layout", help="Only what this layout set aside.")
@click.option("--reason", help="Only where the reason has this text in it.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows at most.")
@JSON
@click.pass_obj
def show(
    workspace: Workspace,
    jobs: tuple[str, ...],
    layout: str | None,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show rows that wait, the last set aside first, with their original text."""
    import polars as pl
    from backsight_features.lake import Lake

    from backsight_ingest.gaps import of_jobs
    from backsight_ingest.quarantine import waiting

    rows = of_jobs(waiting(Lake(workspace.lake)), jobs)
    if layout is not None:
        rows = rows.filter(pl.col("layout") == layout)
    if reason is not None:
        rows = rows.filter(pl.col("reason").str.contains(reason, literal=True))
    columns = ["job", "layout", "origin", "row", "ingested_at", "reason", "original"]
    order = ["ingested_at", "batch", "row"]
    found = rows.sort(order, descending=[True, False, False]).select(columns).head(limit).collect()
    found = found.rename({"ingested_at": "set_aside_at"})
    if not as_json:
        # A live job is its own origin, and its rows have no place in a file; and a cell may be as long as a book.
        live, said = pl.col("origin") == pl.col("job"), pl.col("original")
        long = said.str.len_chars() > _SHOWN
        found = found.drop("layout").with_columns(
            *(pl.when(live).then(pl.lit("")).otherwise(pl.col(n).cast(pl.String)).alias(n) for n in ("origin", "row")),
            pl.when(long).then(said.str.head(_SHOWN) + "…").otherwise(said).alias("original"),
        )
    show_frame(found, as_json, "nothing of that is in quarantine")


@quarantine.command()
@JOB
@click.option("--layout", metavar="NAME|FILE.toml", help="Read through this layout instead of the recorded ones.")
@JSON
@click.pass_obj
def replay(workspace: Workspace, jobs: tuple[str, ...], layout: str | None, as_json: bool) -> None:
    """Read what waits once more, through its layout as it is now."""
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.gaps import chooser
    from backsight_ingest.quarantine import replay as again

    done = list(again(Lake(workspace.lake), now=utc_now(), layout=layout, wanted=chooser(jobs)))
    if as_json:
        print_json([each.as_dict() for each in done])
    else:
        rows = [[each.origin, each.read, each.accepted, each.duplicate, each.quarantined] for each in done]
        table(["file or job", "read", "accepted", "duplicate", "still in quarantine"], rows)
    fail(done)


@click.command()
@JOB
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Accounts at most.")
@JSON
@click.pass_obj
def runs(workspace: Workspace, jobs: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show the last accounts: what came in, file by file, and of live jobs run by run.

    \b
      backsight runs --json
      backsight runs --job prices:kraken:BTC-USD:1h
    """
    from backsight_features.lake import Lake
    from backsight_features.schemas import RUNS

    from backsight_ingest.gaps import of_jobs
    from backsight_ingest.status import accounts

    rows = of_jobs(accounts(Lake(workspace.lake)), jobs)
    last = rows.sort("started_at", "origin", descending=True).head(limit)
    columns = ["started_at", "verb", "source", "origin", "status", "read", "accepted", "duplicate", "quarantined"]
    show_frame(last.select(list(RUNS.columns) if as_json else columns).collect(), as_json, "nothing was pulled yet")


def _settings(given: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name or not value:
            raise BadInput(f"--set {each!r}: write NAME=VALUE")
        if name in found:
            raise BadInput(f"--set gives {name} twice")
        found[name] = value
    return found


@contextmanager
def _progress() -> Iterator[Callable[["Account"], None]]:
    """Yield what is told of each file as it is read: it shows the rows so far while a person watches."""
    if not sys.stderr.isatty():
        yield lambda account: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("looking for files") as shown:
        yield lambda account: shown.update(
            f"{escape(account.origin)}: {account.read:,} rows, {account.accepted:,} new, "
            f"{account.quarantined:,} in quarantine"
        )


pull.add_command(prices)
pull.add_command(books)
pull.add_command(macro)
pull.add_command(reddit)
pull.add_command(news)
