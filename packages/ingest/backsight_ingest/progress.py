"""How far a verb is, on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int, int, float], None]
"""Told as it goes: texts done, texts to do, texts per second so far."""


@contextmanager
def progress() -> Iterator[Tell | None]:
    """Yield what shows the progress on stderr, None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def tell(done: int, total: int, rate: float) -> None:
            bar.update(task, completed=done, total=total, description=f"{rate:,.0f} texts/s")

        yield tell
