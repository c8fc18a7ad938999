"""The verbs of the model: ``train``, ``promote`` and ``forecast``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from backsight_features.options import JSON, REPO
from backsight_features.workspace import Workspace

from backsight_model.progress import progress
from backsight_model.words import listed

if TYPE_CHECKING:
    from datetime import datetime

    from backsight_features.errors import BacksightError


@click.command()
@REPO
@click.option(
    "--bars", multiple=True, required=True, metavar="VENUE:SYMBOL:TIMEFRAME", help="What to forecast; repeatable."
)
@click.option("--service", default="forecast_1h", show_default=True, help="Features that the model reads.")
@click.option("--compare", metavar="SERVICE", multiple=True, help="A service to be beaten: price_1h; repeatable.")
@click.option("--horizon", multiple=True, default=("24h",), show_default=True, help="How far ahead: 24h; repeatable.")
@click.option("--length", type=click.IntRange(min=2), default=48, show_default=True, help="Slots of a window.")
@click.option("--folds", type=click.IntRange(min=1), default=4, show_default=True, help="Test blocks of the walk.")
@click.option("--since", metavar="INSTANT", help="First sample, 2021-10-01 or 2021-10-01T12:00:00Z.")
@click.option("--until", metavar="INSTANT", help="Last sample.")
@click.option("--fee", "fee_bp", type=click.FloatRange(min=0), metavar="BP", help="Fee a side, basis points.")
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of the network.")
@click.option(
    "--settings", "settings_file", type=click.Path(path_type=Path), help="Network and preprocessing, a TOML file."
)
@click.option("--rolling", metavar="SPAN", help="Learn from the last 180d, 52w only; from all before unless given.")
@click.option("--trials", type=click.IntRange(min=0), default=0, show_default=True, help="Settings to try first.")
@click.option("--final", "held", metavar="SHARE", help="Hold back the last 20%, and score it once.")
@click.option("--second-look", is_flag=True, help="Score a final period that was scored before.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.")
@JSON
@click.pass_obj
def train(
    workspace: Workspace,
    repo: Path,
    bars: tuple[str, ...],
    service: str,
    compare: tuple[str, ...],
    horizon: tuple[str, ...],
    length: int,
    folds: int,
    since: str | None,
    until: str | None,
    fee_bp: float | None,
    seed: int,
    settings_file: Path | None,
    rolling: str | None,
    trials: int,
    held: str | None,
    second_look: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a model and say whether it has skill.

    Walks forward through time, judges the model against simple forecasters on what it had not seen, writes a
    report, fits once more on all samples and keeps the result as a bundle. Only a bundle with skill is promoted:
    from then on it forecasts its symbols. Of several --bars one network learns, which forecasts each of them.

    \b
      backsight train --bars bitstamp:BTC-USD:1h --compare price_1h
      backsight train --bars kraken:BTC-USD:1h --bars kraken:ETH-USD:1h
      backsight train --bars bitstamp:BTC-USD:1h --since 2021-10-01 --until 2022-08-01
      backsight train --bars bitstamp:BTC-USD:1h --horizon 24h --horizon 1h --horizon 168h
      backsight train --bars bitstamp:BTC-USD:1h --settings wider.toml
    """
    from backsight_features.bars import BarSeries
    from backsight_features.clocks import parse_instant, timeframe
    from backsight_features.store import Store

    from backsight_model.experiment import Plan, run
    from backsight_model.settings import Settings, read
    from backsight_model.trading import Costs

    plan = Plan(
        series=tuple(BarSeries.parse(one) for one in bars),
        service=service,
        compare=compare,
        horizon=timeframe(horizon[0]),
        further=tuple(timeframe(other) for other in horizon[1:]),
        length=length,
        folds=folds,
        seed=seed,
        settings=Settings() if settings_file is None else read(settings_file),
        costs=Costs() if fee_bp is None else Costs(fee_bp=fee_bp),
        since=parse_instant(since) if since else None,
        until=parse_instant(until) if until else None,
        window=timeframe(rolling) if rolling else None,
        trials=trials,
        held=_share(held) if held else None,
        second_look=second_look,
    )
    with progress(steps=(1 + len(compare)) * (folds + bool(held)) + trials + 2) as say:
        done = run(plan, Store(repo, workspace), workspace, report_folder=out, say=say)
    if as_json:
        document = {
            "verdict": done.verdict.word,
            "proven": done.verdict.proven,
            "sentences": done.verdict.sentences,
            "red_flags": done.flags,
            "final_period": None if done.final is None else done.final.to_json(),
            "bundle": str(done.folder),
            "promoted": done.promoted,
            "report_html": str(done.html),
            "report_json": str(done.json),
        }
        click.echo(json.dumps(document))
        return
    for sentence in done.verdict.sentences:
        click.echo(sentence)
    if done.final is not None:
        click.echo(done.final.title)
        for sentence in done.final.sentences:
            click.echo(f"  {sentence}")
    for flag in done.flags:
        click.echo(f"red flag: {flag}")
    click.echo(f"bundle: {done.folder}{'' if done.promoted else ' (not promoted: it has no proven skill)'}")
    click.echo(f"report: {done.html}")


@click.command()
@click.argument("bundle")
@click.option("--override", "reason", metavar="REASON", help="Use it without proven skill, and say why.")
@click.option("--shadow", is_flag=True, help="Let it forecast beside what is in use, which ends it if named so.")
@JSON
@click.pass_obj
def promote(workspace: Workspace, bundle: str, reason: str | None, shadow: bool, as_json: bool) -> None:
    """Make BUNDLE, a name or a folder, the one that forecasts its symbols.

    Refuses a bundle without proven skill, unless there is a reason. The reason is kept in the bundle, stands in its
    report, and ends each of its forecasts. With --shadow it is used for nothing but to be compared.

    \b
      backsight promote forecast_1h-3f2a91c07b1e
      backsight promote forecast_1h-3f2a91c07b1e --override "to try the service"
      backsight promote forecast_1h-3f2a91c07b1e --shadow
    """
    from backsight_features.clocks import utc_now

    from backsight_model.promotion import promote as promote_in

    folder = Path(bundle) if Path(bundle).is_dir() else workspace.models / bundle
    if shadow:
        _shadow(workspace, folder.name, reason, as_json=as_json)
        return
    promoted, report = promote_in(workspace, folder, reason=reason, now=utc_now())
    override = promoted.override
    if as_json:
        document = {
            "bundle": promoted.name,
            "symbols": promoted.symbols,
            "verdict": promoted.word,
            "override": None if override is None else {"reason": override.reason, "at": override.at},
            "report_html": None if report is None else str(report),
        }
        click.echo(json.dumps(document))
        return
    are = "is" if len(promoted.symbols) == 1 else "are"
    click.echo(f"{listed(promoted.symbols)} {are} forecast by {promoted.name} ({promoted.word})")
    if override is None and reason is not None:
        click.echo("it has proven skill: no override was needed, and none is kept")
    if override is not None:
        click.echo(f"override: {override.reason}")
        click.echo(
            f"noted in: {report}" if report else f"there is no report of it in {workspace.reports} to note it in"
        )


@click.command()
@REPO
@click.argument("symbol", required=False)
@click.option("--at", metavar="INSTANT", help="As of 2024-03-01T12:00:00Z; now unless given.")
@click.option("--shadow", is_flag=True, help="Log what all bundles in shadow say, in the place of SYMBOL.")
@JSON
@click.pass_obj
def forecast(workspace: Workspace, repo: Path, symbol: str | None, at: str | None, shadow: bool, as_json: bool) -> None:
    """Print the forecast for SYMBOL from what is online.

    Refuses what is missing, stale, or stamped after the instant, and says so where the model has no proven skill. It is
    kept in the forecast log: `backsight replay` makes it again. What bundles in shadow say is kept apart, for
    `backsight watch` alone.

    \b
      backsight forecast BTC-USD
      backsight forecast BTC-USD --at 2022-05-09T12:01:00Z --json
      backsight forecast --shadow
    """
    from backsight_features.clocks import parse_instant, utc_now
    from backsight_features.errors import BadInput

    if shadow == (symbol is not None):
        raise BadInput("name a symbol, or --shadow for all bundles in shadow")
    instant = parse_instant(at) if at else utc_now()
    if symbol is None:
        _in_shadow(workspace, repo, instant, as_json=as_json)
        return
    from backsight_features.store import Store

    from backsight_model.bundle import current
    from backsight_model.forecast import forecast as forecast_from
    from backsight_model.forecast_log import ForecastLog

    bundle = current(workspace.models, symbol)
    window = Store(repo, workspace).online(bundle.service, symbol, at=instant)
    made = forecast_from(bundle, window)
    name = ForecastLog(workspace.forecasts).add(made, window)
    click.echo(json.dumps({"id": name} | made.to_json()) if as_json else made.line)


def _shadow(workspace: Workspace, name: str, reason: str | None, *, as_json: bool) -> None:
    """Put a bundle in shadow, or end what is in that of the bundle in use which is named."""
    from backsight_features.errors import BadInput

    from backsight_model import shadows
    from backsight_model.bundle import pointers

    if reason is not None:
        raise BadInput("--override is for what is used; a bundle in shadow needs no skill and is never served")
    led = [symbol for symbol, pointer in pointers(workspace.models).items() if pointer["bundle"] == name]
    if led:
        shadows.end(workspace.models, led)
    symbols = led or shadows.put(workspace.models, name).symbols
    said = f"nothing forecasts {listed(symbols)} in the shadow of {name} any more"
    if not led:
        said = f"{name} forecasts {listed(symbols)} in shadow"
    click.echo(json.dumps({"symbols": symbols, "shadow": None if led else name}) if as_json else said)


def _in_shadow(workspace: Workspace, repo: Path, at: "datetime", *, as_json: bool) -> None:
    """Log what each bundle in shadow says, and raise the first of what went wrong once all were asked."""
    from backsight_model import shadows

    made: list[dict[str, Any]] = []
    failed: list[BacksightError] = []
    if shadows.named(workspace.models):
        from backsight_features.store import Store  # takes seconds

        made, failed = shadows.forecast_all(workspace, Store(repo, workspace), at=at)
    said = [f"{one['symbol']} by {one['bundle']} in shadow, id {one['id']}" for one in made]
    click.echo(json.dumps(made) if as_json else "\n".join(said or ["no bundle is in shadow"]))
    for error in failed:
        raise error


def _share(text: str) -> float:
    """Return what ``20%`` means as a share."""
    from backsight_features.errors import BadInput

    digits = text.removesuffix("%")
    if not text.endswith("%") or not digits.isdigit() or not 0 < int(digits) < 100:
        raise BadInput(f"a final period of {text!r} is no share of the samples; write 20%")
    return int(digits) / 100
