"""A made-up world with a known relation between texts, macro series and prices, as files in the raw layouts."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from backsight_features.errors import BadInput

from backsight_ingest.holidays import federal_holidays
from backsight_ingest.sample import files, macro, prices, writing
from backsight_ingest.sample.draws import FloatArray, draws, wander
from backsight_ingest.sample.oracle import HORIZON, foresee
from backsight_ingest.sample.relation import (
    ATTENTION_HOURS,
    FORMULA,
    MOOD_HOURS,
    Drivers,
    Relation,
    drift,
    effects,
    log_variance,
    trace,
)
from backsight_ingest.sample.skill import skill

SHORTEST_DAYS: Final = 40
_BURN_DAYS: Final = 60


@dataclass(frozen=True, kw_only=True)
class World:
    """The files of a world.

    Parameters
    ----------
    files : dict of str to bytes
        Content by path below the world's folder.
    manifest : dict
        What is in them: the relation, the best reachable skill, the rows and their faults.
    """

    files: dict[str, bytes]
    manifest: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write the files and ``manifest.json`` below a folder that is new or empty.

        Raises
        ------
        BadInput
            If the folder holds something.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(f"{folder} is not empty; name a folder that is new or empty")
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / "manifest.json").write_text(json.dumps(self.manifest, indent=2) + "\n", encoding="utf-8")


def world(*, seed: int, days: int, end: date, signal: bool) -> World:
    """Return the world of a seed: the same seed gives the same bytes.

    Parameters
    ----------
    seed : int
        Not negative.
    days : int
        Length; at least `SHORTEST_DAYS`.
    end : date
        The last bar closes at its midnight UTC.
    signal : bool
        Whether texts and macro series move prices. Without, all else is drawn as with it.

    Raises
    ------
    BadInput
        If the seed is negative or the world too short.
    """
    if days < SHORTEST_DAYS:
        raise BadInput(f"days is {days}, it must be at least {SHORTEST_DAYS}")
    if seed < 0:
        raise BadInput(f"seed is {seed}, it must not be negative")
    planted = Relation() if signal else Relation().off()
    hours, first = (days + _BURN_DAYS) * 24, _BURN_DAYS * 24
    stop = datetime(end.year, end.month, end.day, tzinfo=UTC)
    zero, start = stop - timedelta(hours=hours), stop - timedelta(days=days)
    series = macro.macro(seed, zero.date(), end, federal_holidays())
    noise = prices.noise(seed, hours)
    drivers = _drivers(seed, hours, zero, series.shocks, noise.sum(axis=1))
    background = wander(draws(seed, "background"), hours, 480.0)
    hour_of_week = (np.arange(hours) + zero.weekday() * 24 + zero.hour) % 168
    base = prices.base(seed, hour_of_week)
    acting = effects(planted, trace(planted, drivers))
    moves, variances = drift(planted, acting), log_variance(planted, acting, base.level())
    bars = prices.bars(seed, moves, variances, noise, first_price=30_000.0)
    returns = np.diff(np.log(bars.close), prepend=np.log(bars.open[0]))

    parts = [
        files.bars(seed, bars, zero, first),
        files.news(seed, writing.news(seed, zero, first, drivers, background)),
        *files.posts(seed, writing.posts(seed, zero, first, drivers, background)),
        *files.macro(series),
        files.fear_and_greed(macro.fear_and_greed(seed, start.date(), _week_before(drivers.news + background, first))),
    ]
    oracle = foresee(seed, planted, drivers, base, first=first)
    public = _public(planted, drivers)
    manifest = {
        "seed": seed,
        "days": days,
        "start": start.isoformat(),
        "end": stop.isoformat(),
        "signal": signal,
        "horizon_hours": HORIZON,
        "relation": {
            "formula": FORMULA,
            **asdict(planted),
            "mood_hours": MOOD_HOURS,
            "attention_hours": ATTENTION_HOURS,
        },
        "best_reachable": skill(oracle, returns, public, first=first),
        "files": {part.name: _account(part) for part in parts},
    }
    return World(files={part.name: part.content for part in parts}, manifest=manifest)


def _account(part: files.File) -> dict[str, Any]:
    """Return what reading a file has to give: its lines are accepted, duplicate or quarantined."""
    return {
        "layout": part.layout,
        "lines": part.lines,
        "accepted": part.lines - part.repeated - part.rejected,
        "duplicate": part.repeated,
        "quarantined": part.rejected,
        "faults": part.faults,
    }


def _drivers(seed: int, hours: int, zero: datetime, shocks: pl.DataFrame, noise: FloatArray) -> Drivers:
    news = wander(draws(seed, "mood of news"), hours, MOOD_HOURS)
    own = wander(draws(seed, "mood of posts"), hours, MOOD_HOURS)
    rates, scheduled_rates = _hourly(shocks.filter(pl.col("series_id") != "VIXCLS"), zero, hours)
    alarm, scheduled_alarm = _hourly(shocks.filter(pl.col("series_id") == "VIXCLS"), zero, hours)
    return Drivers(
        news=news,
        reddit=0.4 * news + np.sqrt(1.0 - 0.4**2) * own,
        attention=wander(draws(seed, "attention"), hours, ATTENTION_HOURS),
        rates=rates,
        alarm=alarm,
        noise=noise,
        scheduled_rates=scheduled_rates,
        scheduled_alarm=scheduled_alarm,
    )


def _hourly(shocks: pl.DataFrame, zero: datetime, hours: int) -> tuple[FloatArray, FloatArray]:
    """Return the sum and the number of the surprises that become known in each hour."""
    # A surprise that is known at 04:00 sharp is public by the end of the hour that ends then.
    index = ((shocks["known_at"] - zero).dt.total_hours() - 1).to_numpy()
    inside = (index >= 0) & (index < hours)
    index, surprise = index[inside], shocks["surprise"].to_numpy()[inside]
    count = np.bincount(index, minlength=hours)
    return np.bincount(index, surprise, hours).astype(np.float64), count.astype(np.float64)


def _public(planted: Relation, drivers: Drivers) -> FloatArray:
    """Return the planted effects on log variance that are already fixed at the end of each hour, shape (n, 4)."""
    acting = effects(planted, trace(planted, drivers))

    def fixed(x: FloatArray) -> FloatArray:
        return np.concatenate([x[planted.lag :], np.repeat(x[-1], planted.lag)])

    return np.column_stack(
        [fixed(acting.attention), drivers.attention, fixed(acting.alarm), fixed(acting.news + acting.reddit)]
    )


def _week_before(mood: FloatArray, first: int) -> FloatArray:
    """Return the mean of the week before each day from hour ``first`` on."""
    total = np.concatenate([[0.0], np.cumsum(mood)])
    day = np.arange(first, len(mood), 24)
    return np.asarray((total[day] - total[day - 168]) / 168.0)
