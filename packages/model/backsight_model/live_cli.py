"""The verb ``run``: the live loop."""

import json
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import click
from backsight_features.options import JSON
from backsight_features.workspace import Workspace


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--once", is_flag=True, help="One round and its exit code, for cron.")
@JSON
@click.pass_obj
def run(workspace: Workspace, plan_file: Path, once: bool, as_json: bool) -> None:
    """Pull, score, build, publish and forecast at each bar close, as PLAN says.

    The first round comes at once and catches up with what was missed. A source that is away is noted and asked again;
    forecasts are refused once what is online is too old. SIGTERM or Ctrl-C end it after the step that is running. One
    loop runs in a home.

    \b
      backsight run live.toml
      backsight run live.toml --once
    """
    from backsight_features.clocks import utc_now

    from backsight_model.live.loop import Round, rounds
    from backsight_model.live.loop import run as perform
    from backsight_model.live.plan import read

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    def say(done: Round) -> None:
        if as_json:
            click.echo(json.dumps(done.to_json()))
            return
        failed = [one for one in done.outcomes if one.failed]
        click.echo(
            f"{done.at:%Y-%m-%dT%H:%M:%SZ}: {len(done.outcomes) - len(failed)} of {len(done.outcomes)} steps done"
        )
        for one in done.outcomes:
            if one.name.startswith("forecast ") and one.document is not None:
                click.echo(f"  {one.name}: P(up) {one.document['p_up']:.3f}, id {one.document['id']}")
            elif one.said and not one.failed:
                click.echo(f"  {one.name}: {one.said.removeprefix('error: ')}")
        for one in failed:
            click.echo(f"  {one.name}: {one.said} (exit code {one.code})", err=True)

    plan, code = read(plan_file), 0
    waiting = (lambda seconds: seconds > 0 or stopped.is_set()) if once else stopped.wait
    for done in rounds(plan, workspace, clock=utc_now, wait=waiting, perform=partial(perform, workspace=workspace)):
        say(done)
        code = done.code
    sys.exit(code if once else 0)
