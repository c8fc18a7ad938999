"""``backsight purge``: remove posts for good."""

import click

from backsight_features.options import JSON
from backsight_features.workspace import Workspace


@click.command()
@click.option("--site", required=True, help="Where the posts are: reddit.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="Of a post, t3_abc or abc. May be repeated.")
@click.option("--deleted", is_flag=True, help="All posts that were seen to be deleted or removed at the site.")
@click.option("--channel", default="", help="Only in this channel; in whatever channel if left out.")
@click.option("--by", help="Who has them removed, kept with the fact that they were; who runs this if left out.")
@click.option("--dry-run", is_flag=True, help="Only say how many rows there are.")
@JSON
@click.pass_obj
def purge(
    workspace: Workspace,
    site: str,
    ids: tuple[str, ...],
    deleted: bool,
    channel: str,
    by: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove posts from the lake for good, and keep them out.

    All versions go, with their reactions, their rows in quarantine and the scores of what nobody else says, from the
    tables and from the disk. A dump that still has them does not bring them back. It is kept that it happened, not what
    was there: only the hash of the id. Run it again after one that was killed; it does what is left.

    Features still follow from these texts until the next `backsight build`.

    \b
      backsight purge --site reddit --id t3_abc
      backsight purge --site reddit --channel bitcoin --id t3_abc --id t3_def --by "a request of 2026-03-01"
      backsight purge --site reddit --deleted --dry-run
    """
    import getpass
    import json
    from dataclasses import asdict

    from backsight_features import purge as removal
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_features.purged import Post

    if not ids and not deleted:
        raise click.UsageError("say which posts: --id, or --deleted")
    lake = Lake(workspace.lake)
    posts = [Post(site=site, id=each, channel=channel) for each in ids]
    if deleted:
        posts += removal.deleted(lake, site=site, channel=channel)
    done = removal.purge(lake, posts, by=by or getpass.getuser(), now=utc_now(), dry_run=dry_run)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in done]))
        return
    if not posts:
        click.echo("nothing was seen to be deleted")
    did = "to be removed" if dry_run else "removed"
    for one in done:
        click.echo(f"{one.table}  {one.rows:,} rows {did}, {one.files:,} files deleted")
    if not dry_run and any(one.rows for one in done):
        click.echo("run `backsight build`: features still follow from what was removed", err=True)
