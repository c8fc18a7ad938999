"""``backsight snapshot``: points of knowledge by name."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backsight_features.options import JSON
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_features.snapshot_diff import Between
    from backsight_features.snapshots import Point

_FACTS_SHOWN = 5


@click.group()
def snapshot() -> None:
    """Name what the lake holds, come back to it, and see what came between.

    A snapshot is a small file with the versions of the fact tables, the instant of their newest fact and a hash of what
    they say. Nothing is copied; the lake is append-only and never put back.

    \b
      backsight snapshot create before-the-vendor-fix
      backsight snapshot diff before-the-vendor-fix now
    """


@snapshot.command()
@click.argument("name", required=False)
@click.option(
    "--manifest",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Name what a training set was made of: its manifest.json, or a bundle.json.",
)
@JSON
@click.pass_obj
def create(workspace: Workspace, name: str | None, manifest: Path | None, as_json: bool) -> None:
    """Name the lake as it is now, or as it was when a training set was made; by the time if no NAME is given.

    \b
      backsight snapshot create 2024-q1
      backsight snapshot create what-the-model-saw --manifest .backsight/models/forecast_1h-0f3a/bundle.json
    """
    import json

    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_features.snapshots import create as make

    now = utc_now()
    point = make(
        workspace.root,
        Lake(workspace.lake),
        workspace.features,
        name=name or f"{now:%Y%m%dT%H%M%SZ}",
        now=now,
        manifest=manifest,
    )
    click.echo(json.dumps(point.to_json()) if as_json else _line(point))


@snapshot.command("list")
@JSON
@click.pass_obj
def list_(workspace: Workspace, as_json: bool) -> None:
    """List the snapshots, the oldest first.

    \b
      backsight snapshot list
    """
    import json

    from backsight_features.snapshots import listed

    points = listed(workspace.root)
    if as_json:
        click.echo(json.dumps([point.to_json() for point in points]))
        return
    for point in points:
        click.echo(_line(point))
    if not points:
        click.echo("no snapshots; `backsight snapshot create` makes one")


@snapshot.command()
@click.argument("before")
@click.argument("after")
@JSON
@click.pass_obj
def diff(workspace: Workspace, before: str, after: str, as_json: bool) -> None:
    """Say which facts came between two snapshots, which feature values are others, and because of what.

    Features are computed from both states of the lake; for the first values that changed the facts are shown that were
    read for the one and not for the other. `now` stands for the lake as it is.

    \b
      backsight snapshot diff 2024-q1 2024-q2
      backsight snapshot diff 2024-q1 now
    """
    import json

    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_features.snapshot_diff import between
    from backsight_features.snapshots import NOW, current, load, recall

    lake = Lake(workspace.lake)
    points = [
        current(lake, workspace.features, now=utc_now()) if name == NOW else load(workspace.root, name)
        for name in (before, after)
    ]
    recalled = [recall(point, lake) for point in points]
    for point, one in zip(points, recalled, strict=True):
        for line in one.differs:
            click.echo(f"warning: not the facts of {point.name}: {line}", err=True)
    found = between((points[0], recalled[0]), (points[1], recalled[1]))
    if as_json:
        click.echo(json.dumps(_document(found, points), default=datetime.isoformat))
    else:
        _show(found, points)


@snapshot.command()
@click.argument("name")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="New folder; <home>/restored/NAME if left out."
)
@JSON
@click.pass_obj
def restore(workspace: Workspace, name: str, out: Path | None, as_json: bool) -> None:
    """Build the feature tables of a snapshot again, from the facts of then, in a folder of their own.

    The lake is only read: it is append-only, and what came in since stays. The folder is a home: with --home the
    other verbs use what was restored. Where maintenance has cleaned up the versions of then, the facts are taken that
    had been written by then; if they are not the same, a warning says which.

    \b
      backsight snapshot restore 2024-q1
      backsight --home .backsight/restored/2024-q1 apply
    """
    import json

    from backsight_features.lake import Lake
    from backsight_features.snapshots import load
    from backsight_features.snapshots import restore as again

    point = load(workspace.root, name)
    folder = (out or workspace.root / "restored" / name).absolute()
    recalled, built = again(point, Lake(workspace.lake), folder, say=lambda line: click.echo(line, err=True))
    if as_json:
        rows = [{"table": one.table, "symbol": one.symbol, "rows": one.written} for one in built]
        document = {"snapshot": point.name, "folder": str(folder), "same": not recalled.differs, "built": rows}
        click.echo(json.dumps({**document, "differs": recalled.differs}))
        return
    for one in built:
        click.echo(f"{one.table}  {one.symbol}  {one.written:,} rows")
    same = "the facts of then" if not recalled.differs else "other facts than those of then, see above"
    click.echo(f"restored from {same} into {folder}; the lake is as it was")


def _line(point: "Point") -> str:
    rows = sum(then.rows for then in point.tables.values())
    return (
        f"{point.name}  {rows:,} facts, the newest written {point.ingested_until:%Y-%m-%d %H:%M:%S}  "
        f"sha256 {point.sha256[:16]}  features of {', '.join(point.series) or 'nothing'}"
    )


def _document(found: "Between", points: "list[Point]") -> dict[str, Any]:
    return {
        "before": points[0].to_json(),
        "after": points[1].to_json(),
        "same": points[0].sha256 == points[1].sha256,
        "facts": found.facts.to_dicts(),
        "rows": found.rows.to_dicts(),
        "values": found.values.to_dicts(),
        "examples": [{**vars(one), "facts": one.facts.to_dicts()} for one in found.examples],
    }


def _show(found: "Between", points: "list[Point]") -> None:
    if points[0].sha256 == points[1].sha256:
        click.echo(f"{points[0].name} and {points[1].name} have the same facts")
    for row in found.facts.iter_rows(named=True):
        click.echo(
            f"{row['table']}  {row['source']}  {row['rows']:,} {row['kind']}  "
            f"available {row['first']:%Y-%m-%d %H:%M:%S} to {row['last']:%Y-%m-%d %H:%M:%S}"
        )
    for row in found.rows.iter_rows(named=True):
        click.echo(
            f"{row['table']}  {row['symbol']}  {row['new']:,} rows new, {row['gone']:,} gone, {row['other']:,} other"
        )
    for row in found.values.iter_rows(named=True):
        most = "" if row["most"] is None else f", by {row['most']:.3g} at most"
        click.echo(
            f"  {row['table']}  {row['symbol']}  {row['feature']}  {row['values']:,} values other from "
            f"{row['first']:%Y-%m-%d %H:%M:%S} to {row['last']:%Y-%m-%d %H:%M:%S}{most}"
        )
    for one in found.examples:
        click.echo(
            f"{one.feature} of {one.symbol} at {one.available_at:%Y-%m-%d %H:%M:%S}: {one.before} before, "
            f"{one.after} after, because of"
        )
        for fact in one.facts.head(_FACTS_SHOWN).iter_rows(named=True):
            click.echo(
                f"  {fact['change']}: {fact['fact']} from {fact['source']}: {fact['says']}, available "
                f"{fact['available_at']:%Y-%m-%d %H:%M:%S}, written {fact['ingested_at']:%Y-%m-%d %H:%M:%S}"
            )
        if one.facts.height > _FACTS_SHOWN:
            click.echo(f"  … {one.facts.height - _FACTS_SHOWN:,} more; --json has all")
