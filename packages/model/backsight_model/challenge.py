"""Champion and challenger: what a refit may learn from, and what has to be seen before it takes over."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from backsight_model.arrays import FloatArray, IntArray, TimeArray
from backsight_model.bundle import Bundle
from backsight_model.instants import Instants
from backsight_model.splits import Fold, final_fit
from backsight_model.training import TrainingSet
from backsight_model.verdict import log_loss

if TYPE_CHECKING:
    from backsight_model.walk import Fitted

STRETCH: Final = 336
"""Instants on which champion and challenger are compared: the newest two weeks of hours."""
LEAST_HORIZONS: Final = 3
"""Horizons that a comparison needs at least; fewer hold next to no independent label."""
_AT_ONCE: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What champion and challenger lost on the same instants, which neither had learnt from.

    Attributes
    ----------
    first, last : datetime64[us]
        Instants of the first and the last sample.
    samples : int
    champion, challenger : dict of str to float
        Mean loss by target.
    """

    first: np.datetime64
    last: np.datetime64
    samples: int
    champion: dict[str, float]
    challenger: dict[str, float]

    @property
    def change(self) -> float:
        """Loss of the challenger over that of the champion, less 1: the mean over the targets."""
        return float(np.mean([self.challenger[target] / loss - 1.0 for target, loss in self.champion.items()]))

    @property
    def won(self) -> bool:
        """Whether the challenger takes over: it is not worse."""
        return self.change <= 0.0

    @property
    def words(self) -> str:
        """The losses, and what follows."""
        each = ", ".join(
            f"{target} {self.challenger[target]:.4f} against {loss:.4f}" for target, loss in self.champion.items()
        )
        verdict = "not worse" if self.won else "worse"
        return f"the challenger is {verdict} on {self.samples} instants: {each} (mean {100 * self.change:+.2f} %)"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "first": str(self.first),
            "last": str(self.last),
            "samples": self.samples,
            "champion": self.champion,
            "challenger": self.challenger,
            "change": self.change,
            "won": self.won,
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "Comparison":
        """Return the comparison that `to_json` described."""
        return cls(
            first=np.datetime64(state["first"], "us"),
            last=np.datetime64(state["last"], "us"),
            samples=state["samples"],
            champion=state["champion"],
            challenger=state["challenger"],
        )


def learnable(
    at: TimeArray, label_at: TimeArray, until: np.datetime64, *, embargo: timedelta, window: timedelta | None
) -> Fold:
    """Return what may be learnt at an instant: all samples whose labels were known, the newest of them to stop by.

    Parameters
    ----------
    at, label_at : ndarray of shape (n,), datetime64[us]
        See `splits.walk_forward`.
    until : datetime64[us]
        Labels known later are not used.
    embargo, window
        See `splits.final_fit`.

    Raises
    ------
    BadInput
        Where too few were known.
    """
    known = np.flatnonzero(label_at <= until)
    part = final_fit(at[known], label_at[known], embargo=embargo, window=window)
    return Fold(fit=known[part.fit], valid=known[part.valid], test=known[part.test], start=until)


def unlearnt(data: TrainingSet, learnt: Fold, now: np.datetime64) -> IntArray:
    """Return the samples whose labels are known by `now`, and of whose outcome a model can have learnt no part."""
    return np.flatnonzero((data.at >= learnt.start) & (data.label_at <= now))


def newest(data: TrainingSet, samples: IntArray) -> IntArray:
    """Return those of some samples, in time order, that champion and challenger are compared on."""
    instants = Instants.of(data.at[samples])
    return samples[instants.place >= len(instants) - STRETCH]


def lost(data: TrainingSet, model: "Fitted | Bundle", samples: IntArray) -> dict[str, FloatArray]:
    """Return what a model loses by target, shape (n,): NaN but at `samples`."""
    rows = model.scaler.transform(data.windows.rows)
    index = data.windows.index[samples]
    if isinstance(model, Bundle):  # as it is served, and without TensorFlow
        parts = [model.run(rows[index[begin : begin + _AT_ONCE]]) for begin in range(0, len(index), _AT_ONCE)]
        output = np.concatenate(parts) if parts else np.empty((0, 2))
    else:
        output = model.network.predict(rows, index)
    log_rv = model.harx.predict(rows[index[:, -1]], data.windows.features) + model.residual_scale * output[:, 0]
    p_up = 1.0 / (1.0 + np.exp(-output[:, 1]))
    losses = {"volatility": np.full(len(data), np.nan), "direction": np.full(len(data), np.nan)}
    losses["volatility"][samples] = np.square(data.log_rv[samples] - log_rv)
    losses["direction"][samples] = log_loss(p_up, data.up[samples])
    return losses


def compare(
    data: TrainingSet, samples: IntArray, champion: dict[str, FloatArray], challenger: dict[str, FloatArray]
) -> Comparison:
    """Return the comparison of what two models lost, each of shape (n,), on some samples."""
    return Comparison(
        first=data.at[samples[0]],
        last=data.at[samples[-1]],
        samples=len(samples),
        champion={target: float(values[samples].mean()) for target, values in champion.items()},
        challenger={target: float(values[samples].mean()) for target, values in challenger.items()},
    )
