"""A look at a model in use, as cron has it: is it due, is a challenger as good, and which of them forecasts then."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from backsight_features.bars import BarSeries
from backsight_features.clocks import parse_instant
from backsight_features.errors import BadInput, Busy
from backsight_features.lake import Lake
from backsight_features.workspace import Workspace
from filelock import FileLock, Timeout

from backsight_model import bundle, challenge, shadows
from backsight_model.arrays import FloatArray, IntArray
from backsight_model.bundle import Bundle, Override
from backsight_model.drift import Drift, look
from backsight_model.instants import Instants
from backsight_model.lineage import Inherited, Refit
from backsight_model.live.lastseen import to_mend
from backsight_model.manifest import features_digest
from backsight_model.policies import Decision, Policy
from backsight_model.provenance import Provenance, provenance
from backsight_model.splits import Fold
from backsight_model.training import TrainingSet, collect, describe
from backsight_model.walk import Fitted, Start, learn
from backsight_model.words import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from backsight_features.store import Store

JOURNAL: Final = "retrainings.jsonl"
"""A line for every challenger whose case is closed; one that won and is not in it was cut off before its promotion."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a look came to.

    Attributes
    ----------
    series : tuple of str
    policy : str
    due : bool
        Whether a challenger was trained, or one that an earlier run had trained was brought to its end.
    why : str
    drift : Drift or None
        What was seen, where it was looked for.
    champion : str
        The bundle that was in use before.
    challenger : str or None
        The bundle that was trained.
    refit : Refit or None
        Its record.
    """

    series: tuple[str, ...]
    policy: str
    due: bool
    why: str
    champion: str
    drift: Drift | None = None
    challenger: str | None = None
    refit: Refit | None = None

    @property
    def promoted(self) -> bool:
        """Whether the challenger is in use now."""
        return self.refit is not None and self.refit.won

    @property
    def line(self) -> str:
        """What was done, and why, in one line."""
        if not self.due:
            return f"not due: {listed(self.series)}, policy {self.policy}: {self.why}; {self.champion} stays in use"
        if self.promoted:
            return f"promoted: {self.challenger} in the place of {self.champion} ({self.why})"
        return f"kept: {self.champion}; {self.challenger} is not used ({self.why})"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "series": list(self.series),
            "policy": self.policy,
            "due": self.due,
            "why": self.why,
            "drift": None if self.drift is None else self.drift.to_json(),
            "champion": self.champion,
            "challenger": self.challenger,
            "comparison": None if self.refit is None else self.refit.comparison,
            "promoted": self.promoted,
        }


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A champion, and the terms on which it can be replaced."""

    champion: Bundle
    models: Path
    live: Path
    policy: Policy
    override: Override | None
    now: datetime

    @property
    def series(self) -> tuple[BarSeries, ...]:
        return tuple(BarSeries.parse(name) for name in self.champion.manifest.series)

    @property
    def embargo(self) -> timedelta:
        return self.champion.manifest.longest * self.champion.timeframe

    def outcome(
        self, why: str, drift: Drift | None, challenger: str | None = None, refit: Refit | None = None
    ) -> Outcome:
        return Outcome(
            series=tuple(self.champion.manifest.series),
            policy=self.policy.name,
            due=refit is not None,
            why=why,
            champion=self.champion.name,
            drift=drift,
            challenger=challenger,
            refit=refit,
        )


@dataclass(frozen=True, kw_only=True)
class _Tape:
    """All samples since the first that the champion learnt from, and what it makes of them."""

    origin: Provenance
    data: TrainingSet
    learnt: Fold
    new: IntArray
    lost: dict[str, FloatArray]


def retrain(
    series: Sequence[BarSeries],
    policy: Policy,
    store: "Store",
    workspace: Workspace,
    *,
    override: str | None,
    now: datetime,
    say: "Callable[[str], None]",
) -> Outcome:
    """Train a challenger to the model that is in use where the policy says so, and promote it where it is not worse.

    Run again at once it does nothing; cut off anywhere, it goes on from there.

    Parameters
    ----------
    series : sequence of BarSeries
        Whose outcomes the model forecasts; of one that forecasts several it is enough to name one.
    policy : Policy
    store : Store
        Serves the windows.
    workspace : Workspace
        Holds lake, feature tables and bundles.
    override : str, optional
        Why a refit of a model without proven skill is to be used; `bundle.promote` refuses it otherwise.
    now : datetime
        Labels known later are not looked at.
    say : callable
        Is told what is being done.

    Raises
    ------
    Missing
        Where no model is in use.
    BadInput
        Where the model in use is one of other bars or features, or not in use for all that it forecasts, or has no
        proven skill and there is no override.
    Busy
        Where another run is about the same symbol.
    """
    models = workspace.models
    symbols = bundle.current(models, series[0].symbol).symbols
    with _alone(models, symbols):
        champion = bundle.current(models, series[0].symbol)
        if champion.symbols != symbols:
            raise Busy(f"another model was promoted for {series[0].symbol} this moment; try again")
        permission = _permission(champion, series, override, now)
        _refuse_split(champion, bundle.pointers(models))
        case = _Case(champion=champion, models=models, live=workspace.live, policy=policy, override=permission, now=now)
        if (cut_off := _cut_off(case)) is not None:
            return _close(case, *cut_off, "its run had been cut off")
        tape = _tape(case, store, workspace)
        decision = _decide(case, tape)
        if not decision.due:
            return case.outcome(decision.why, decision.drift)
        say(f"training a challenger to {champion.name}: {decision.why}")
        return _close(case, *_challenge(case, decision, tape), decision.why, decision.drift)


def history(models: Path) -> list[dict[str, Any]]:
    """Return the journal: every challenger whose case is closed, oldest first."""
    path = models / JOURNAL
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@contextmanager
def _alone(models: Path, symbols: Sequence[str]) -> Iterator[None]:
    models.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for symbol in symbols:
            try:
                held.enter_context(FileLock(models / f".retrain-{symbol.replace('/', '-')}.lock", timeout=0))
            except Timeout:
                raise Busy(f"another run of `backsight retrain` for {symbol} is going on; try again later") from None
        yield


def _permission(champion: Bundle, series: Sequence[BarSeries], override: str | None, now: datetime) -> Override | None:
    """Return why a refit may be used without skill, None where it needs no reason; before anything dear is done."""
    for one in series:
        if str(one) not in champion.manifest.series:
            known = listed(champion.manifest.series)
            raise BadInput(f"{champion.name} forecasts {known}, not {one}; name that, or train")
    if any(champion.proven.values()):
        return None
    if override is None:
        raise BadInput(
            f"{champion.name} has no proven skill, and a refit of it would have none; train again, or give a reason "
            "with --override, which every forecast of it will repeat"
        )
    on_one_line = " ".join(override.split())
    if not on_one_line:
        raise BadInput("the reason of an override is blank; say why a model without proven skill is to be used")
    return Override(reason=on_one_line, at=now.isoformat(timespec="seconds"))


def _refuse_split(champion: Bundle, in_use: dict[str, Any]) -> None:
    """Raise where a symbol of the champion is forecast by another by now: a refit would take it from that one."""
    for symbol in champion.symbols:
        name = in_use.get(symbol, {"bundle": "nothing"})["bundle"]
        if name != champion.name:
            raise BadInput(
                f"{champion.name} forecasts {listed(champion.symbols)}, and {symbol} is forecast by {name}; promote "
                f"{champion.name} again, or train"
            )


def _cut_off(case: _Case) -> tuple[str, Refit] | None:
    """Return the newest challenger whose comparison was made and whose case was not closed."""
    champion, closed = case.champion, {entry["challenger"] for entry in history(case.models)}
    if champion.refit is not None and champion.name not in closed:  # promoted, and cut off before that was noted
        _note(case.models, champion.name, champion.refit)
    waiting = {name: refit for name, refit in bundle.refits(case.models, champion.name).items() if name not in closed}
    return max(waiting.items(), key=lambda item: item[1].at, default=None)


def _close(case: _Case, challenger: str, refit: Refit, why: str, drift: Drift | None = None) -> Outcome:
    if refit.won:
        bundle.promote(case.models, case.models / challenger, override=case.override)
    else:
        losers = [entry["challenger"] for entry in history(case.models) if not entry["won"]]
        shadows.stand_by(case.models, challenger, losers=losers)
    _note(case.models, challenger, refit)
    compared = challenge.Comparison.from_json(refit.comparison).words
    return case.outcome(f"{why}; {compared}", drift, challenger, refit)


def _note(models: Path, challenger: str, refit: Refit) -> None:
    entry = {"at": refit.at, "champion": refit.champion, "challenger": challenger, "why": refit.why, "won": refit.won}
    with (models / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(entry) + "\n")


def _tape(case: _Case, store: "Store", workspace: Workspace) -> _Tape:
    champion, manifest = case.champion, case.champion.manifest
    origin = provenance(workspace.features, Lake(workspace.lake), case.series)
    data = collect(
        store,
        origin.facts,
        case.series,
        service=manifest.service,
        length=manifest.length,
        horizon=manifest.horizon,
        further=manifest.further,
        first_at=parse_instant(manifest.first_at),
    )
    if features_digest(data.windows.features) != manifest.features_sha256:
        raise BadInput(
            f"{manifest.service} has other features now than {champion.name} learnt from; train again, with a proof"
        )
    count = int(np.searchsorted(data.at, _stamp(manifest.last_at), side="right"))
    if count == 0:
        raise BadInput(
            f"no sample that {champion.name} learnt from is left in the feature tables; build them, or train"
        )
    label_at = data.label_at[:count]
    until = label_at.max() if champion.refit is None else _stamp(champion.refit.learnt_until)
    learnt = challenge.learnable(data.at[:count], label_at, until, embargo=case.embargo, window=champion.window)
    new = challenge.unlearnt(data, learnt, _stamp(case.now.isoformat()))
    lost = challenge.lost(data, champion, np.concatenate([learnt.valid, new]))
    return _Tape(origin=origin, data=data, learnt=learnt, new=new, lost=lost)


def _decide(case: _Case, tape: _Tape) -> Decision:
    data, new, champion = tape.data, tape.new, case.champion
    made = [*bundle.refits(case.models, champion.name).values(), *([champion.refit] if champion.refit else [])]
    trained = [_stamp(refit.at) for refit in made]
    after = new[data.label_at[new] > max(trained)] if trained else new
    return case.policy.decide(
        len(Instants.of(data.at[new])),
        since_last=len(Instants.of(data.at[after])),
        horizon=data.horizon,
        look=partial(
            look,
            data.at,
            data.windows.rows[data.windows.index[:, -1]],
            tape.lost,
            features=data.windows.features,
            train=tape.learnt.train,
            tail=tape.learnt.valid,
            since=new,
            # So many samples in a row are a horizon: symbols of one instant are neighbours.
            horizon=data.horizon * len(data.by_symbol),
        ),
        alerts=to_mend(case.live, champion.name),
    )


def _challenge(case: _Case, decision: Decision, tape: _Tape) -> tuple[str, Refit]:
    """Train a challenger, compare it with the champion, and write both down in its bundle."""
    champion, data, before = case.champion, tape.data, case.champion.refit
    stretch = challenge.newest(data, tape.new)
    until = data.at[stretch[0]]
    part = challenge.learnable(data.at, data.label_at, until, embargo=case.embargo, window=champion.window)
    number = 1 if before is None else before.number + 1
    fitted = learn(
        data,
        part,
        settings=champion.settings,
        seed=1000 * champion.manifest.seed + number,
        warm=_start(case) if case.policy.warm else None,
    )
    seen = challenge.compare(data, stretch, tape.lost, challenge.lost(data, fitted, stretch))
    refit = Refit(
        champion=champion.name,
        number=number,
        warm=case.policy.warm,
        policy=case.policy.name,
        why=decision.why,
        at=case.now.isoformat(),
        learnt_until=f"{until}+00:00",
        comparison=seen.to_json(),
        won=seen.won,
        proven_by=champion.name if before is None else before.proven_by,
        proven_until=champion.manifest.last_at if before is None else before.proven_until,
    )
    samples = int(np.searchsorted(data.at, data.at[part.train[-1]], side="right"))
    return _written(case, tape, fitted, refit, samples=samples), refit


def _start(case: _Case) -> Start:
    from backsight_model.lstm import load  # takes seconds, and a look that finds nothing due does not need it

    return Start(scaler=case.champion.scaler, network=load(case.models / case.champion.name))


def _written(case: _Case, tape: _Tape, fitted: Fitted, refit: Refit, *, samples: int) -> str:
    """Write the challenger, which learnt from the first so many samples, and return its name."""
    champion, known = case.champion, case.champion.manifest
    learnt_from = tape.data.first(samples)
    folder = bundle.write(
        case.models,
        fitted,
        manifest=describe(
            learnt_from, tape.origin, case.series, service=known.service, length=known.length, seed=known.seed
        ),
        settings=champion.settings,
        timeframe=champion.timeframe,
        verdict=Inherited(proven=champion.proven, word=champion.word, sentences=champion.verdict),
        window=champion.window,
        refit=refit,
    )
    return folder.name


def _stamp(instant: str) -> np.datetime64:
    """Return an ISO instant, which has a zone, as numpy has it."""
    return np.datetime64(parse_instant(instant).replace(tzinfo=None), "us")
