"""Feature tables: for each bar series, what was known at each instant, written as Delta tables.

``market_1h``, ``text_1h``, ``macro_1h`` and ``book_1h`` (for hourly bars) have the same rows: one per symbol and
``available_at``.

A build works out which instants are affected by the facts that have come in since the last one, computes those rows
and writes the ones that differ. What it leaves is, bit for bit, what computing everything would have left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from backsight_features import bars, book, delta
from backsight_features.bars import BarSeries
from backsight_features.building.identities import identities
from backsight_features.building.plan import Planner
from backsight_features.building.record import Overtaken, Record, code_version, refuse_older, renewed
from backsight_features.building.states import KINDS, Background, Kind, columns, states
from backsight_features.building.tables import FeatureTable, Patch, check_columns
from backsight_features.clocks import from_us
from backsight_features.errors import BadInput, Busy
from backsight_features.snapshot import Snapshot
from backsight_features.text import Scorer, choose_scorer

_MOST_OVERTAKEN: Final = 10


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did to the rows of one symbol in one table.

    Parameters
    ----------
    table : str
        ``market_1h``.
    symbol : str
        ``BTC-USD``.
    why : str
        ``no new facts``, ``new facts``, ``late facts from 2024-03-01T12:00:00Z``, or ``full`` and the reason.
    computed : int
        Rows that were computed, and compared with those stored.
    written : int
        Rows that were new or other than those stored, and those between them.
    first, last : datetime or None
        The first and last instant at which a row was new or another.
    """

    table: str
    symbol: str
    why: str
    computed: int
    written: int
    first: datetime | None
    last: datetime | None


def build(
    facts: Snapshot,
    folder: str | Path,
    series: Sequence[BarSeries],
    *,
    scorer: Scorer | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Built]:
    """Make the rows of bar series in the feature tables those that follow from the lake.

    The rows of other symbols stay. One commit per table holds what changed, and a record of the series, the lake's
    versions, the scorer and the version of this code; where rows and records are as before there is none. A build
    that was broken off is made good by the next one; several at once do not disturb each other.

    Parameters
    ----------
    facts : Snapshot
        The lake. Where another build has used a newer state of it meanwhile, the lake is read again: rows are never
        put back.
    folder : str or Path
        Where the tables are: a folder or a URL.
    series : sequence of BarSeries
        At most one per symbol and timeframe.
    scorer : Scorer, optional
        Whose scores to use; may be left out where the lake has those of one only.
    say : callable
        Told what is missing, a line each.

    Returns
    -------
    list of Built
        By timeframe, table and symbol.

    Raises
    ------
    BadInput
        If a series is not in the lake, two have one symbol and timeframe, the scorer is unknown or not unique, or a
        table has other columns and symbols that are not built now.
    Busy
        If other builds kept writing these tables.
    """
    _check_distinct(series)
    for _ in range(_MOST_OVERTAKEN):
        try:
            return _build(facts, folder, series, scorer, say)
        except Overtaken:
            facts = facts.renewed()
    raise Busy(f"other builds kept using newer facts: overtaken {_MOST_OVERTAKEN} times")


def _build(
    facts: Snapshot,
    folder: str | Path,
    series: Sequence[BarSeries],
    scorer: Scorer | None,
    say: Callable[[str], None],
) -> list[Built]:
    """Do what `build` does from one state of the lake."""
    bars.check(facts, series)
    chosen = choose_scorer(facts, scorer)
    now = Record(
        lake=dict(facts.versions),
        ids=facts.ids(),
        ingested_until=facts.ingested_until,
        scorer=str(chosen or ""),
        code=code_version(),
    )
    background = Background.read(facts, chosen, identities(facts, folder, now))
    for gap in background.gaps():
        say(f"warning: {gap}")
    if missing := book.absent(facts, series):
        say(f"warning: no order books of {', '.join(missing)}: their features are null")
    planner = Planner(facts=facts, background=background, now=now)
    built: list[Built] = []
    for timeframe in dict.fromkeys(one.timeframe for one in series):
        same = sorted((one for one in series if one.timeframe == timeframe), key=lambda one: one.symbol)
        # Before any is written: all of them can be.
        for kind in KINDS:
            check_columns(folder, f"{kind}_{timeframe}", columns(kind, timeframe), [one.symbol for one in same])
        for kind in KINDS:
            built += _settled(kind, planner, folder, same)
    return built


def _check_distinct(series: Sequence[BarSeries]) -> None:
    named: dict[tuple[str, str], BarSeries] = {}
    for one in series:
        other = named.setdefault((one.symbol, one.timeframe), one)
        if other is not one:
            raise BadInput(f"{other} and {one} would be the same rows; a symbol has one venue per timeframe")


def _settled(kind: Kind, planner: Planner, folder: str | Path, series: Sequence[BarSeries]) -> list[Built]:
    """Build the table of one kind and timeframe, again where another build was quicker."""
    name, own = f"{kind}_{series[0].timeframe}", columns(kind, series[0].timeframe)

    def attempt() -> list[Built]:
        table = FeatureTable.open(folder, name, own)
        before = [table.records[str(one)] for one in series if str(one) in table.records]
        refuse_older(planner.facts, planner.now, before)
        built: list[Built] = []
        patches: list[Patch] = []
        for one in series:
            done, changed = _compare(planner, kind, one, table)
            built.append(done)
            patches += changed
        table.write(patches, renewed(table.records, [str(one) for one in series], planner.now))
        return built

    return delta.settle(delta.join(folder, name), attempt)


def _compare(planner: Planner, kind: Kind, series: BarSeries, table: FeatureTable) -> tuple[Built, list[Patch]]:
    """Compute what has to be, and return what is other than stored."""
    plan = planner.plan(kind, series, table)
    computed, late, patches = 0, None, []
    for span, newest in plan.pieces:
        rows = states(kind, planner.facts, series, planner.background, span, newest)
        stored = table.rows(series.symbol, span)
        if late is None and stored.height:
            late = span.start
        computed += rows.height
        patch = Patch.of(series.symbol, rows, stored)
        if patch is not None:
            patches.append(patch)
    if plan.full is not None:
        why = f"full: {plan.full}"
    elif late is not None:
        why = f"late facts from {from_us(late):%FT%TZ}"
    else:
        why = "new facts" if plan.pieces else "no new facts"
    done = Built(
        table=table.name,
        symbol=series.symbol,
        why=why,
        computed=computed,
        written=sum((patch.rows if patch.replaces else patch.new).height for patch in patches),
        first=from_us(patches[0].first) if patches else None,
        last=from_us(patches[-1].last) if patches else None,
    )
    return done, patches
