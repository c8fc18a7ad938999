"""``backsight link``: which news tell the same."""

import click
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

from backsight_ingest.output import print_accounts, print_json


@click.command()
@JSON
@click.pass_obj
def link(workspace: Workspace, as_json: bool) -> None:
    """Link news that tell the same: copies of one report, and headlines that differ in a few words.

    Articles that came in since the last time are linked to the earliest that tells the same; none is changed or left
    out. A run that was cut off goes on with the next one.

    \b
      backsight link
    """
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.links import update

    account = update(Lake(workspace.lake), now=utc_now())
    if as_json:
        print_json(account.as_dict())
    else:
        print_accounts([account], "of")
