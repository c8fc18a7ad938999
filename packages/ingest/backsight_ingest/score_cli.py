"""``backsight score``: how positive, negative or neutral the texts of the lake are."""

import json

import click
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

from backsight_ingest.evaluate_cli import evaluate
from backsight_ingest.progress import progress
from backsight_ingest.scorer_options import Choice, scorer_options


@click.group(invoke_without_command=True)
@scorer_options
@JSON
@click.pass_context
def score(context: click.Context, choice: Choice, as_json: bool) -> None:
    """Score every text of posts and news that this scorer has not scored yet.

    A run that was stopped goes on where it was. Scores of other scorers stay.

    \b
      backsight score --scorer sentfin-tiny-bert
      backsight score --model ProsusAI/finbert --revision COMMIT --weights-sha256 HEX
      backsight score --model models/finbert-onnx
    """
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.locks import alone
    from backsight_ingest.scoring.engine import score as run

    workspace = context.find_object(Workspace)
    assert workspace is not None
    scorer = choice.open(workspace)
    with alone(workspace.root / "locks", f"score:{scorer.name}"), progress() as tell:
        done = run(Lake(workspace.lake), scorer, now=utc_now(), tell=tell)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    rate = f" ({done.scored / done.seconds:,.0f} texts/s)" if done.scored and done.seconds else ""
    click.echo(
        f"{done.scorer}@{done.revision}: {done.scored} texts scored{rate}, {done.known} scored before "
        f"({done.moved} of them known earlier than thought), {done.unreadable} not in English or without a word; "
        f"{done.skipped} posts and articles without a text"
    )


score.add_command(evaluate)
