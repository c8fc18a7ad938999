"""``backsight audit model``: whether the skill of a bundle survives what no honest skill can."""

from pathlib import Path

import click
from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace


@click.command()
@REPO
@click.argument("bundle")
@click.option("--folds", type=click.IntRange(min=1), default=2, show_default=True, help="Test blocks of each walk.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page there too.")
@JSON
@click.pass_obj
def model(workspace: Workspace, repo: Path, bundle: str, folds: int, html: Path | None, as_json: bool) -> None:
    """Train BUNDLE, a name or a folder, again on what holds nothing to be found.

    Its training set is built again from the facts of then. Five walks, each as long as `train` with so many folds: as
    it is, with labels of other instants, with features of noise, with a long embargo, and backwards in time. Skill
    where there can be none convicts, with exit code 1.

    \b
      backsight audit model forecast_1h-3f2a91c07b1e
      backsight audit model forecast_1h-3f2a91c07b1e --folds 4 --html audit.html
    """
    import json

    from backsight_features.lake import Lake

    from backsight_model.audit_model import audit
    from backsight_model.bundle import read
    from backsight_model.rebuilding import from_facts

    made = read(Path(bundle) if Path(bundle).is_dir() else workspace.models / bundle)
    data = from_facts(made.manifest, Lake(workspace.lake), repo)
    result = audit(made, data, folds=folds, say=lambda line: click.echo(line, err=True))
    if html is not None:
        html.write_text(result.html(), encoding="utf-8")
    click.echo(json.dumps(result.to_json()) if as_json else result.text())
    click.get_current_context().exit(result.exit_code)
