"""``backsight dataset``: a training set as files, or again from its manifest."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from backsight_features.errors import BadInput
from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_model.export import Format
    from backsight_model.manifest import Manifest
    from backsight_model.training import TrainingSet


@click.command()
@REPO
@click.argument("service", required=False)
@click.option(
    "--bars", multiple=True, metavar="VENUE:SYMBOL:TIMEFRAME", help="Whose outcomes are the labels; repeatable."
)
@click.option("--horizon", multiple=True, default=("24h",), show_default=True, help="How far ahead: 24h; repeatable.")
@click.option("--length", type=click.IntRange(min=1), default=48, show_default=True, help="Slots of a window.")
@click.option("--since", metavar="INSTANT", help="First sample, 2021-10-01 or 2021-10-01T12:00:00Z.")
@click.option("--until", metavar="INSTANT", help="Last sample.")
@click.option("--format", "form", type=click.Choice(["numpy", "parquet"]), default="numpy", show_default=True)
@click.option("--gathered", is_flag=True, help="Write each window in full too: as often the size as it has slots.")
@click.option("--rebuild", type=click.Path(path_type=Path), metavar="MANIFEST", help="The set that this describes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="New folder for the files.")
@JSON
@click.pass_obj
def dataset(
    workspace: Workspace,
    repo: Path,
    service: str | None,
    bars: tuple[str, ...],
    horizon: tuple[str, ...],
    length: int,
    since: str | None,
    until: str | None,
    form: "Format",
    gathered: bool,
    rebuild: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write the training set of SERVICE for a model of your own.

    Windows, labels, when each label was known, and a manifest with the SHA-256. --rebuild builds the features again
    from the facts that had come in when the set was made, and fails unless the same SHA-256 comes out; its manifest
    may be that of a bundle.

    \b
      backsight dataset forecast_1h --bars bitstamp:BTC-USD:1h --out build/set
      backsight dataset forecast_1h --bars bitstamp:BTC-USD:1h --format parquet --out build/set
      backsight dataset --rebuild build/set/manifest.json
    """
    from backsight_model import export

    if rebuild is not None:
        if service or bars:
            raise BadInput("--rebuild takes service and bars from the manifest; leave them out")
        data, manifest = _again(workspace, repo, export.read_manifest(rebuild))
    elif service and bars and out is not None:
        data, manifest = _collected(
            workspace, repo, service, bars, horizon=horizon, length=length, since=since, until=until
        )
    else:
        raise BadInput("name a SERVICE, --bars and --out; or a manifest to --rebuild")
    if out is not None:
        export.write(data, manifest, out, form=form, gathered=gathered)
    if as_json:
        click.echo(json.dumps({"manifest": manifest.to_json(), "out": out and str(out)}))
        return
    again = " rebuilt, the same as then" if rebuild else ""
    click.echo(
        f"{len(data):,} samples of {manifest.service}{again}, {manifest.first_at} to {manifest.last_at}, "
        f"sha256 {manifest.sha256}"
    )
    if out is not None:
        click.echo(f"written: {out}")


def _again(workspace: Workspace, repo: Path, manifest: "Manifest") -> "tuple[TrainingSet, Manifest]":
    from backsight_features.lake import Lake

    from backsight_model.rebuilding import from_facts

    return from_facts(manifest, Lake(workspace.lake), repo), manifest


def _collected(
    workspace: Workspace,
    repo: Path,
    service: str,
    bars: tuple[str, ...],
    *,
    horizon: tuple[str, ...],
    length: int,
    since: str | None,
    until: str | None,
) -> "tuple[TrainingSet, Manifest]":
    from backsight_features.bars import BarSeries
    from backsight_features.clocks import parse_instant, timeframe
    from backsight_features.lake import Lake
    from backsight_features.store import Store

    from backsight_model.provenance import provenance
    from backsight_model.target import bars_ahead
    from backsight_model.training import collect, describe, together

    series = together([BarSeries.parse(one) for one in bars])
    main, *further = (bars_ahead(timeframe(each), timeframe(series[0].timeframe)) for each in horizon)
    origin = provenance(workspace.features, Lake(workspace.lake), series)
    data = collect(
        Store(repo, workspace),
        origin.facts,
        series,
        service=service,
        length=length,
        horizon=main,
        further=further,
        first_at=parse_instant(since) if since else None,
        last_at=parse_instant(until) if until else None,
    )
    return data, describe(data, origin, series, service=service, length=length, seed=0)
