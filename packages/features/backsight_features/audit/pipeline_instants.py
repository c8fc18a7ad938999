"""The instants at which a pipeline is tried: where looking ahead would show."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from backsight_features import bars
from backsight_features.bars import BarSeries
from backsight_features.errors import BadInput
from backsight_features.schemas import BARS, FACTS, MACRO
from backsight_features.snapshot import Facts

_MICROSECOND: Final = timedelta(microseconds=1)
_FEWEST_BETWEEN: Final = 10


@dataclass(frozen=True, kw_only=True)
class Instants:
    """Instants of a kind each, and how many there were to choose from.

    Parameters
    ----------
    at : list of datetime
        Ascending.
    said : str
        In words what they are.
    """

    at: list[datetime]
    said: str


def choose(facts: Facts, series: BarSeries, *, most: int, seed: int = 0) -> Instants:
    """Return both sides of gaps, releases and late facts, and instants between, as many as there may be.

    All edges of gaps are taken as far as they are no more than half of the instants, all releases as far as they are no
    more than a quarter; of more a sample is taken, and of the other kinds too. The result says of how many.

    Parameters
    ----------
    facts : Facts
        The lake.
    series : BarSeries
        Whose rows are tried.
    most : int
        How many instants.
    seed : int
        Of the sample.

    Returns
    -------
    Instants
        Between the first and the last bar.
    """
    random = np.random.default_rng(seed)
    stamps = bars.on_grid(
        bars.of(facts.scan(BARS), series).select("observed_at", "available_at").collect(), series.grid
    )
    rows = stamps.sort("observed_at", "available_at").unique("observed_at", keep="first", maintain_order=True)
    ahead = pl.col("observed_at").shift(-1) - pl.col("observed_at") > series.grid.step
    edges = rows.filter(ahead | ahead.shift(1))["available_at"]
    first, last = rows["available_at"].min(), rows["available_at"].max()
    if not isinstance(first, datetime) or not isinstance(last, datetime) or (last - first) / _MICROSECOND < most:
        raise BadInput(f"{rows.height} bars of {series}; to audit them there must be more")
    usual = (pl.col("available_at") - pl.col("observed_at")).median()
    kinds = {
        "edges of gaps": edges,
        "releases": facts.scan(MACRO).select(pl.col("available_at").unique()).collect()["available_at"],
        "late or corrected bars": stamps.filter(
            pl.col("available_at") - pl.col("observed_at") > usual + series.grid.step
        )["available_at"],
        **{
            f"new {name}": facts.scan(table).select(pl.col("available_at").unique()).collect()["available_at"]
            for name, table in FACTS.items()
            if table not in (BARS, MACRO)
        },
    }
    rooms = {"edges of gaps": most // 2, "releases": most // 4}
    share = max(1, most // (4 * (len(kinds) - len(rooms))))
    chosen: set[datetime] = set()
    said = []
    for kind, found in kinds.items():
        inside = found.filter(found.is_between(first, last)).unique().sort()
        room = min(rooms.get(kind, share), most - _FEWEST_BETWEEN - len(chosen), len(inside))
        taken = inside.gather(np.sort(random.choice(len(inside), room, replace=False)))
        # The instant itself, or the last before it: what happens at it may be seen at it, and not before.
        chosen.update(max(at - _MICROSECOND * int(random.integers(2)), first) for at in taken.to_list())
        if len(inside):
            said.append(f"{room} of {len(inside):,} {kind}")
    span = (last - first) / _MICROSECOND
    while len(chosen) < most:
        chosen.add(first + _MICROSECOND * int(span * random.random()))
    return Instants(at=sorted(chosen), said=f"{most} instants: {', '.join(said)}, the rest at random")
