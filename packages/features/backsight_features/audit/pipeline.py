"""``audit pipeline``: whether anything between a lake and what is served sees the future.

Nothing is believed about the code that computes features: facts around an instant are taken into memory, those that
became available later are deleted, corrupted and added to, and the rows up to the instant must not change in a bit.
The lake, its feature tables and the online store in use are only read.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from backsight_features import delta
from backsight_features.audit.findings import Audit, Finding, LookedFor
from backsight_features.audit.pipeline_builds import repeats, slices
from backsight_features.audit.pipeline_clocks import backfilled, bars_at_open, dates_for_instants, impossible
from backsight_features.audit.pipeline_future import COMPARED, ROWS, Compute, computing, cut, future, tables
from backsight_features.audit.pipeline_instants import Instants, choose
from backsight_features.audit.pipeline_stored import parity, serving
from backsight_features.audit.pipeline_stored import tables as stored_tables
from backsight_features.bars import BarSeries
from backsight_features.building.identities import kept
from backsight_features.building.record import Record, records
from backsight_features.building.states import KINDS, memory
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.maintenance import folders
from backsight_features.snapshot import Facts, Snapshot
from backsight_features.text import Scorer
from backsight_features.workspace import Workspace

_LONGER: Final = 1500
"""Bars that a longer slice has beyond the lookback; more than a block of the indicators."""

_TIMES: Final = 4
"""Instants at which slices, orders and windows are looked at: they cost more."""


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is audited.

    Parameters
    ----------
    facts : Facts
        The lake.
    series : BarSeries
        Whose features.
    compute : callable
        From facts to rows: ``available_at``, and the features.
    where : mapping of str to str
        The table of each feature.
    lookback : int, optional
        Bars that a row may depend on; those of all features of the timeframe unless given.
    """

    facts: Facts
    series: BarSeries
    compute: Compute
    where: dict[str, str] = field(default_factory=dict)
    lookback: int | None = None

    @property
    def bars(self) -> int:
        """How many bars before an instant decide about the rows that are compared."""
        known = max(memory(kind, self.series.timeframe) for kind in KINDS)
        return COMPARED + (known if self.lookback is None else self.lookback)

    def table(self, feature: str) -> str:
        """Return in which table a feature is."""
        return self.where.get(feature, f"features of {self.series.timeframe} bars")

    def futures(self, instants: list[datetime]) -> Iterator[Finding]:
        """Yield a finding for each feature that sees later facts, as soon as one instant shows it."""
        convicted: set[str] = set()
        for number, at in enumerate(instants):
            facts = cut(self.facts, self.series, at, self.bars)
            for finding in future(self.compute, facts, self.series, at, where=self.table, seed=number):
                if finding.name not in convicted:
                    convicted.add(finding.name)
                    yield finding

    def slices(self, instants: list[datetime]) -> Iterator[Finding]:
        """Yield a finding for each feature that depends on where a slice begins."""
        for at in instants:
            longer = cut(self.facts, self.series, at, self.bars + _LONGER)
            yield from slices(self.compute, longer, self.series, at, self.bars, where=self.table)

    def repeats(self, instants: list[datetime]) -> Iterator[Finding]:
        """Yield a finding for each feature that depends on the order of facts, or counts one twice."""
        for number, at in enumerate(instants):
            facts = cut(self.facts, self.series, at, self.bars)
            yield from repeats(self.compute, facts, self.series, at, where=self.table, seed=number)

    def clocks(self) -> Iterator[Finding]:
        """Yield a finding for each source whose clocks cannot be right."""
        yield from impossible(self.facts)
        yield from dates_for_instants(self.facts)
        yield from backfilled(self.facts)
        yield from bars_at_open(self.facts, self.series)


def audit(
    workspace: Workspace,
    repo: Path,
    *,
    series: BarSeries | None = None,
    service: str | None = None,
    most: int = 60,
    say: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Return what an audit of a lake, its feature tables and what is served from them finds.

    Parameters
    ----------
    workspace : Workspace
        Where lake and features are; only read.
    repo : Path
        Folder of ``feature_store.yaml``.
    series : BarSeries, optional
        Whose features; may be left out where those of one series only are built.
    service : str, optional
        Which service is compared offline and online; all features of the repo's timeframe unless given.
    most : int
        Instants that are tried, 40 at least.
    say : callable
        Told what is being done, a line each.

    Raises
    ------
    BadInput
        If no features are built, or those of several series and none is named, or a build was broken off.
    """
    chosen, record = _built(workspace.features, series)
    facts = Snapshot(lake=Lake(workspace.lake), versions=record.lake, ingested_until=record.ingested_until)
    gone = ""
    try:
        facts.ids()
    except delta.Gone as error:
        facts, gone = facts.renewed(), f"the lake cannot be read as it was at the build; build again: {error}"
    scorer = Scorer.parse(record.scorer) if record.scorer else None
    pipeline = Pipeline(
        facts=facts, series=chosen, compute=computing(chosen, scorer), where={ROWS: "all tables", **tables(chosen)}
    )
    instants = choose(facts, chosen, most=most)
    few = _some(instants.at, _TIMES)
    looked, findings = _looked(pipeline, instants, few, say)
    say("feature tables")
    stored: list[Finding] = []
    if not gone:
        versions = kept(facts, workspace.features)
        stored += stored_tables(facts, versions, workspace.features, chosen, scorer, instants.at)
    looked.append(LookedFor(check="stored", said=gone or f"stored rows at {instants.said}", skipped=bool(gone)))
    say("windows online")
    served, found = _served(workspace, repo, chosen, service, few)
    return Audit(
        of=f"{chosen} in {workspace.lake}",
        findings=(*findings, *stored, *found),
        looked_for=(*looked, served),
    )


def _looked(
    pipeline: Pipeline, instants: Instants, few: list[datetime], say: Callable[[str], None]
) -> tuple[list[LookedFor], list[Finding]]:
    """Make the checks that take facts and a computation."""
    later = f"later facts deleted, corrupted and added at {instants.said}"
    checks: list[tuple[str, str, Iterator[Finding]]] = [
        (
            "clocks",
            "facts known before they could be, dates taken for instants, bars stamped with their open, backfills",
            pipeline.clocks(),
        ),
        ("future", later, pipeline.futures(instants.at)),
        ("slice", f"{_LONGER} bars more or less before the lookback, at {len(few)} instants", pipeline.slices(few)),
        (
            "order and duplicates",
            f"facts shuffled, and some of them twice, at {len(few)} instants",
            pipeline.repeats(few),
        ),
    ]
    looked: list[LookedFor] = []
    findings: list[Finding] = []
    for check, said, found in checks:
        say(check)
        findings += found
        looked.append(LookedFor(check=check, said=said))
    return looked, findings


def _served(
    workspace: Workspace, repo: Path, series: BarSeries, service: str | None, few: list[datetime]
) -> tuple[LookedFor, list[Finding]]:
    name = service or f"forecast_{series.timeframe}"
    if not (repo / "feature_store.yaml").exists():
        return LookedFor(check="online", said=f"no feature repo in {repo}", skipped=True), []
    with tempfile.TemporaryDirectory(prefix="backsight-audit-") as scratch:
        try:
            served = serving(repo, workspace, Path(scratch), name, series.symbol)
            found = list(parity(served, name, series.symbol, few))
        except BadInput as error:
            return LookedFor(check="online", said=str(error), skipped=True), []
    return LookedFor(check="online", said=f"windows of {name} online and offline at {len(few)} instants"), found


def _some(instants: list[datetime], number: int) -> list[datetime]:
    """Return instants spread over the later half, where there is a past to look at."""
    half = instants[len(instants) // 2 :]
    return half[:: max(1, len(half) // number)][:number]


def _built(folder: str | Path, wanted: BarSeries | None) -> tuple[BarSeries, Record]:
    """Return the series to audit, and what all its tables follow from."""
    found: dict[str, list[Record]] = {}
    for name in folders(folder):
        table = delta.open(delta.join(folder, name)) if name.partition("_")[0] in KINDS else None
        for series, record in ({} if table is None else records(table)).items():
            found.setdefault(series, []).append(record)
    names = ", ".join(sorted(found))
    if not found:
        raise BadInput(f"no features are built in {folder}; run `backsight build`")
    if wanted is not None and str(wanted) not in found:
        raise BadInput(f"no features of {wanted} are built; there are those of {names}")
    if wanted is None and len(found) > 1:
        raise BadInput(f"features of several bar series are built; choose one with --bars: {names}")
    series = names if wanted is None else str(wanted)
    first, *others = found[series]
    if any(other != first for other in others):
        raise BadInput(
            f"a build of {series} was broken off: its tables come from different states of the lake; "
            f"run `backsight build --bars {series}`"
        )
    return BarSeries.parse(series), first
