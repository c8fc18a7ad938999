"""``backsight score``: how positive, negative or neutral the texts of the lake are."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from backsight_features.errors import BadInput
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_ingest.scoring.engine import Tell
    from backsight_ingest.scoring.scorer import Scorer


@click.command()
@click.option("--scorer", type=click.Choice(["lexicon-standin"]), help="A word list for trials; no language model.")
@click.option("--model", metavar="ID|FOLDER", help="A text classifier: a hub's id with --revision, or a local folder.")
@click.option("--revision", metavar="COMMIT", help="The whole commit of the hub's model, 40 hex digits.")
@click.option("--weights-sha256", metavar="HEX", help="Pins the hub's weights; needed where they are a pickle (.bin).")
@JSON
@click.pass_obj
def score(
    workspace: Workspace,
    scorer: str | None,
    model: str | None,
    revision: str | None,
    weights_sha256: str | None,
    as_json: bool,
) -> None:
    """Score every text of posts and news that this scorer has not scored yet.

    A run that was stopped goes on where it was. Scores of other scorers stay.

    \b
      backsight score --scorer lexicon-standin
      backsight score --model ProsusAI/finbert --revision COMMIT --weights-sha256 HEX
      backsight score --model models/finbert-onnx
    """
    if (scorer is None) == (model is None):
        raise click.UsageError("give either --scorer or --model")
    if scorer is not None and (revision is not None or weights_sha256 is not None):
        raise click.UsageError("--revision and --weights-sha256 belong to --model")
    from dataclasses import asdict

    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.scoring.engine import score as run

    chosen = _scorer(workspace, model, revision, weights_sha256)
    with _progress() as tell:
        done = run(Lake(workspace.lake), chosen, now=utc_now(), tell=tell)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    rate = f" ({done.scored / done.seconds:,.0f} texts/s)" if done.scored and done.seconds else ""
    click.echo(
        f"{done.scorer}@{done.revision}: {done.scored} texts scored{rate}, {done.known} scored before "
        f"({done.moved} of them known earlier than thought), {done.skipped} without a text"
    )


def _scorer(workspace: Workspace, model: str | None, revision: str | None, weights_sha256: str | None) -> "Scorer":
    if model is None:
        from backsight_ingest.scoring.lexicon import LexiconStandIn

        return LexiconStandIn()
    from backsight_ingest.scoring.models import from_folder, from_hub

    cache = workspace.root / "scorers"
    folder = Path(model)
    if folder.is_dir():
        if revision is not None or weights_sha256 is not None:
            raise BadInput(f"{model} is a folder, pinned by its content; leave out --revision and --weights-sha256")
        return from_folder(folder, cache=cache)
    if revision is None:
        raise BadInput(f"{model} is no folder here; for a model of a hub give --revision, its whole commit")
    return from_hub(model, revision, cache=cache, weights_sha256=weights_sha256)


@contextmanager
def _progress() -> Iterator["Tell | None"]:
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
