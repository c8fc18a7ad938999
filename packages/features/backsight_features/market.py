"""Market features: what the bars known at an instant say, one row per instant.

Windows are counted in slots of the bar grid, so in time. A missing bar is missing: no price is carried forward. A
value is null where a bar that it needs is missing; sums over hours may lack up to a tenth of their slots and are
scaled by slots over bars present, so that one gap does not erase 22 days.
"""

from datetime import timedelta
from math import log
from typing import Final

import numpy as np
import polars as pl

from backsight_features.bars import Epoch, Grid, epochs, rows
from backsight_features.clocks import UTC_US, timeframe
from backsight_features.feature import Feature
from backsight_features.indicators import MEMORY, indicators
from backsight_features.rolling import FloatArray, delayed, moments, total
from backsight_features.spans import ALWAYS, Span

COVERAGE: Final = 0.9
"""Share of a window's slots that have to be present."""

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_VARIANCES: Final = (24, 120, 528)
"""Hours of the HAR terms: a day, five days, 22 days (Corsi 2009; crypto trades every day)."""


def features(bar: str) -> tuple[Feature, ...]:
    """Return the market features for bars of one length.

    Windows stated in hours keep their length in time. One that holds fewer than two bars is left out, and so is the
    hour of bars that last a day or more.

    Parameters
    ----------
    bar : str
        Timeframe, ``1h``.
    """
    step = timeframe(bar)

    def feature(name: str, description: str, unit: str, lookback: timedelta, *reads: str) -> Feature:
        return Feature(name=name, description=description, unit=unit, reads=reads, lookback=lookback, max_age=2 * step)

    def over(hours: int, *made: Feature) -> tuple[Feature, ...]:
        return made if _window(hours, step) else ()

    recursive = MEMORY * step
    return (
        feature(f"ret_log_{bar}", "ln(close / close of the slot before)", "ln ratio", step, "close"),
        *over(24, feature("ret_log_24h", "ln(close / close 24 h before)", "ln ratio", 24 * _HOUR, "close")),
        *(
            made
            for hours in _VARIANCES
            for made in over(
                hours,
                feature(
                    f"log_rv_{hours}h",
                    f"ln(RV), RV = sum of squared one-bar log returns over {hours} h",
                    "ln of squared ln ratio",
                    hours * _HOUR,
                    "close",
                ),
            )
        ),
        *over(
            24,
            feature(
                "rsv_neg_24h",
                "realised semivariance: sum of squared negative one-bar log returns over RV, over 24 h",
                "share, 0 to 1",
                24 * _HOUR,
                "close",
            ),
            feature(
                "parkinson_24h",
                "sqrt(sum of ln(high / low)^2 / (4 ln 2)) over 24 h (Parkinson 1980)",
                "ln ratio per day",
                24 * _HOUR,
                "high",
                "low",
            ),
        ),
        feature(f"range_{bar}", "ln(high / low)", "ln ratio", timedelta(0), "high", "low"),
        *over(
            168,
            feature(
                "volume_z_168h",
                "(volume - mean) / population standard deviation, both over 168 h",
                "standard deviations",
                168 * _HOUR,
                "volume",
                "quote_volume",
                "close",
            ),
        ),
        feature(
            "macd_hist", "MACD(12, 26) less its 9-bar signal, over the close", "share of price", recursive, "close"
        ),
        feature("rsi_14", "relative strength index over 14 bars (Wilder 1978)", "0 to 100", recursive, "close"),
        feature(
            "boll_pctb_20",
            "(close - lower) / (upper - lower), bands at mean -+ 2 population deviations over 20 bars",
            "share of the band",
            20 * step,
            "close",
        ),
        feature("boll_width_20", "(upper - lower) / mean over 20 bars", "share of price", 20 * step, "close"),
        feature(
            "atr_14",
            "average true range over 14 bars (Wilder 1978), over the close",
            "share of price",
            recursive,
            "high",
            "low",
            "close",
        ),
        feature(
            "adx_14",
            "average directional index over 14 bars (Wilder 1978)",
            "0 to 100",
            recursive,
            "high",
            "low",
            "close",
        ),
        *(
            ()
            if step >= _DAY
            else (
                feature("hour_sin", "sin(2 pi h / 24), h = hour of the close in UTC", "1", timedelta(0), "observed_at"),
                feature("hour_cos", "cos(2 pi h / 24), h = hour of the close in UTC", "1", timedelta(0), "observed_at"),
            )
        ),
        feature(
            "dow_sin", "sin(2 pi d / 7), d = weekday of the close in UTC, Monday 0", "1", timedelta(0), "observed_at"
        ),
        feature(
            "dow_cos", "cos(2 pi d / 7), d = weekday of the close in UTC, Monday 0", "1", timedelta(0), "observed_at"
        ),
    )


def memory(bar: str) -> int:
    """Return how many slots before the newest the features of bars of one length, ``1h``, depend on."""
    grid = Grid(step=timeframe(bar))
    return max(MEMORY, *(grid.slots(hours * _HOUR) for hours in _VARIANCES))


def market(versions: pl.DataFrame, bar: str, within: Span = ALWAYS) -> pl.DataFrame:
    """Return the market features at each instant at which a bar became known.

    Parameters
    ----------
    versions : pl.DataFrame
        All versions of one series' bars, or those that are `bars.needed` for the span with this `memory`.
    bar : str
        Its timeframe.
    within : Span
        The instants to return.

    Returns
    -------
    pl.DataFrame
        ``observed_at`` (close of the newest bar known), ``available_at`` (ascending, one row each) and the
        `features` as Float32, null where undefined.
    """
    grid = Grid(step=timeframe(bar))
    names = [feature.name for feature in features(bar)]
    states = [
        _state(epoch, grid, bar).select("observed_at", "available_at", *names)
        for epoch in epochs(versions, grid, memory(bar), within)
    ]
    clocks = {"observed_at": UTC_US, "available_at": UTC_US}
    none = pl.DataFrame(schema=pl.Schema({**clocks, **dict.fromkeys(names, pl.Float32())}))
    return pl.concat(states) if states else none


def _state(epoch: Epoch, grid: Grid, bar: str) -> pl.DataFrame:
    """Return the rows of one epoch with their features."""
    at = epoch.slot - epoch.first
    computed = {**_prices(epoch, grid, bar), **_indicators(epoch)}
    columns = {name: pl.Series(values[at].astype(np.float32)) for name, values in computed.items()}
    finite = pl.DataFrame(columns).select(pl.when(pl.all().is_finite()).then(pl.all()))
    return rows(epoch, grid).with_columns(finite.get_columns(), **_calendar())


def _prices(epoch: Epoch, grid: Grid, bar: str) -> dict[str, FloatArray]:
    """Return the features that are sums over windows, on all slots of an epoch."""
    bars = epoch.bars
    price = np.log(bars.close)
    ret = price - delayed(price, 1)
    spread = np.log(bars.high) - np.log(bars.low)
    out = {f"ret_log_{bar}": ret, f"range_{bar}": spread}
    with np.errstate(divide="ignore", invalid="ignore"):
        for hours in _VARIANCES:
            if slots := _window(hours, grid.step):
                out[f"log_rv_{hours}h"] = np.log(_scaled_total(ret**2, slots))
        if slots := _window(24, grid.step):
            negative = np.where(np.isnan(ret), np.nan, np.minimum(ret, 0.0))
            out["ret_log_24h"] = price - delayed(price, slots)
            out["rsv_neg_24h"] = _scaled_total(negative**2, slots) / _scaled_total(ret**2, slots)
            out["parkinson_24h"] = np.sqrt(_scaled_total(spread**2, slots) / (4 * log(2)))
        if slots := _window(168, grid.step):
            volume = moments(bars.volume, slots)
            deviation = np.sqrt(volume.deviation / volume.present)
            out["volume_z_168h"] = _covered((bars.volume - volume.mean) / deviation, volume.present, slots)
        band = moments(bars.close, 20)
        deviation = np.where(band.present == 20, np.sqrt(band.deviation / 20), np.nan)
        out["boll_pctb_20"] = (bars.close - band.mean + 2 * deviation) / (4 * deviation)
        out["boll_width_20"] = 4 * deviation / band.mean
    return out


def _indicators(epoch: Epoch) -> dict[str, FloatArray]:
    """Return TA-Lib's features on all slots of an epoch."""
    bars = epoch.bars
    values = indicators(bars.high, bars.low, bars.close, epoch.first)
    return {
        "macd_hist": values.macd_hist / bars.close,
        "rsi_14": values.rsi,
        "atr_14": values.atr / bars.close,
        "adx_14": values.adx,
    }


def _calendar() -> dict[str, pl.Expr]:
    """Return the hour and weekday of the newest close as points on a circle."""
    close = pl.col("observed_at").dt
    turn = {
        "hour": (close.hour() + close.minute() / 60) / 24 * (2 * np.pi),
        "dow": (close.weekday() - 1) / 7 * (2 * np.pi),
    }
    return {
        f"{unit}_{wave}": getattr(angle, wave)().cast(pl.Float32)
        for unit, angle in turn.items()
        for wave in ("sin", "cos")
    }


def _window(hours: int, step: timedelta) -> int:
    """Return the slots in a window of so many hours; 0 where that is no whole number of at least two."""
    slots, rest = divmod(hours * _HOUR, step)
    return slots if slots >= 2 and not rest else 0


def _scaled_total(values: FloatArray, slots: int) -> FloatArray:
    """Return the sum over windows, scaled up for what is missing; NaN below `COVERAGE`."""
    present = ~np.isnan(values)
    count = total(present.astype(np.float64), slots)
    return _covered(total(np.where(present, values, 0.0), slots) * (slots / count), count, slots)


def _covered(values: FloatArray, count: FloatArray, slots: int) -> FloatArray:
    return np.where(count >= COVERAGE * slots, values, np.nan)


FEATURES: Final = features("1h")
"""The market features of hourly bars."""
