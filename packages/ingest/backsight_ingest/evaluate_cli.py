"""``backsight score evaluate``: how good a scorer is on texts that people have labelled."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from backsight_features.errors import BadInput
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

from backsight_ingest.output import print_json, table
from backsight_ingest.progress import progress
from backsight_ingest.scorer_options import Choice, scorer_options

if TYPE_CHECKING:
    from backsight_ingest.scoring.evaluation import Evaluation
    from backsight_ingest.scoring.evaluation_tables import Shown
    from backsight_ingest.scoring.figures import Bin

_WIDE: Final = 30
"""Characters of a bar for 100 %."""


@click.command()
@click.option(
    "--labels",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The labelled texts: .csv, .jsonl, .ndjson (each also .gz) or .parquet.",
)
@click.option("--text", default="text", show_default=True, metavar="COLUMN", help="Column of the texts.")
@click.option("--label", default="label", show_default=True, metavar="COLUMN", help="Column of their labels.")
@click.option("--source", metavar="COLUMN", help="Column that says where a text is from, for figures of each.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures as one page, too."
)
@scorer_options
@JSON
@click.pass_obj
def evaluate(
    workspace: Workspace,
    path: Path,
    text: str,
    label: str,
    source: str | None,
    page: Path | None,
    choice: Choice,
    as_json: bool,
) -> None:
    """Say how good a scorer is on texts that people have labelled positive, negative or neutral.

    Texts are normalised, cut into sentences and scored as those of the lake are; the lake is neither read nor written.

    \b
      backsight score evaluate --labels news.csv --text title --label sentiment --source source --model models/finbert
      backsight score evaluate --labels posts.jsonl --model ProsusAI/finbert --revision COMMIT --html finbert.html
    """
    from backsight_ingest.scoring import evaluation, labelled
    from backsight_ingest.scoring.evaluation_page import html

    if page is not None and not page.parent.is_dir():
        raise BadInput(f"--html {page}: there is no folder {page.parent}")
    texts = labelled.sort_out(labelled.read(path, text=text, label=label, source=source))
    scorer = choice.open(workspace)
    with progress() as tell:
        found = evaluation.evaluate(texts, scorer, tell=tell)
    if page is not None:
        page.write_text(html(found, labels=path.name), encoding="utf-8")
    if as_json:
        print_json({"labels": path.name, **asdict(found)})
    else:
        _show(found, path.name)


def _show(found: "Evaluation", labels: str) -> None:
    from backsight_ingest.scoring import evaluation_tables as tables

    overall = found.overall
    click.echo(f"{found.scorer}@{found.revision} on {labels}; {tables.left_out(found)}")
    click.echo(tables.summary(found))
    for each in (tables.headline(overall), tables.classes(overall), tables.confusion(overall)):
        _print(each)
    calibration = tables.calibration(overall)
    bars = [(*row, _bar(each)) for row, each in zip(calibration.rows, overall.bins, strict=True)]
    _print(replace(calibration, columns=(*calibration.columns, "right, and | the mean probability"), rows=tuple(bars)))
    _print(tables.parts("By length", found.by_length))
    if found.by_source:
        _print(tables.parts("By source", found.by_source))


def _print(shown: "Shown") -> None:
    click.echo(f"\n{click.style(shown.title, bold=True)}")
    table(shown.columns, shown.rows)


def _bar(each: "Bin") -> str:
    """Return a bar as long as predictions are right, and a mark where they would be as often as they say.

    >>> from backsight_ingest.scoring.figures import Bin
    >>> _bar(Bin(above=0.4, upto=0.5, n=9, confidence=0.5, accuracy=0.2))
    '██████        |'
    """
    mark = round(each.confidence * _WIDE) - 1
    bar = "█" * round(each.accuracy * _WIDE)
    return f"{bar[:mark].ljust(mark)}|{bar[mark + 1 :]}"
