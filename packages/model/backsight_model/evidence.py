"""What a report shows beside the claims, as plain values: each section from the same losses and forecasts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from backsight_model import calibration, overfitting, paths, stability, superiority
from backsight_model.arrays import FloatArray
from backsight_model.instants import Instants
from backsight_model.proof import LEVEL, Comparison
from backsight_model.trading import Trading
from backsight_model.training import TrainingSet
from backsight_model.treatments import DECLARED, Treatments
from backsight_model.verdict import QLIKE, TARGETS, UNITS, Losses, log_loss, pinball_percent
from backsight_model.walk import MODEL, REFERENCES, Walk, apart

BENCHMARKS = {target: names[0] for target, names in REFERENCES.items()} | {QLIKE: REFERENCES["volatility"][0]}
"""What has to be beaten first, by what is judged."""
NAMES = {
    "volatility": f"Volatility, {UNITS['volatility']}",
    QLIKE: "Volatility, QLIKE of the variance",
    "direction": f"Direction, {UNITS['direction']}",
    "return": f"Return, {UNITS['return']}",
}
PLAIN = {
    "volatility": "squared error of log variance",
    QLIKE: "QLIKE of the variance",
    "direction": "log loss of P(up)",
    "return": "pinball loss of the return",
}
BINS = 10

Caption = Callable[[str], str]
Section = dict[str, Any]


def comparisons(
    full: Losses, found: Mapping[str, tuple[Comparison, ...]], *, horizon: int, caption: Caption
) -> dict[str, Section]:
    """Return the model against each other forecaster, as `verdict.against_each` found it, with a second interval each.

    The second is of the bootstrap.
    """
    sections = {}
    for what, losses in full.judged.items():
        drawn = superiority.bootstrap_intervals(losses, model=MODEL, horizon=horizon)
        rows = [comparison(one) | _as_share(drawn[one.reference], one.reference_loss) for one in found[what]]
        sections[what] = {"caption": caption(f"{NAMES[what]}: the model against each other forecaster"), "rows": rows}
    return sections


def comparison(one: Comparison) -> Section:
    """Return a comparison as plain values, gains also as shares of the reference's loss.

    `needed` is the number of instants that would show this gain at the 5 % level in 80 % of the cases; None where
    nothing was gained.
    """
    scale = abs(one.reference_loss)
    return asdict(one) | {
        "skill": one.skill,
        "skill_low": one.low / scale,
        "skill_high": one.high / scale,
        "skill_detectable": one.detectable / scale,
        "needed": int(np.ceil(one.count * (one.detectable / one.gain) ** 2)) if one.gain > 0 else None,
    }


def _as_share(interval: tuple[float, float] | None, loss: float) -> Section:
    low, high = (None, None) if interval is None else (bound / abs(loss) for bound in interval)
    return {"drawn_low": low, "drawn_high": high}


def confidence_sets(full: Losses, *, horizon: int, caption: Caption) -> list[Section]:
    """Return which forecasters may be the best, and whether any beats the benchmark or the model."""
    sections = []
    for what, losses in full.judged.items():
        found = superiority.confidence_set(losses, horizon=horizon)
        benchmark = BENCHMARKS[what]
        above = {
            name: superiority.superior_ability(losses, benchmark=name, horizon=horizon) for name in (benchmark, MODEL)
        }
        ranked = sorted(found.loss, key=lambda name: found.loss[name])
        sections.append(
            {
                "what": what,
                "caption": caption(f"{NAMES[what]}: which forecasters may be the best"),
                "rows": [
                    {
                        "forecaster": name,
                        "loss": found.loss[name],
                        "p_value": found.p_value[name],
                        "kept": name in found.kept,
                        "model": name == MODEL,
                    }
                    for name in ranked
                ],
                "superior": above,
                "words": _said(what, found, benchmark, above),
            }
        )
    return sections


def _said(what: str, found: superiority.ConfidenceSet, benchmark: str, above: dict[str, float]) -> str:
    held = "is" if MODEL in found.kept else "is not"
    others = len(found.kept) - (MODEL in found.kept)
    company = f"with {others} other{'s' if others != 1 else ''}" if MODEL in found.kept else f"which holds {others}"
    return (
        f"By {PLAIN[what]}, the model {held} in the 95 % set of the best, {company} of {len(found.loss)} forecasters. "
        f"{'Some forecaster beats' if above[benchmark] <= LEVEL else 'No forecaster measurably beats'} {benchmark} "
        f"(SPA, p = {above[benchmark]:.3f}), {'some beats' if above[MODEL] <= LEVEL else 'none measurably beats'} "
        f"the model (p = {above[MODEL]:.3f})."
    )


def reliability(data: TrainingSet, walked: Walk, *, caption: Caption) -> Section:
    """Return the reliability of P(up)."""
    overlap = data.horizon * Instants.of(data.at[walked.samples]).shared
    found = calibration.reliability(walked.p_up[MODEL], data.up[walked.samples], overlap=overlap)
    return {
        "caption": caption("Calibration of P(up): how often the price rose where so much was forecast"),
        "error": found.error,
        **{name: getattr(found, name).tolist() for name in ("forecast", "came", "low", "high", "count")},
    }


def density(data: TrainingSet, walked: Walk, *, lag: int, caption: Caption) -> Section:
    """Return whether the density around the volatility forecast is right, and what its intervals cover."""
    residual = data.log_rv[walked.samples] - walked.log_rv[MODEL]
    deviation = np.sqrt(2.0 * walked.below_mean[MODEL])
    at = data.at[walked.samples]
    found = calibration.transform(residual, deviation, instants=Instants.of(at), lag=lag)
    covered = calibration.intervals(
        residual,
        deviation,
        fold=walked.fold,
        at=at,
        label_at=data.label_at[walked.samples],
        alone=[np.flatnonzero(np.isin(walked.samples, which)) for which in data.by_symbol.values()],
        lag=lag,
    )
    return {
        "transform": {
            "caption": caption("Volatility: where what came lies in the forecast density"),
            "count": np.histogram(found.values, BINS, (0.0, 1.0))[0].tolist(),
            **{name: getattr(found, name) for name in ("centre", "spread", "centre_p", "spread_p", "words")},
        },
        "intervals": {
            "caption": caption("Volatility: how often central intervals held what came, after the first fold"),
            "rows": [
                {"level": plain.level, "gaussian": asdict(plain), "conformal": asdict(conformal)}
                for plain, conformal in covered
            ],
        },
    }


def parts(data: TrainingSet, walked: Walk, full: Losses, *, caption: Caption) -> dict[str, Section]:
    """Return the gain on the benchmark by fold, by how turbulent the last day was, and by seed, for each target."""
    folds = tuple(f"fold {number}" for number in range(1, int(full.fold.max()) + 1))
    instants = Instants.of(data.at[walked.samples])
    turbulence = stability.terciles(instants.averaged(data.last_log_rv[walked.samples]))
    sections = {}
    for target in TARGETS:
        against = BENCHMARKS[target]
        losses = full.of(target)
        pair = (losses[MODEL], losses[against])
        everything = np.zeros(len(instants), dtype=np.int64)
        seeds = [
            stability.by_part(alone, losses[against], everything, (f"member {number}",), lag=full.lag)[0]
            for number, alone in enumerate(instants.averaged(_lost_by_seed(data, walked, target)), start=1)
        ]
        sections[target] = {
            "caption": caption(
                f"{NAMES[target]}: gain on {against} by fold, by volatility of the last day, and of each member alone"
            ),
            "against": against,
            "folds": [asdict(one) for one in stability.by_part(*pair, full.fold - 1, folds, lag=full.lag)],
            "regimes": [asdict(one) for one in stability.by_part(*pair, turbulence, stability.TERCILES, lag=full.lag)],
            "seeds": [asdict(one) for one in seeds],
        }
    return sections


def _lost_by_seed(data: TrainingSet, walked: Walk, target: str) -> FloatArray:
    forecast = walked.by_seed[target]
    if target == "volatility":
        return np.square(data.log_rv[walked.samples] - forecast)
    if target == "return":
        return pinball_percent(forecast, data.log_return[walked.samples])
    return log_loss(forecast, data.up[walked.samples])


def chosen(
    data: TrainingSet,
    full: Losses,
    trading: Trading | None,
    *,
    trials: int,
    treatments: Treatments = DECLARED,
    caption: Caption,
) -> Section:
    """Return how much of the result may be due to having chosen it, or to the one path through time.

    Parameters
    ----------
    data : TrainingSet
    full : Losses
    trading : Trading, optional
        Its rules are strategies that could have been shown.
    trials : int
        Configurations of the model that were tried before this one.
    treatments : tuple of (str, Treatment)
        How features were brought to scale.
    caption : callable
        Completes a title.
    """
    return {
        "caption": caption("What becomes of the best of one half of time in the other half"),
        "rows": candidates(full, trading),
        "paths": _paths(data, treatments=treatments, caption=caption),
        "deflated": None if trading is None else deflated(trading, trials=trials, caption=caption),
    }


def candidates(full: Losses, trading: Trading | None) -> list[Section]:
    """Return the probability of backtest overfitting for whatever a reader may choose from."""
    found = {
        f"forecasters, {PLAIN[what]}": overfitting.backtest_overfitting(
            {name: losses[BENCHMARKS[what]] - one for name, one in losses.items()}, measure="mean"
        )
        for what, losses in full.judged.items()
    }
    if trading is not None:
        nets = {one.rule: one.net for one in trading.rules}
        found["trading rules, Sharpe ratio"] = overfitting.backtest_overfitting(nets, measure="sharpe")
    return [
        {"chosen": name, "candidates": one.candidates, "probability": one.probability, "loss": one.loss}
        for name, one in found.items()
        if one is not None
    ]


def _paths(data: TrainingSet, *, treatments: Treatments, caption: Caption) -> Section | None:
    found = paths.walk_all(data, treatments=treatments)
    if found is None:
        return None
    title = f"What straight lines gain on {len(found.volatility)} whole histories, put together from {found.fits} fits"
    return {
        "caption": caption(title),
        "rows": [
            {"forecaster": line, "against": against, "gains": values.tolist()}
            for line, against, values in (
                ("linear", BENCHMARKS["volatility"], found.volatility),
                ("logistic", BENCHMARKS["direction"], found.direction),
            )
        ],
    }


def deflated(trading: Trading, *, trials: int, caption: Caption) -> Section:
    """Return the best rule's Sharpe ratio, deflated for `trials` configurations of the model times the rules."""
    nets = {one.rule: one.net for one in trading.rules}
    ratios = {name: float(net.mean() / net.std()) if net.std() > 0 else 0.0 for name, net in nets.items()}
    best = max(ratios, key=lambda name: ratios[name])
    found = overfitting.deflated_sharpe(
        nets[best],
        trials=trials * len(nets),
        # Rules on one forecast are alike; without skill, ratios of unlike trials would spread by this much.
        deviation=max(float(np.std(list(ratios.values()))), 1.0 / np.sqrt(len(nets[best]))),
    )
    yearly = float(np.sqrt(trading.tape.per_year))
    return {
        "caption": caption("The best rule's Sharpe ratio after costs, deflated for having looked at many"),
        "rule": best,
        "sharpe_year": found.sharpe * yearly,
        "luck_year": found.luck * yearly,
        "trials": found.trials,
        "bars": found.count,
        "probability": found.probability,
        "discovery": found.probability > 1 - LEVEL,
    }


def echo(data: TrainingSet, walked: Walk, *, caption: Caption) -> Section:
    """Return how P(up) goes with moves that ended, and with those that came: the mean over the symbols."""
    horizon, step = data.horizon, np.timedelta64(data.windows.timeframe)
    lags = np.arange(-3 * horizon, 3 * horizon + 1, max(1, horizon // 8))
    each = []
    for of_symbol, said in apart(data, walked).values():
        closes, came = of_symbol.windows.observed_at, of_symbol.log_return[said.samples]
        at = ((closes[said.samples] - closes[0]) // step).astype(np.int64)
        each.append(stability.lag_correlation(said.p_up[MODEL], came, at, lags))
    found = np.mean(each, axis=0)
    return {
        "caption": caption("Correlation of P(up) with the move that began so many bars later"),
        "horizon": horizon,
        "lags": lags.tolist(),
        "correlation": found.tolist(),
        "with_last_move": float(found[lags == -horizon][0]),
        "with_coming_move": float(found[lags == 0][0]),
    }
