"""Whether what is stored and served is what follows from the facts that were known: tables, windows, online windows."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from backsight_features import delta, text
from backsight_features.audit.findings import Finding
from backsight_features.audit.pipeline_clocks import worded
from backsight_features.audit.pipeline_future import differing, shown
from backsight_features.bars import BarSeries
from backsight_features.building.record import records
from backsight_features.building.states import KINDS, READS, Background, Kind, states
from backsight_features.clocks import UTC_US, to_us
from backsight_features.schemas import SCORES, Table
from backsight_features.sights import SOURCES, Texts
from backsight_features.snapshot import Facts
from backsight_features.spans import Span
from backsight_features.text import Scorer
from backsight_features.windows import Windows
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_features.online.gate import OnlineWindow

_EARLY: Final = timedelta(days=10)
_LENGTH: Final = 24
"""Slots of the windows that are published."""

_SETTINGS: Final = """\
project: audit
provider: local
entity_key_serialization_version: 3
registry:
  registry_store_type: backsight_features.store.home.HomeRegistryStore
  path: ${BACKSIGHT_HOME}/online/registry.db
offline_store:
  type: backsight_features.store.asof.AsofOfflineStore
  root: ${BACKSIGHT_TABLES}
online_store:
  type: backsight_features.store.home.HomeSqliteOnlineStore
  path: ${BACKSIGHT_HOME}/online/online.db
"""
"""The definitions of a repo, with a registry and an online store that nobody else has."""


@dataclass(frozen=True, kw_only=True)
class Until:
    """A lake as it was known at an instant: what became available later is not there.

    Parameters
    ----------
    facts : Facts
        The lake.
    at : datetime
        The instant.
    early : datetime or None
        What became available by then is there too, as if it had been at the instant.
    """

    facts: Facts
    at: datetime
    early: datetime | None = None

    def scan(self, table: Table) -> pl.LazyFrame:
        """Return the facts of a table that were available, unordered."""
        rows = self.facts.scan(table)
        if self.early is None:
            return rows.filter(pl.col("available_at") <= self.at)
        seen = (pl.col("available_at") <= self.at) | (pl.col("observed_at") <= self.at)
        return rows.filter(pl.col("available_at") <= self.early, seen).with_columns(
            available_at=pl.min_horizontal("available_at", pl.lit(self.at, UTC_US))
        )


def tables(
    facts: Facts,
    versions: pl.DataFrame,
    folder: str | Path,
    series: BarSeries,
    scorer: Scorer | None,
    instants: list[datetime],
) -> Iterator[Finding]:
    """Yield the features whose stored value at an instant is not what follows from what was known then.

    Parameters
    ----------
    facts : Facts
        The lake, as the build read it.
    versions : pl.DataFrame
        `sights.VERSIONS` of its texts.
    folder : str or Path
        Where the feature tables are.
    series : BarSeries
        Whose rows.
    scorer : Scorer or None
        Whose scores are read.
    instants : list of datetime
        Of each the last row by then is looked at.
    """
    convicted: set[str] = set()
    for kind in KINDS:
        name = f"{kind}_{series.timeframe}"
        table = delta.open(delta.join(folder, name))
        if table is None or str(series) not in records(table):
            continue
        own = delta.scan(table).filter(pl.col("symbol") == series.symbol)
        stamps = own.select("available_at").sort("available_at").collect()["available_at"]
        places = np.unique(stamps.search_sorted(pl.Series(instants, dtype=UTC_US), side="right").cast(pl.Int64) - 1)
        looked_at = stamps.gather(places[places >= 0])
        rows = own.filter(pl.col("available_at").is_in(looked_at.implode())).sort("available_at").collect()
        for stored in rows.iter_slices(1):
            at = stored["available_at"].item()
            known = _row(kind, Until(facts=facts, at=at), versions, series, scorer, at)
            for feature in set(differing(stored, known)) - convicted:
                convicted.add(feature)
                yield _stored(kind, feature, facts, versions, series, scorer, stored, known)


def _row(
    kind: Kind, facts: Until, versions: pl.DataFrame, series: BarSeries, scorer: Scorer | None, at: datetime
) -> pl.DataFrame:
    """Return the row of an instant from some facts."""
    latest = facts.early or facts.at
    seen = versions.filter(pl.col("available_at") <= latest).with_columns(
        available_at=pl.min_horizontal("available_at", pl.lit(at, UTC_US))
    )
    scores = text.by(facts.scan(SCORES), scorer)
    background = Background(
        texts={source: Texts(versions=seen.filter(pl.col("source") == source), scores=scores) for source in SOURCES},
        vintages=facts.scan(READS["macro"][1]).collect() if kind == "macro" else READS["macro"][1].empty(),
        scorer=scorer,
    )
    return states(kind, facts, series, background, Span(to_us(at), to_us(at) + 1))


def _stored(
    kind: Kind,
    feature: str,
    facts: Facts,
    versions: pl.DataFrame,
    series: BarSeries,
    scorer: Scorer | None,
    stored: pl.DataFrame,
    known: pl.DataFrame,
) -> Finding:
    at = stored["available_at"].item()
    values = [shown(row, feature) for row in (stored, known)]
    ahead = _row(kind, Until(facts=facts, at=at, early=at + _EARLY), versions, series, scorer, at)
    datum = f"stored is {values[0]}, and {values[1]} follows from what was known"
    if feature in ahead.columns and ahead.height and ahead[feature].equals(stored[feature], null_equal=True):
        datum += f"; with facts known by {at + _EARLY:%Y-%m-%d %H:%M} it is what is stored: {_later(kind, facts, at)}"
    return Finding(
        check="stored",
        name=feature,
        where=f"{kind}_{series.timeframe} of {series.symbol}",
        instant=at,
        datum=datum,
        said="the feature table holds another value than follows from the facts that were known at the row",
        right="feature tables are what `backsight build` makes of the lake; build again, or look who writes there",
    )


def _later(kind: Kind, facts: Facts, at: datetime) -> str:
    """Return the first fact about what had happened by an instant that became available after it, in words."""
    for table in READS[kind]:
        late = (pl.col("available_at") > at) & (pl.col("observed_at") <= at)
        rows = facts.scan(table).filter(late).sort("available_at").head(1).collect()
        if rows.height:
            return f"first of them {worded(table, rows.row(0, named=True))}"
    return "none of them is about what had happened by then"


@dataclass(frozen=True, kw_only=True)
class Served:
    """How windows are read offline and served online, as of an instant.

    Parameters
    ----------
    offline, online : callable
        From an instant to the window then.
    """

    offline: Callable[[datetime], Windows]
    online: Callable[[datetime], "OnlineWindow"]


def serving(repo: Path, workspace: Workspace, scratch: Path, service: str, symbol: str) -> Served:
    """Return how a repo serves a service, published to an online store in a folder of its own.

    The feature tables in use are read; registry and online store in use are not touched.

    Parameters
    ----------
    repo : Path
        Folder of the definitions.
    workspace : Workspace
        Whose feature tables.
    scratch : Path
        An empty folder.
    service, symbol : str
        What is served.
    """
    from backsight_features.store import Store

    copy = scratch / "repo"
    shutil.copytree(repo, copy, ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
    (copy / "feature_store.yaml").write_text(_SETTINGS)
    tables_root = workspace.root.absolute() if workspace.tables is None else workspace.tables
    store = Store(copy, Workspace(root=scratch / "home", tables=tables_root))
    store.apply()

    def offline(at: datetime) -> Windows:
        asked = pl.DataFrame({"symbol": [symbol], "at": [at]}, schema={"symbol": pl.String(), "at": UTC_US})
        return store.windows(service, [symbol], asked, length=_LENGTH)

    def online(at: datetime) -> "OnlineWindow":
        store.publish(service, length=_LENGTH, at=at)
        return store.online(service, symbol, at=at, max_age=timedelta(days=3650), unfit="null")

    return Served(offline=offline, online=online)


def parity(served: Served, service: str, symbol: str, instants: list[datetime]) -> Iterator[Finding]:
    """Yield a finding for each feature that is served online otherwise than it is read offline.

    Parameters
    ----------
    served : Served
        Both ways.
    service, symbol : str
        What is served.
    instants : list of datetime
        When; ascending, as what is online is never put back.
    """
    convicted: set[str] = set()
    for at in instants:
        offline, online = served.offline(at), served.online(at)
        for name, slot, one, other in _apart(offline, online):
            if name in convicted:
                continue
            convicted.add(name)
            yield Finding(
                check="online",
                name=name,
                where=f"{service} of {symbol}",
                instant=at,
                datum=f"slot {slot} of {len(offline.index[0])}: {one} offline, {other} online",
                said="the window that is served online is not the one that training reads",
                right="both come from one function and one table; what is online is as of its instant",
            )


def _apart(offline: Windows, online: "OnlineWindow") -> Iterator[tuple[str, int, Any, Any]]:
    values, served = offline.gather()[0], online.values
    if values.shape != served.shape:
        yield "windows", 0, values.shape, served.shape
        return
    differ = ~((values == served) | (np.isnan(values) & np.isnan(served)))
    for column, name in enumerate(offline.features):
        slots = np.flatnonzero(differ[:, column])
        if slots.size:
            slot = int(slots[-1])
            yield name, slot, float(values[slot, column]), float(served[slot, column])
