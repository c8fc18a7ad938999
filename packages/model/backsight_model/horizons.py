"""All horizons of a model side by side: the claims over each, and what its quantiles and signs hold."""

from typing import Any

from backsight_model import distribution
from backsight_model.evidence import Caption, comparison
from backsight_model.instants import Instants
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Losses, Verdict, over_bars
from backsight_model.walk import MODEL, Walk


def section(
    data: TrainingSet, walked: Walk, full: Losses, verdict: Verdict, *, caption: Caption
) -> dict[str, Any] | None:
    """Return the hardest comparison of each claim by horizon, and how right signs and intervals were; None for one.

    Parameters
    ----------
    data, walked, full
        Of all horizons.
    verdict : Verdict
    caption : callable
        Completes a title.
    """
    if not data.further:
        return None
    claims = {claim.name: claim for claim in verdict.claims}
    rows = []
    for bars in data.horizons:
        for target in TARGETS:
            claim = claims[target if bars == data.horizon else over_bars(target, bars)]
            named = {"model": over_bars(target, bars), "adjusted": claim.adjusted, "proven": claim.proven}
            rows.append(comparison(claim.hardest) | named)
    return {
        "caption": caption("All horizons: the model against the hardest of the forecasters that it has to beat"),
        "rows": rows,
        "held_caption": caption("All horizons: signs that were right, and returns inside the 80 % interval"),
        "held": [
            _held(view, walk, losses)
            for view, walk, losses in zip(data.views, walked.views, (full, *full.further.values()), strict=True)
        ],
    }


def _held(data: TrainingSet, walked: Walk, losses: Losses) -> dict[str, Any]:
    instants, came = Instants.of(data.at[walked.samples]), data.log_return[walked.samples]
    held = distribution.row(MODEL, walked.quantiles[MODEL], came, instants=instants, lag=losses.lag)
    return {
        "bars": data.horizon,
        "accuracy": float(losses.hit[MODEL].mean()),
        "base_rate_accuracy": float(losses.hit["base rate"].mean()),
        "interval": next(one for one in held["intervals"] if one["level"] == 0.8),
    }
