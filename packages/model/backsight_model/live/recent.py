"""Forecasts of the last days beside what came, for a chart."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np

from backsight_model.arrays import FloatArray, TimeArray
from backsight_model.forecast import YEAR
from backsight_model.live.outcomes import Outcomes

SPAN: Final = np.timedelta64(14, "D")
_DIGITS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Recent:
    """Volatility as it was forecast and as it came, n bars in time order.

    Attributes
    ----------
    observed_at : ndarray of shape (n,), datetime64[us]
        Close of the newest bar that each forecast saw.
    said, came : ndarray of shape (n,)
        Volatility per year of the horizon that begins there, as a share of the price. What came is NaN until it is
        known.
    step : timedelta
        From one bar to the next. Where more lies between two, there are forecasts missing.
    """

    observed_at: TimeArray
    said: FloatArray
    came: FloatArray
    step: timedelta

    def thinned(self, most: int) -> "Recent":
        """Return every k-th bar, the newest among them, `most` at most."""
        every = max(1, -(-len(self.observed_at) // most))
        kept = slice((len(self.observed_at) - 1) % every, None, every)
        return Recent(
            observed_at=self.observed_at[kept], said=self.said[kept], came=self.came[kept], step=every * self.step
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values, column by column; null where it is not known what came."""
        came = np.round(self.came, _DIGITS).tolist()
        return {
            "observed_at": [f"{at}Z" for at in np.datetime_as_string(self.observed_at, unit="s").tolist()],
            "said": np.round(self.said, _DIGITS).tolist(),
            "came": [None if value != value else value for value in came],
            "step_seconds": self.step.total_seconds(),
        }


def recent(found: Outcomes, timeframe: timedelta) -> Recent:
    """Return the forecasts of the last `SPAN`, and what came of them as far as it is known."""
    at = np.concatenate([found.observed_at, found.open_at])
    said = np.concatenate([found.log_rv["model"], found.open_log_rv])
    came = np.concatenate([found.came_log_rv, np.full(found.open, np.nan)])
    order = np.argsort(at)
    order = order[at[order] > at.max() - SPAN]
    per_year = YEAR / (found.horizon * timeframe)
    said, came = (np.sqrt(np.exp(log_rv[order]) * per_year) for log_rv in (said, came))
    return Recent(observed_at=at[order], said=said, came=came, step=timeframe)
