"""The report: one HTML page that needs nothing beside it, and the same numbers as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from backsight_model import distribution, evidence, horizons, performance, plots, symbols
from backsight_model.flags import Check
from backsight_model.lastlook import FinalPeriod
from backsight_model.manifest import Manifest
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet
from backsight_model.tuning import Trial
from backsight_model.tutorial import Outcome
from backsight_model.verdict import UNITS, Losses, Verdict, chance, references_of
from backsight_model.walk import MODEL, REFERENCES, Walk, apart
from backsight_model.words import listed


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report is about.

    Attributes
    ----------
    manifest : Manifest
        Of the training set on trial.
    data : TrainingSet
    walked : Walk
    full : Losses
        Of the service on trial, over all horizons as `data` and `walked` are.
    others : tuple of Losses
        Of the services it was compared with.
    verdict : Verdict
    checks : tuple of Check
        What was looked for; what was found is a red flag.
    trials : int
        Configurations of the model that were tried until this one was shown, itself included.
    settings : Settings
        Of the network.
    tried : tuple of Trial
        Those that were tried by this run.
    cautionary : tuple of Outcome
        What the usual tutorial would have claimed.
    final : FinalPeriod or None
        What the samples that were held back say.
    """

    manifest: Manifest
    data: TrainingSet
    walked: Walk
    full: Losses
    others: tuple[Losses, ...]
    verdict: Verdict
    checks: tuple[Check, ...]
    trials: int
    settings: Settings
    tried: tuple[Trial, ...] = ()
    cautionary: tuple[Outcome, ...] = ()
    final: FinalPeriod | None = None

    def caption(self, title: str) -> str:
        """Return a title with what the model read, and who scored the texts in it."""
        return f"{title}. Service {self.manifest.service}, texts scored by {self.manifest.scorer or 'nobody'}."


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write ``report.html`` and ``report.json`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    document = summary(report)
    as_json, as_html = folder / "report.json", folder / "report.html"
    as_json.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("backsight_model", "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["chance"] = chance
    page = environment.get_template("report.html.j2").render(report=document, figures=_figures(report, document))
    as_html.write_text(page, encoding="utf-8")
    return as_html, as_json


def summary(report: Report) -> dict[str, Any]:
    """Return all numbers and sentences of a report as plain values."""
    manifest, data, walked, verdict = report.manifest, report.data, report.walked, report.verdict
    full, caption = report.full, report.caption
    by_symbol = symbols.section(data, walked, service=full.service, caption=caption)
    return {
        "title": f"{listed(manifest.series)}, {listed([str(bars) for bars in manifest.horizons])} bars ahead, "
        f"service {manifest.service}",
        "scorer": manifest.scorer,
        "verdict": verdict.word,
        "proven": verdict.proven,
        "sentences": list(verdict.sentences),
        "notes": [*verdict.notes, *symbols.notes(by_symbol), *walked.notes],
        "claims": [
            {
                "name": claim.name,
                "proven": claim.proven,
                "p_value": claim.p_value,
                "adjusted": claim.adjusted,
                "comparisons": [evidence.comparison(one) for one in claim.comparisons],
            }
            for claim in verdict.claims
        ],
        "override": None,
        "red_flags": [check.said for check in report.checks if check.raised],
        "looked_for": [asdict(check) for check in report.checks],
        "final_period": None if report.final is None else report.final.to_json(),
        "trials": [trial.to_json() for trial in report.tried],
        "horizons": horizons.section(data, walked, full, verdict, caption=caption),
        "symbols": by_symbol,
        "needs": {target: list(references_of(full, target)) for target in REFERENCES},
        "comparisons": evidence.comparisons(full, verdict.comparisons, horizon=data.horizon, caption=caption),
        "confidence_sets": evidence.confidence_sets(full, horizon=data.horizon, caption=caption),
        "ablation": _ablation(report),
        "directional": asdict(verdict.directional) | {"statistic": _finite(verdict.directional.statistic)},
        "calibration": evidence.reliability(data, walked, caption=caption),
        "density": evidence.density(data, walked, lag=full.lag, caption=caption),
        "returns": distribution.section(data, walked, lag=full.lag, caption=caption),
        "stability": evidence.parts(data, walked, full, caption=caption),
        "trading": _trading(report),
        "overfitting": evidence.chosen(
            data,
            full,
            verdict.trading,
            trials=report.trials,
            treatments=report.settings.treatments,
            caption=caption,
        ),
        "echo": evidence.echo(data, walked, caption=caption),
        "cautionary": {
            "caption": report.caption(f"The usual tutorial on daily closes of {_first(data)}, a day ahead"),
            "rows": [outcome.to_json() for outcome in report.cautionary],
        },
        "tables": [
            _table(report, f"Volatility: {UNITS['volatility']} (lower is better)", full.volatility),
            _table(report, "Volatility: QLIKE of the variance (lower is better)", full.qlike),
            _table(report, f"Direction: {UNITS['direction']} (lower is better)", full.direction),
            _table(report, "Direction: accuracy (higher is better)", full.hit),
            _table(report, f"Return: {UNITS['return']} (lower is better)", full.pinball),
        ],
        "coverage": _coverage(report),
        "settings": asdict(report.settings),
        "epochs": [list(epochs) for epochs in walked.epochs],
        "manifest": manifest.to_json(),
    }


def _first(data: TrainingSet) -> str:
    """Return what the tutorial is followed on, and the plot of volatility of: one series, the first of several."""
    symbol, *others = data.by_symbol
    return symbol if others else "the same bars"


def _table(report: Report, title: str, values: dict[str, Any]) -> dict[str, Any]:
    folds = range(1, int(report.full.fold.max()) + 1)
    rows = [
        {
            "forecaster": name,
            "folds": [float(series[report.full.fold == fold].mean()) for fold in folds],
            "pooled": float(series.mean()),
            "model": name == MODEL,
        }
        for name, series in values.items()
    ]
    return {"caption": report.caption(title), "rows": rows}


def _ablation(report: Report) -> dict[str, Any] | None:
    if not report.others:
        return None
    rows = [
        {"target": claim.name.split(":")[0], "adjusted": claim.adjusted, "proven": claim.proven}
        | evidence.comparison(one)
        for claim in report.verdict.claims
        if ":" in claim.name
        for one in claim.comparisons
    ]
    against = ", ".join(other.service for other in report.others)
    title = f"{report.full.service} against {against}: the same model on the same instants"
    return {"caption": report.caption(title), "rows": rows}


def _trading(report: Report) -> dict[str, Any] | None:
    trading = report.verdict.trading
    if trading is None:
        return None
    shared = "" if len(trading.symbols) == 1 else f", equal shares of {listed(trading.symbols)}"
    return {
        "caption": report.caption(f"Trading the forecasts of the model{shared}, net of costs"),
        "shifted_caption": report.caption("The same positions at other times, net a year"),
        **trading.to_json(),
    }


def _coverage(report: Report) -> dict[str, Any]:
    data = report.data
    rows = data.windows.rows[:-1]
    absent = np.isnan(rows).mean(axis=0)
    gap = len(rows)
    return {
        "caption": report.caption("Samples"),
        "instants": len(data) + sum(data.left_out.values()),
        "samples": len(data),
        "left_out": data.left_out,
        "first": str(data.at[0]),
        "last": str(data.at[-1]),
        "tested": len(report.walked.samples),
        "gap_slots": float((data.windows.index == gap).mean()),
        "never_present": [name for name, share in zip(data.windows.features, absent, strict=True) if share == 1],
        "often_absent": {
            name: float(share) for name, share in zip(data.windows.features, absent, strict=True) if 0.05 < share < 1
        },
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _figures(report: Report, document: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return caption and image of each figure, by name."""
    data, walked = report.data, report.walked
    at, yearly = report.full.at, 100 * np.sqrt(365 * 24 / data.horizon)
    (symbol, (one, said)), *others = apart(data, walked).items()
    lines = {"realised": one.log_rv[said.samples], "HAR-X": said.log_rv["HAR-X"], MODEL: said.log_rv[MODEL]}
    whose = f" of {symbol}" if others else ""
    summed = {
        target: np.cumsum(report.full.of(target)[against] - report.full.of(target)[MODEL])
        for target, (against, *_) in REFERENCES.items()
    }
    density, stability, returns = document["density"], document["stability"], document["returns"]
    held = {row["forecaster"]: [one["share"] for one in row["below"]] for row in returns["rows"]}
    images = {
        "volatility": (
            report.caption(f"Volatility{whose} over the next bars, percent a year: forecast and realised"),
            plots.over_time(
                one.at[said.samples],
                {name: yearly * np.exp(0.5 * values) for name, values in lines.items()},
                label="% a year",
            ),
        ),
        "reliability": (document["calibration"]["caption"], plots.reliability(document["calibration"])),
        "transform": (density["transform"]["caption"], plots.histogram(density["transform"]["count"])),
        "quantiles": (
            returns["caption"],
            plots.coverage(returns["levels"], {name: held[name] for name in ("persistence", "HAR-X", MODEL)}),
        ),
        "echo": (document["echo"]["caption"], plots.lag_correlation(document["echo"])),
    }
    if intervals := density["intervals"]["rows"]:
        shares = {kind: [row[kind]["share"] for row in intervals] for kind in ("gaussian", "conformal")}
        images["intervals"] = (
            density["intervals"]["caption"],
            plots.coverage([row["level"] for row in intervals], shares),
        )
    for what, section in document["comparisons"].items():
        images[f"gains: {what}"] = (
            section["caption"],
            plots.gains(section["rows"], name="reference", low="skill_low", high="skill_high"),
        )
    if (trading := report.verdict.trading) is not None:
        alike = {"buy and hold": trading.hold, trading.best.rule: trading.best}
        for name, of in (("equity", performance.equity), ("drawdown", performance.drawdown)):
            images[name] = (
                report.caption(f"{name.capitalize()} of the rule that earned most, and of holding, after costs"),
                plots.over_time(trading.tape.closed_at, {rule: of(one.net) for rule, one in alike.items()}, label=name),
            )
    for target, gain in summed.items():
        against = evidence.BENCHMARKS[target]
        images[f"summed: {target}"] = (
            report.caption(f"{target.capitalize()}: gain of the model on {against}, summed over time"),
            plots.over_time(at, {f"gain in {UNITS[target]}": gain}, label="summed gain"),
        )
        parts = [row for part in ("folds", "regimes", "seeds") for row in stability[target][part]]
        images[f"parts: {target}"] = (
            stability[target]["caption"],
            plots.gains(parts, name="name", low="low", high="high"),
        )
    return {name: {"caption": caption, "image": image} for name, (caption, image) in images.items()}
