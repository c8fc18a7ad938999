"""All symbols of a model side by side: nobody hides one that is forecast badly behind another."""

from typing import Any

from backsight_model.evidence import Caption, comparison
from backsight_model.training import TrainingSet
from backsight_model.verdict import TARGETS, Losses, against, chance, losses, over_bars, references_of
from backsight_model.walk import Walk, apart
from backsight_model.words import listed


def section(data: TrainingSet, walked: Walk, *, service: str, caption: Caption) -> dict[str, Any] | None:
    """Return the hardest comparison of each target and horizon by symbol, and how right signs were; None for one.

    What is hardest is looked for in each symbol anew. These are no claims: the claims are over all symbols together.

    Parameters
    ----------
    data, walked
        Of all symbols and horizons.
    service : str
        Whose features the model read.
    caption : callable
        Completes a title.
    """
    if len(data.by_symbol) == 1:
        return None
    rows, held = [], []
    for symbol, each in apart(data, walked).items():
        main = losses(*each, service=service)
        lost = {data.horizon: main, **main.further}
        rows += [_hardest(symbol, one, target, bars, data.horizon) for bars, one in lost.items() for target in TARGETS]
        held.append(
            {
                "symbol": symbol,
                "count": len(main.at),
                "first": f"{main.at[0].astype('datetime64[s]')}Z",
                "learnt_first": f"{each[0].at[0].astype('datetime64[s]')}Z",
                "accuracy": main.directional.accuracy,
                "base_rate_accuracy": float(main.hit["base rate"].mean()),
                "signs_p_value": main.directional.p_value,
            }
        )
    return {
        "caption": caption("Each symbol alone: the model against the hardest of the forecasters that it has to beat"),
        "rows": rows,
        "held_caption": caption("Each symbol alone: signs that were right"),
        "held": held,
    }


def _hardest(symbol: str, lost: Losses, target: str, bars: int, main: int) -> dict[str, Any]:
    """Return the comparison that the model comes out of worst, as `evidence.comparison` does."""
    one = max(against(lost, target, references_of(lost, target)), key=lambda found: found.p_value)
    name = target if bars == main else over_bars(target, bars)
    return comparison(one) | {"symbol": symbol, "target": target, "bars": bars, "model": f"{symbol}, {name}"}


def notes(section: dict[str, Any] | None) -> list[str]:
    """Return by target, over the main horizon, how each symbol alone comes off: uncorrected, and no claim."""
    if section is None:
        return []
    rows = [row for row in section["rows"] if row["bars"] == section["rows"][0]["bars"]]
    return [
        f"{target}, each symbol alone: "
        + listed(
            [
                f"{row['symbol']} {100 * row['skill']:+.2f} % on {row['reference']} ({chance(row['p_value'])})"
                for row in rows
                if row["target"] == target
            ]
        )
        + ", uncorrected."
        for target in TARGETS
    ]
