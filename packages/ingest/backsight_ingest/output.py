"""What verbs print: tables for people, one JSON document for scripts, and the errors of accounts."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click
from backsight_features.masking import masked

if TYPE_CHECKING:
    import polars as pl

    from backsight_ingest.accounts import Account


def fail(accounts: Iterable["Account"]) -> None:
    """Print the errors of files, the last one by raising it, which sets the exit code."""
    failed = [account.error for account in accounts if account.error is not None]
    for error in failed[:-1]:
        click.echo(f"error: {masked(' '.join(str(error).split()))}", err=True)
    if failed:
        raise failed[-1]


def print_accounts(accounts: Sequence["Account"], of: str) -> None:
    """Print a table of accounts; ``of`` is what each is about: a file or a job."""
    rows = [[a.origin, a.status, a.read, a.accepted, a.duplicate, a.quarantined] for a in accounts]
    table([of, "status", "read", "accepted", "duplicate", "quarantined"], rows)


def show_frame(frame: "pl.DataFrame", as_json: bool, nothing: str) -> None:
    """Print a frame as JSON or as a table, or ``nothing`` where it is empty."""
    if as_json:
        print_json(frame.to_dicts())
    elif frame.is_empty():
        click.echo(nothing)
    else:
        table(frame.columns, frame.rows())


def print_json(document: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, default=datetime.isoformat))


def lasting(length: timedelta) -> str:
    """Return a length of time for a person, in its two largest units.

    >>> lasting(timedelta(days=3, hours=4, minutes=5))
    '3d 4h'
    """
    seconds = int(length.total_seconds())
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    counts = [(seconds // size % wrap, name) for (name, size), wrap in zip(units, (10**9, 24, 60, 60), strict=True)]
    first = next((i for i, (count, _) in enumerate(counts) if count), len(counts) - 1)
    return " ".join(f"{count}{name}" for count, name in counts[first : first + 2] if count) or "0s"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows for a person; what is piped away keeps a row on a line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, header_style="bold", pad_edge=False)
    rows = list(rows)
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(f"{cell:%Y-%m-%d %H:%M:%S}" if hasattr(cell, "strftime") else str(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 2000).print(shown)
