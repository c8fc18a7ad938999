"""``backsight pull macro``: series of FRED with their vintages, or without a key as they are now."""

import re
from typing import TYPE_CHECKING, Final

import click
from backsight_features.errors import BadInput
from backsight_features.workspace import Workspace

from backsight_ingest.live_cli import Run, execute, live

if TYPE_CHECKING:
    from backsight_ingest.live.job import Job
    from backsight_ingest.live.web import Web

_ID: Final = re.compile(r"[A-Z0-9_]{1,25}")


@click.command()
@click.option("--series", "names", multiple=True, metavar="ID", help="As FRED calls it; repeatable. Default: --list.")
@click.option("--keyless", is_flag=True, help="Ask FRED's site for values as they are now: no key, no vintages.")
@click.option("--lag", metavar="45d", help="From date to publication, for series without vintages and without a rule.")
@click.option("--list", "listed", is_flag=True, help="List the series that are pulled where none is named, and stop.")
@live
@click.pass_obj
def macro(workspace: Workspace, names: tuple[str, ...], keyless: bool, lag: str | None, listed: bool, run: Run) -> None:
    """Pull macro series from FRED, with every revision and the day on which it was published.

    The key is read from FRED_API_KEY; FRED gives one to everybody who asks: fred.stlouisfed.org/docs/api/api_key.html.

    \b
      backsight pull macro
      backsight pull macro --series CPIAUCSL --series PAYEMS
      backsight pull macro --keyless --series DGS10
    """
    if listed:
        _list(run.as_json)
        return
    wanted = tuple(dict.fromkeys(name.upper() for name in names))
    if wrong := [name for name in wanted if not _ID.fullmatch(name)]:
        raise BadInput(f"--series {wrong[0]!r} is no id of FRED; write one like CPIAUCSL")
    execute(workspace, run, lambda web: _jobs(workspace, web, wanted, keyless=keyless, lag=lag))


def _jobs(workspace: Workspace, web: "Web", names: tuple[str, ...], *, keyless: bool, lag: str | None) -> list["Job"]:
    import os

    from backsight_features.lake import Lake

    from backsight_ingest.layout import duration
    from backsight_ingest.sources.fred import VARIABLE, Fred
    from backsight_ingest.sources.fredgraph import Fredgraph
    from backsight_ingest.sources.macro import KeylessMacro, Macro
    from backsight_ingest.sources.macro_series import A_MONTH, curated

    if lag is not None:
        duration(lag)
    lake, known = Lake(workspace.lake), curated()
    cadences = {name: known[name].cadence if name in known else A_MONTH for name in names or known}
    if keyless:
        graph = Fredgraph(web)
        return [KeylessMacro(n, graph, lake, web.clock, cadence=each, lag=lag) for n, each in cadences.items()]
    key = os.environ.get(VARIABLE)
    if not key:
        raise BadInput(f"{VARIABLE} is not set; ask FRED for a key, or pull values without vintages: --keyless")
    fred = Fred(key, web)
    return [Macro(name, fred, lake, web.clock, cadence=each, lag=lag) for name, each in cadences.items()]


def _list(as_json: bool) -> None:
    from backsight_ingest.output import print_json, table
    from backsight_ingest.sources.macro_series import curated, known

    rows = [(each.id, each.cadence.days, known(each.id), each.why) for each in curated().values()]
    names = ["series", "every_days", "known", "why"]
    if as_json:
        print_json({"series": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        table(names, rows)
