"""A training run: collect, walk, judge, report, fit for shipping, and promote it if it has skill."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backsight_features.bars import BarSeries, on_grid, read
from backsight_features.clocks import timeframe, utc_now
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.workspace import Workspace

from backsight_model import bundle, lastlook, promotion, report, treatments, tutorial
from backsight_model.flags import checks
from backsight_model.lastlook import FinalPeriod, Held
from backsight_model.manifest import Manifest
from backsight_model.provenance import Provenance, provenance
from backsight_model.settings import Settings
from backsight_model.splits import walk_forward
from backsight_model.target import bars_ahead
from backsight_model.trading import Costs, trade_walk
from backsight_model.training import TrainingSet, collect, describe
from backsight_model.tuning import Trial, best, tune
from backsight_model.verdict import Verdict, decide, losses
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
    compare : tuple of str
        Services to be beaten, each on the same instants.
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
    window : timedelta, optional
        How far back each fit reaches; all the way unless given.
    trials : int
        How many settings to try inside the training part of the first fold; 0 takes `settings` as they are.
    held : float, optional
        Share of the span of time that is the final period: no fold sees it, and it is scored once.
    second_look : bool
        Whether to score a final period that was scored before, and say so.
    """

    series: BarSeries
    service: str
    compare: tuple[str, ...]
    horizon: timedelta
    length: int
    folds: int
    seed: int
    settings: Settings
    costs: Costs
    since: datetime | None = None
    until: datetime | None = None
    window: timedelta | None = None
    trials: int = 0
    held: float | None = None
    second_look: bool = False

    def __post_init__(self) -> None:
        """Refuse to compare a service with itself, or with another one twice."""
        if len({self.service, *self.compare}) <= len(self.compare):
            raise BadInput(f"{self.service} is to be compared with {', '.join(self.compare)}; name each service once")

    @property
    def bars_ahead(self) -> int:
        """The horizon in bars."""
        return bars_ahead(self.horizon, timeframe(self.series.timeframe))


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
    final : FinalPeriod or None
        What the samples that were held back say.
    html, json : Path
        The report.
    """

    verdict: Verdict
    flags: tuple[str, ...]
    folder: Path
    promoted: bool
    final: FinalPeriod | None
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
    everything, manifest = _collect(plan, plan.service, store, origin)
    # Before the long walk, so that what cannot be had or was spent stops the run at once.
    all_others = [_collect(plan, service, store, origin)[0] for service in plan.compare]
    treatments.refuse_idle(plan.settings.treatments, everything.windows.features)
    data, held = _apart(plan, everything, everything)
    others = [_apart(plan, other, everything) for other in all_others]
    if held is not None and not plan.second_look:
        lastlook.refuse_again(workspace.models, lastlook.span_of(str(plan.series), everything.at[held.part.test]))
    say(f"{len(everything):,} samples of {plan.service}, {manifest.first_at} to {manifest.last_at}")
    tried = _tuned(plan, data, say)
    if tried:
        plan = replace(plan, settings=best(tried))
    walked = _walk(plan, data, plan.service, say)
    full = losses(data, walked, service=plan.service)
    beside = tuple(
        losses(other, _walk(plan, other, service, say), service=service)
        for service, (other, _) in zip(plan.compare, others, strict=True)
    )
    bars = on_grid(read(origin.facts, plan.series), plan.series.grid)
    trading = trade_walk(data, walked, bars, lag=full.lag, costs=plan.costs)
    verdict = decide(full, walked.p_up[MODEL], data.up[walked.samples], beside, trading)
    looked_for = checks(data, walked, full, verdict)
    days, closes = tutorial.daily_closes(bars)
    some = (days >= data.at[0]) & (days <= data.at[-1])
    cautionary = tutorial.follow(days[some], closes[some], first_test=data.at[walked.samples[0]], seed=plan.seed)
    last = None
    if held is not None:
        span = lastlook.span_of(str(plan.series), everything.at[held.part.test])
        look = lastlook.spend(workspace.models, span, service=plan.service, now=utc_now())
        ways = [(plan.service, everything, held)]
        ways += [
            (service, other, kept)
            for service, other, (_, kept) in zip(plan.compare, all_others, others, strict=True)
            if kept is not None
        ]
        last = lastlook.score(span, look, ways, settings=plan.settings, seed=plan.seed, done=say)

    say("fitting on all samples")
    fitted = final(everything, embargo=plan.horizon, settings=plan.settings, seed=plan.seed, window=plan.window)
    folder = bundle.write(
        workspace.models,
        fitted,
        manifest=manifest,
        settings=plan.settings,
        timeframe=data.windows.timeframe,
        verdict=verdict,
        window=plan.window,
    )
    html, json = report.write(
        report.Report(
            manifest=manifest,
            data=data,
            walked=walked,
            full=full,
            others=beside,
            settings=plan.settings,
            verdict=verdict,
            checks=looked_for,
            trials=max(1, len(tried)),
            tried=tried,
            cautionary=cautionary,
            final=last,
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
        final=last,
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


def _apart(plan: Plan, data: TrainingSet, everything: TrainingSet) -> tuple[TrainingSet, Held | None]:
    """Return the samples that a walk may see, and those held back; they begin at one instant for all services."""
    if plan.held is None:
        return data, None
    start = lastlook.start_of(everything.at, share=plan.held)
    held = lastlook.hold_back(data.at, data.label_at, start=start, embargo=plan.horizon, window=plan.window)
    return data.first(held.before), held


def _tuned(plan: Plan, data: TrainingSet, say: Callable[[str], None]) -> tuple[Trial, ...]:
    if not plan.trials:
        return ()
    parts = walk_forward(data.at, data.label_at, folds=plan.folds, embargo=plan.horizon, window=plan.window)
    return tune(data, parts[0], settings=plan.settings, trials=plan.trials, seed=plan.seed, done=say)


def _walk(plan: Plan, data: TrainingSet, service: str, say: Callable[[str], None]) -> Walk:
    return walk(
        data,
        folds=plan.folds,
        embargo=plan.horizon,
        settings=plan.settings,
        seed=plan.seed,
        done=lambda fold: say(f"{service}: {fold}"),
        window=plan.window,
    )
