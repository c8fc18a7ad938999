"""The bundle in use against the one that forecasts in its shadow, on the bars that both forecast."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from backsight_model.arrays import FloatArray, IntArray
from backsight_model.live.intervals import Interval, over_horizons
from backsight_model.live.outcomes import Outcomes
from backsight_model.live.rules import Alert
from backsight_model.verdict import log_loss

_WHAT: Final = "errors of the challenger less"


@dataclass(frozen=True, kw_only=True)
class Challenger:
    """A bundle that forecasts in the shadow of another.

    Attributes
    ----------
    name, champion : str
        The bundle, and the one in use.
    known : int
        Bars that both forecast and whose outcome is known.
    gain : Interval or None
        By which share of the champion's losses those of the challenger are lower, the mean over volatility and
        direction: what `challenge.Comparison` calls the change, with the other sign. None where too little is known.
    """

    name: str
    champion: str
    known: int
    gain: Interval | None

    @property
    def word(self) -> str:
        """``too early``, ``better``, ``worse`` or ``undecided``."""
        if self.gain is None:
            return "too early"
        return "better" if self.gain.low > 0 else "worse" if self.gain.high < 0 else "undecided"

    @property
    def words(self) -> str:
        """What it is, and on what that rests."""
        if self.gain is None:
            return f"challenger {self.name}: {self.word}, {self.known} outcomes known of bars that both forecast"
        share = ", ".join(f"{100 * bound:+.2f}" for bound in (self.gain.low, self.gain.high))
        return (
            f"challenger {self.name}: {self.word}, losses lower by {100 * self.gain.mean:+.2f} % [{share}] "
            f"over {self.gain.blocks} horizons"
        )

    def alerts(self, symbol: str) -> tuple[Alert, ...]:
        """Return an alert where it is proven better."""
        if self.word != "better":
            return ()
        said = f"{symbol}: {self.words}; `backsight promote {self.name}` puts it in the place of {self.champion}"
        return (Alert(rule="better", symbol=symbol, said=said),)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"bundle": self.name, "known": self.known, "word": self.word, "words": self.words}


def against(champion: Outcomes, challenger: Outcomes, *, names: tuple[str, str]) -> Challenger:
    """Return what is known of a challenger, from the bars that both forecast.

    Parameters
    ----------
    champion, challenger : Outcomes
        Of one symbol.
    names : tuple of str
        Of both, in that order.
    """
    bars, mine, theirs = np.intersect1d(
        champion.observed_at, challenger.observed_at, assume_unique=True, return_indices=True
    )
    gain = np.zeros(len(bars))
    for lost in (_volatility, _direction):
        kept, other = lost(champion, mine), lost(challenger, theirs)
        gain += (kept - other) / kept.mean() / 2 if len(bars) else 0.0
    return Challenger(
        name=names[1], champion=names[0], known=len(bars), gain=over_horizons(_WHAT, gain, champion.horizon)
    )


def _volatility(of: Outcomes, some: IntArray) -> FloatArray:
    return np.square(of.came_log_rv - of.log_rv["model"])[some]


def _direction(of: Outcomes, some: IntArray) -> FloatArray:
    return log_loss(of.p_up, of.came_up)[some]
