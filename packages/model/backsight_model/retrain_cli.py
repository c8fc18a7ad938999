"""``backsight retrain``: one look at the model in use, or what policies of looking would have been worth."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from backsight_features.errors import BadInput
from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace

from backsight_model.progress import progress

if TYPE_CHECKING:
    from backsight_model.simulation import Simulation

_TENTHS = 10


@click.command()
@REPO
@click.option(
    "--bars",
    multiple=True,
    required=True,
    metavar="VENUE:SYMBOL:TIMEFRAME",
    help="Whose outcomes are forecast; of a model of several, one will do. Repeatable with --simulate.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    default=("every:720",),
    show_default=True,
    metavar="POLICY",
    help="never, drift or every:720 (bars); with :cold from nothing. Repeatable with --simulate.",
)
@click.option("--override", metavar="REASON", help="Use refits of a model without proven skill, and say why.")
@click.option("--simulate", is_flag=True, help="Say what the policies would have been worth; change nothing.")
@click.option("--service", default="forecast_1h", show_default=True, help="Features, to simulate with.")
@click.option("--horizon", default="24h", show_default=True, help="How far ahead, to simulate with.")
@click.option("--length", type=click.IntRange(min=2), default=48, show_default=True, help="Slots, to simulate with.")
@click.option("--since", metavar="INSTANT", help="First sample of the simulation.")
@click.option("--until", metavar="INSTANT", help="Last sample of the simulation.")
@click.option("--rolling", metavar="SPAN", help="Simulated fits learn from the last 180d, 52w only.")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Network and preprocessing of the simulation, TOML.",
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of the simulation.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the simulation's report.")
@JSON
@click.pass_context
def retrain(
    context: click.Context,
    repo: Path,
    bars: tuple[str, ...],
    policies: tuple[str, ...],
    override: str | None,
    simulate: bool,
    service: str,
    horizon: str,
    length: int,
    since: str | None,
    until: str | None,
    rolling: str | None,
    settings_file: Path | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train the model of a symbol again, if the policy says so, and use it if it is not worse. Made for cron.

    Features, length, horizon, settings and seed are those of the model in use. What is trained is compared with it on
    the newest stretch, which neither learnt from. One line says what was done and why; nothing to do is exit code 0.

    \b
      backsight retrain --bars bitstamp:BTC-USD:1h
      backsight retrain --bars bitstamp:BTC-USD:1h --policy every:720:cold
      backsight retrain --bars bitstamp:BTC-USD:1h --simulate --policy every:720 --policy drift
    """
    workspace: Workspace = context.obj
    if simulate:
        if override is not None:
            raise BadInput("--override is for a model in use; --simulate changes none")
        _simulate(
            workspace,
            repo,
            bars,
            policies,
            service=service,
            horizon=horizon,
            length=length,
            since=since,
            until=until,
            rolling=rolling,
            settings_file=settings_file,
            seed=seed,
            out=out,
            as_json=as_json,
        )
        return
    _refuse_idle(context)
    if len(policies) > 1:
        raise BadInput(f"a model is retrained by one policy, not by {', '.join(policies)}; --simulate compares several")
    from backsight_features.bars import BarSeries
    from backsight_features.clocks import utc_now
    from backsight_features.store import Store

    from backsight_model.policies import Policy
    from backsight_model.retraining import retrain as retrain_in

    policy, series = Policy.parse(policies[0]), [BarSeries.parse(one) for one in bars]
    with progress(steps=1) as say:
        outcome = retrain_in(
            series, policy, Store(repo, workspace), workspace, override=override, now=utc_now(), say=say
        )
    click.echo(json.dumps(outcome.to_json()) if as_json else outcome.line)


def _refuse_idle(context: click.Context) -> None:
    """Raise where an option was given that only a simulation reads: the rest is as the model in use was trained."""
    for name in ("service", "horizon", "length", "since", "until", "rolling", "settings_file", "seed", "out"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise BadInput(
                f"--{name.removesuffix('_file')} is for --simulate; a refit is as the model in use was trained"
            )


def _simulate(
    workspace: Workspace,
    repo: Path,
    bars: tuple[str, ...],
    policies: tuple[str, ...],
    *,
    service: str,
    horizon: str,
    length: int,
    since: str | None,
    until: str | None,
    rolling: str | None,
    settings_file: Path | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    from backsight_features.bars import BarSeries
    from backsight_features.clocks import parse_instant, timeframe
    from backsight_features.lake import Lake
    from backsight_features.store import Store

    from backsight_model import simulation_report
    from backsight_model.policies import Policy
    from backsight_model.provenance import provenance
    from backsight_model.settings import Settings, read
    from backsight_model.simulation import simulate
    from backsight_model.target import bars_ahead
    from backsight_model.training import collect, describe, together
    from backsight_model.treatments import refuse_idle

    settings = Settings() if settings_file is None else read(settings_file)
    rules = [Policy.parse(policy) for policy in policies]
    series, ahead = together([BarSeries.parse(one) for one in bars]), timeframe(horizon)
    with progress(steps=_TENTHS * (len(rules) + 1)) as say:
        origin = provenance(workspace.features, Lake(workspace.lake), series)
        data = collect(
            Store(repo, workspace),
            origin.facts,
            series,
            service=service,
            length=length,
            horizon=bars_ahead(ahead, timeframe(series[0].timeframe)),
            first_at=parse_instant(since) if since else None,
            last_at=parse_instant(until) if until else None,
        )
        refuse_idle(settings.treatments, data.windows.features)
        found = simulate(
            data,
            rules,
            settings=settings,
            embargo=ahead,
            seed=seed,
            window=timeframe(rolling) if rolling else None,
            done=say,
        )
    manifest = describe(data, origin, series, service=service, length=length, seed=seed)
    folder = out or workspace.reports / f"retraining-{manifest.sha256[:12]}"
    html, report = simulation_report.write(found, manifest, settings, folder)
    if as_json:
        document = simulation_report.summary(found, manifest, settings)
        click.echo(json.dumps(document | {"report_html": str(html), "report_json": str(report)}))
        return
    for line in _table(found):
        click.echo(line)
    for sentence in found.sentences:
        click.echo(sentence)
    click.echo(f"report: {html}")


def _table(found: "Simulation") -> list[str]:
    """Return the losses by policy, as a table of plain text."""
    from backsight_model.verdict import chance

    targets = list(found.lives[0].lost)
    head = f"{'policy':<16} {'trained':>7} {'used':>5} {'CPU s':>8}"
    head += "".join(f" {target:>11} {'gain':>8} {'corrected':>11}" for target in targets)
    lines = [head]
    for life in found.lives:
        name = life.policy.name
        line = f"{name:<16} {len(life.refits):>7} {life.taken:>5} {life.seconds:>8.1f}"
        for target in targets:
            line += f" {life.lost[target].mean():>11.4f}"
            compared = found.comparisons.get(name)
            if compared is None:
                line += f" {'':>8} {'':>11}"
            else:
                line += f" {100 * compared[target].skill:>+7.2f}% {chance(found.adjusted[name][target]):>11}"
        lines.append(line)
    return lines
