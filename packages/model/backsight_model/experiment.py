"""A training run: collect, walk, judge, report, fit for shipping, and promote it if it has skill."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backsight_features.bars import BarSeries, on_grid, read
from backsight_features.clocks import timeframe
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.workspace import Workspace

from backsight_model import bundle, promotion, report
from backsight_model.flags import checks
from backsight_model.provenance import Provenance, provenance
from backsight_model.settings import Settings
from backsight_model.trading import Costs, trade_walk
from backsight_model.training import Manifest, TrainingSet, collect, describe
from backsight_model.verdict import Losses, Verdict, decide, losses
from backsight_model.walk import MODEL, Walk, final, walk

if TYPE_CHECKING:
    from backsight_features.store import Store


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train and how to prove it.

    Attributes
    ----------
    series : BarSeries
        Whose outcomes to forecast.
    service : str
        Features that the model reads.
    compare : str or None
        A service to be beaten, on the same instants.
    horizon : timedelta
        How far ahead; a whole number of bars. Also the embargo between training labels and test.
    length : int
        Slots per window.
    folds : int
        Test blocks of the walk.
    seed : int
    settings : Settings
        Of the network.
    costs : Costs
        Of trading the forecasts.
    since, until : datetime, optional
        Samples outside are left out.
    """

    series: BarSeries
    service: str
    compare: str | None
    horizon: timedelta
    length: int
    folds: int
    seed: int
    settings: Settings
    costs: Costs
    since: datetime | None = None
    until: datetime | None = None

    @property
    def bars_ahead(self) -> int:
        """The horizon in bars."""
        step = timeframe(self.series.timeframe)
        bars, rest = divmod(self.horizon, step)
        if rest or bars < 1:
            raise BadInput(f"horizon {self.horizon} is no whole number of bars of {self.series.timeframe}")
        return bars


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a run made.

    Attributes
    ----------
    verdict : Verdict
    flags : tuple of str
        Red flags that were raised.
    folder : Path
        The bundle.
    promoted : bool
        Whether the bundle now forecasts its symbol: whether it has skill.
    html, json : Path
        The report.
    """

    verdict: Verdict
    flags: tuple[str, ...]
    folder: Path
    promoted: bool
    html: Path
    json: Path


def run(
    plan: Plan, store: "Store", workspace: Workspace, *, report_folder: Path | None, say: Callable[[str], None]
) -> Done:
    """Train, prove, report and ship.

    Parameters
    ----------
    plan : Plan
    store : Store
        Serves the windows.
    workspace : Workspace
        Holds the lake, and takes bundle and report.
    report_folder : Path, optional
        Where the report goes; a folder named like the bundle under the workspace's reports unless given.
    say : callable
        Is told what is being done.
    """
    origin = provenance(workspace.features, Lake(workspace.lake), plan.series)
    data, manifest = _collect(plan, plan.service, store, origin)
    # Before the long walk, so that a service that cannot be had stops the run at once.
    other = None if plan.compare is None else _collect(plan, plan.compare, store, origin)[0]
    say(f"{len(data):,} samples of {plan.service}, {manifest.first_at} to {manifest.last_at}")
    walked = _walk(plan, data, plan.service, say)
    full = losses(data, walked, service=plan.service)
    price_only: Losses | None = None
    if plan.compare is not None and other is not None:
        price_only = losses(other, _walk(plan, other, plan.compare, say), service=plan.compare)
    bars = on_grid(read(origin.facts, plan.series), plan.series.grid)
    trading = trade_walk(data, walked, bars, lag=full.lag, costs=plan.costs)
    verdict = decide(full, walked.p_up[MODEL], data.up[walked.samples], price_only, trading)
    looked_for = checks(data, walked, full, verdict)

    say("fitting on all samples")
    fitted = final(data, embargo=plan.horizon, settings=plan.settings, seed=plan.seed)
    folder = bundle.write(
        workspace.models,
        fitted,
        manifest=manifest,
        settings=plan.settings,
        timeframe=data.windows.timeframe,
        verdict=verdict,
    )
    html, json = report.write(
        report.Report(
            manifest=manifest,
            data=data,
            walked=walked,
            full=full,
            price_only=price_only,
            verdict=verdict,
            checks=looked_for,
            trials=1,
        ),
        report_folder or workspace.reports / folder.name,
    )
    made = bundle.promote(workspace.models, folder) if verdict.skill else bundle.read(folder)
    if made.override is not None:  # the same model was trained before, and promoted by hand
        promotion.note(html.parent, made.override)
    return Done(
        verdict=verdict,
        flags=tuple(check.said for check in looked_for if check.raised),
        folder=folder,
        promoted=verdict.skill,
        html=html,
        json=json,
    )


def _collect(plan: Plan, service: str, store: "Store", origin: Provenance) -> tuple[TrainingSet, Manifest]:
    data = collect(
        store,
        origin.facts,
        plan.series,
        service=service,
        length=plan.length,
        horizon=plan.bars_ahead,
        first_at=plan.since,
        last_at=plan.until,
    )
    return data, describe(data, origin, plan.series, service=service, length=plan.length, seed=plan.seed)


def _walk(plan: Plan, data: TrainingSet, service: str, say: Callable[[str], None]) -> Walk:
    return walk(
        data,
        folds=plan.folds,
        embargo=plan.horizon,
        settings=plan.settings,
        seed=plan.seed,
        done=lambda fold: say(f"{service}: {fold}"),
    )
