"""A training run: collect, walk, judge, report, fit for shipping, and promote it if it has skill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from backsight_features.bars import BarSeries, on_grid, read
from backsight_features.clocks import timeframe, utc_now
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.workspace import Workspace

from backsight_model import bundle, lastlook, promotion, report, treatments, tutorial
from backsight_model.flags import Check, checks
from backsight_model.lastlook import FinalPeriod, Held, Span
from backsight_model.manifest import Manifest
from backsight_model.provenance import Provenance, provenance
from backsight_model.settings import Settings
from backsight_model.splits import walk_forward
from backsight_model.target import bars_ahead
from backsight_model.trading import Costs, trade_walk
from backsight_model.training import TrainingSet, collect, describe, together
from backsight_model.tuning import Trial, best, tune
from backsight_model.verdict import Losses, Verdict, decide, losses
from backsight_model.walk import Walk, final, walk

if TYPE_CHECKING:
    from backsight_features.store import Store


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train and how to prove it.

    Attributes
    ----------
    series : tuple of BarSeries
        Whose outcomes to forecast, with one network: at most one series per symbol, in whatever order.
    service : str
        Features that the model reads.
    compare : tuple of str
        Services to be beaten, each on the same instants.
    horizon : timedelta
        How far ahead; a whole number of bars. What is judged first, and traded.
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
    further : tuple of timedelta
        Further horizons that the same network forecasts.
    """

    series: tuple[BarSeries, ...]
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
    further: tuple[timedelta, ...] = ()

    def __post_init__(self) -> None:
        """Refuse to compare a service with itself, or with another one twice, and put the series in order."""
        object.__setattr__(self, "series", together(self.series))
        if len({self.service, *self.compare}) <= len(self.compare):
            raise BadInput(f"{self.service} is to be compared with {', '.join(self.compare)}; name each service once")

    @property
    def bars_ahead(self) -> tuple[int, ...]:
        """The horizons in bars, the main one first."""
        step = timeframe(self.series[0].timeframe)
        return tuple(bars_ahead(horizon, step) for horizon in (self.horizon, *self.further))

    @property
    def embargo(self) -> timedelta:
        """The time kept free between training labels and test: the longest horizon."""
        return max((self.horizon, *self.further))


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
        Whether the bundle now forecasts its symbols: whether it has skill.
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


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A service whose features a model reads, the one on trial or one that it is compared with."""

    service: str
    everything: TrainingSet
    seen: TrainingSet
    """What folds may see."""
    held: Held | None
    """What is held back for the end, and what may be learnt from before it is scored."""


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What the walks said, and what follows."""

    walked: Walk
    full: Losses
    others: tuple[Losses, ...]
    verdict: Verdict
    checks: tuple[Check, ...]


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
    # Before the long walk, so that what cannot be had or was spent stops the run at once.
    ways = _ways(plan, store, origin)
    on_trial = ways[0]
    manifest = _manifest(plan, on_trial, origin)
    treatments.refuse_idle(plan.settings.treatments, on_trial.everything.windows.features)
    if (spans := _held_spans(plan, on_trial)) and not plan.second_look:
        lastlook.refuse_again(workspace.models, spans)
    say(f"{manifest.samples:,} samples of {plan.service}, {manifest.first_at} to {manifest.last_at}")
    tried = _tuned(plan, on_trial.seen, say)
    if tried:
        plan = replace(plan, settings=best(tried))
    bars = {one.symbol: on_grid(read(origin.facts, one), one.grid) for one in plan.series}
    judged = _judge(plan, ways, bars, say)
    cautionary = _cautionary(plan, on_trial.seen, bars, judged.walked)
    last = _last_look(plan, ways, spans, workspace, say) if spans else None
    folder = _ship(plan, on_trial.everything, manifest, judged.verdict, workspace, say)
    html, json = report.write(
        report.Report(
            manifest=manifest,
            data=on_trial.seen,
            walked=judged.walked,
            full=judged.full,
            others=judged.others,
            settings=plan.settings,
            verdict=judged.verdict,
            checks=judged.checks,
            trials=max(1, len(tried)),
            tried=tried,
            cautionary=cautionary,
            final=last,
        ),
        report_folder or workspace.reports / folder.name,
    )
    skill = judged.verdict.skill
    made = bundle.promote(workspace.models, folder) if skill else bundle.read(folder)
    if made.override is not None:  # the same model was trained before, and promoted by hand
        promotion.note(html.parent, made.override)
    return Done(
        verdict=judged.verdict,
        flags=tuple(check.said for check in judged.checks if check.raised),
        folder=folder,
        promoted=skill,
        final=last,
        html=html,
        json=json,
    )


def _ways(plan: Plan, store: "Store", origin: Provenance) -> list[_Way]:
    """Return the service on trial and those that it is compared with; what is held back begins at one instant."""
    main, *further = plan.bars_ahead
    sets = {
        service: collect(
            store,
            origin.facts,
            plan.series,
            service=service,
            length=plan.length,
            horizon=main,
            further=further,
            first_at=plan.since,
            last_at=plan.until,
        )
        for service in (plan.service, *plan.compare)
    }
    if plan.held is None:
        return [_Way(service=service, everything=data, seen=data, held=None) for service, data in sets.items()]
    start = lastlook.start_of(sets[plan.service].at, share=plan.held)
    ways = []
    for service, data in sets.items():
        held = lastlook.hold_back(data.at, data.label_at, start=start, embargo=plan.embargo, window=plan.window)
        ways.append(_Way(service=service, everything=data, seen=data.first(held.before), held=held))
    return ways


def _manifest(plan: Plan, way: _Way, origin: Provenance) -> Manifest:
    return describe(way.everything, origin, plan.series, service=way.service, length=plan.length, seed=plan.seed)


def _held_spans(plan: Plan, way: _Way) -> tuple[Span, ...]:
    """Return what is held back, by symbol; nothing where nothing is."""
    if way.held is None:
        return ()
    data, test = way.everything, way.held.part.test
    held = {one: test[np.isin(test, data.by_symbol[one.symbol])] for one in plan.series}
    return tuple(lastlook.span_of(str(one), data.at[samples]) for one, samples in held.items() if len(samples))


def _tuned(plan: Plan, data: TrainingSet, say: Callable[[str], None]) -> tuple[Trial, ...]:
    if not plan.trials:
        return ()
    parts = walk_forward(data.at, data.label_at, folds=plan.folds, embargo=plan.embargo, window=plan.window)
    return tune(data, parts[0], settings=plan.settings, trials=plan.trials, seed=plan.seed, done=say)


def _judge(plan: Plan, ways: list[_Way], bars: Mapping[str, pl.DataFrame], say: Callable[[str], None]) -> _Judged:
    def walked_over(way: _Way) -> tuple[Walk, Losses]:
        walked = walk(
            way.seen,
            folds=plan.folds,
            embargo=plan.embargo,
            settings=plan.settings,
            seed=plan.seed,
            done=lambda fold: say(f"{way.service}: {fold}"),
            window=plan.window,
        )
        return walked, losses(way.seen, walked, service=way.service)

    data = ways[0].seen
    (walked, full), *compared = (walked_over(way) for way in ways)
    others = tuple(lost for _, lost in compared)
    trading = trade_walk(data, walked, bars, lag=full.lag, costs=plan.costs)
    verdict = decide(full, others, trading)
    looked_for = checks(data, walked, full, verdict)
    return _Judged(walked=walked, full=full, others=others, verdict=verdict, checks=looked_for)


def _cautionary(
    plan: Plan, data: TrainingSet, bars: Mapping[str, pl.DataFrame], walked: Walk
) -> tuple[tutorial.Outcome, ...]:
    days, closes = tutorial.daily_closes(bars[plan.series[0].symbol])  # which is enough of a warning
    some = (days >= data.at[0]) & (days <= data.at[-1])
    return tutorial.follow(days[some], closes[some], first_test=data.at[walked.samples[0]], seed=plan.seed)


def _last_look(
    plan: Plan, ways: list[_Way], spans: tuple[Span, ...], workspace: Workspace, say: Callable[[str], None]
) -> FinalPeriod:
    look = lastlook.spend(workspace.models, spans, service=plan.service, now=utc_now())
    held = [(way.service, way.everything, way.held) for way in ways if way.held is not None]
    return lastlook.score(spans, look, held, settings=plan.settings, seed=plan.seed, done=say)


def _ship(
    plan: Plan,
    data: TrainingSet,
    manifest: Manifest,
    verdict: Verdict,
    workspace: Workspace,
    say: Callable[[str], None],
) -> Path:
    say("fitting on all samples")
    fitted = final(data, embargo=plan.embargo, settings=plan.settings, seed=plan.seed, window=plan.window)
    return bundle.write(
        workspace.models,
        fitted,
        manifest=manifest,
        settings=plan.settings,
        timeframe=data.windows.timeframe,
        verdict=verdict,
        window=plan.window,
    )
