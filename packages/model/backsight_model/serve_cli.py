"""The verbs ``serve`` and ``replay``."""

import json
import os
import signal
import sys
import tempfile

import click
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

_HERE = ("127.0.0.1", "::1", "localhost")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs keys.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option("--project", default="backsight", show_default=True, help="Of the feature repo.")
@click.option(
    "--rate", type=click.FloatRange(min=0.1), default=200.0, show_default=True, help="Requests a second a key."
)
@click.option("--at", metavar="INSTANT", help="Answer as of 2024-06-30T00:01:00Z; now unless given.")
@click.option("--new-key", metavar="NAME", help="Print a new key and its entry for BACKSIGHT_API_KEYS, and end.")
@click.pass_obj
def serve(
    workspace: Workspace,
    host: str,
    port: int,
    workers: int,
    project: str,
    rate: float,
    at: str | None,
    new_key: str | None,
) -> None:
    """Serve forecasts and features over HTTP.

    Reads what `publish` put online, from Redis if BACKSIGHT_REDIS says where, and forecasts with what was promoted; a
    promotion is noticed at the next request. BACKSIGHT_API_KEYS lists who may ask; without it, this machine alone is
    answered.

    \b
      backsight serve
      backsight serve --new-key dashboard
      BACKSIGHT_API_KEYS=dashboard:3f2a… backsight serve --host 0.0.0.0 --workers 2
    """
    from backsight_features.clocks import parse_instant
    from backsight_features.errors import BadInput

    from backsight_model.serving.keys import VARIABLE, Keys, fresh

    if new_key is not None:
        key, entry = fresh(new_key)
        click.echo(f"key, shown once: {key}")
        click.echo(f"for the server:  {VARIABLE}={entry}")
        return
    if not Keys.parse(os.environ.get(VARIABLE, "")).names and host not in _HERE:
        raise BadInput(f"--host {host} without {VARIABLE} would answer anybody; `backsight serve --new-key NAME`")
    # uvicorn ends by raising the signal that ended it once more: so that the folder goes, it must not kill.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="backsight-metrics-") as counts:
        if workers > 1:
            # Before the metrics are imported, here and in each worker.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        import uvicorn

        from backsight_model.serving.app import ONLINE, Serving, application

        serving = Serving(home=workspace.root, project=project, at=parse_instant(at) if at else None, per_second=rate)
        # What is wrong with the settings is said once, here, and not by each worker.
        application(serving, keys=Keys.parse(os.environ.get(VARIABLE, "")), online=os.environ.get(ONLINE))
        os.environ.update(serving.variables())
        uvicorn.run(
            "backsight_model.serving.app:from_environment",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
        )


@click.command()
@click.argument("forecast_id")
@JSON
@click.pass_obj
def replay(workspace: Workspace, forecast_id: str, as_json: bool) -> None:
    """Make a forecast again from the log, and say whether it comes out the same bit for bit.

    FORECAST_ID is the "id" of a forecast that `serve` or `forecast` handed out. Ends with 1 where it does not.

    \b
      backsight replay 5f0c9d1e2b3a49588c7d6e5f40312a1b
    """
    from backsight_model.forecast_log import ForecastLog
    from backsight_model.replay import replay as made_again

    result = made_again(workspace.models, ForecastLog(workspace.forecasts).find(forecast_id))
    logged = result.logged
    if as_json:
        document = {"id": logged.id, "equal": not result.differing, "differing": result.differing}
        click.echo(json.dumps(document | {"logged": logged.answer, "again": result.again}))
    else:
        click.echo(
            f"{logged.symbol} by {logged.bundle}, handed out at {logged.at:%Y-%m-%dT%H:%M:%SZ}, "
            f"of the bar that closed at {logged.observed_at:%Y-%m-%dT%H:%M:%SZ}"
        )
        for name in result.differing:
            click.echo(f"{name}: {logged.answer.get(name)} then, {result.again.get(name)} now")
        if not result.differing:
            click.echo("the same bit for bit")
    if result.differing:
        sys.exit(1)
