"""``backsight maintain``: keep the lake fast and small."""

import click

from backsight_features.options import JSON
from backsight_features.workspace import Workspace


@click.command()
@click.option(
    "--retention-days",
    type=click.IntRange(min=1),
    help="How long older versions of the tables can be read: 7, and 1 of those with a commit a minute, if left out.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@JSON
@click.pass_obj
def maintain(workspace: Workspace, retention_days: int | None, dry_run: bool, as_json: bool) -> None:
    """Keep the lake fast: compact, checkpoint and clean up its tables.

    Jobs may read and write meanwhile, and no fact, watermark or feature changes. A run that was killed, or outrun by
    another job, is made good by the next. Feature tables are kept by the builds that write them.

    \b
      backsight maintain
      backsight maintain --retention-days 30
    """
    import json
    from dataclasses import asdict
    from datetime import timedelta

    from backsight_features.maintenance import maintain as keep

    done = []
    retention = None if retention_days is None else timedelta(days=retention_days)
    for one in keep(workspace.lake, retention=retention, dry_run=dry_run):
        done.append(asdict(one))
        if as_json:
            continue
        did = [
            f"{one.gathered:,} files gathered" if one.gathered else "",
            f"{one.removed:,} deleted" if one.removed else "",
            "" if one.checkpoint is None else f"checkpoint of version {one.checkpoint}",
            f"{one.forgotten:,} files of the log deleted" if one.forgotten else "",
            f"the rest is left to the next run: {one.left}" if one.left else "",
        ]
        said = ", ".join(filter(None, did)) or "nothing to do"
        click.echo(f"{one.table}  {one.files_after:,} files, {one.bytes / 2**20:,.1f} MB  ({said})")
    if as_json:
        click.echo(json.dumps(done))
    elif not done:
        click.echo(f"no tables in {workspace.lake}")
