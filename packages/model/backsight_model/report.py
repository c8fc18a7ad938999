"""The report: one HTML page that needs nothing beside it, and the same numbers as JSON."""

import base64
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from backsight_model.arrays import FloatArray, TimeArray
from backsight_model.flags import calibration, net_sharpe
from backsight_model.proof import Comparison
from backsight_model.training import Manifest, TrainingSet
from backsight_model.verdict import TARGETS, UNITS, Losses, Verdict, chance
from backsight_model.walk import MODEL, Walk

GAP = np.timedelta64(6, "h")
"""Instants further apart are not joined by a line."""


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
        Of the service on trial.
    price_only : Losses or None
        Of the service it was compared with.
    verdict : Verdict
    flags : tuple of str
        Red flags.
    """

    manifest: Manifest
    data: TrainingSet
    walked: Walk
    full: Losses
    price_only: Losses | None
    verdict: Verdict
    flags: tuple[str, ...]


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
    page = environment.get_template("report.html.j2").render(report=document, plots=_plots(report))
    as_html.write_text(page, encoding="utf-8")
    return as_html, as_json


def summary(report: Report) -> dict[str, Any]:
    """Return all numbers and sentences of a report as plain values."""
    manifest, data, walked, verdict = report.manifest, report.data, report.walked, report.verdict
    came_up, p_up = data.up[walked.samples], walked.p_up[MODEL]
    forecast, came, count = calibration(p_up, came_up)
    tables = [
        _table(report, f"Volatility: {UNITS['volatility']} (lower is better)", report.full.volatility),
        _table(report, "Volatility: QLIKE of the variance (lower is better)", report.full.qlike),
        _table(report, f"Direction: {UNITS['direction']} (lower is better)", report.full.direction),
        _table(report, "Direction: accuracy (higher is better)", report.full.hit),
    ]
    return {
        "title": f"{manifest.series}, {manifest.horizon} bars ahead, service {manifest.service}",
        "scorer": manifest.scorer,
        "verdict": verdict.word,
        "proven": verdict.proven,
        "sentences": list(verdict.sentences),
        "notes": list(verdict.notes),
        "claims": [
            {
                "name": claim.name,
                "proven": claim.proven,
                "p_value": claim.p_value,
                "adjusted": claim.adjusted,
                "comparisons": [_comparison(one) for one in claim.comparisons],
            }
            for claim in verdict.claims
        ],
        "red_flags": list(report.flags),
        "tables": tables,
        "comparisons": {
            target: {
                "caption": _caption(report, f"{target.capitalize()}: the model against each other forecaster"),
                "rows": [_comparison(one) for one in verdict.comparisons[target]],
            }
            for target in TARGETS
        },
        "against_price_only": _against_price_only(report),
        "directional": asdict(verdict.directional) | {"statistic": _finite(verdict.directional.statistic)},
        "calibration": {
            "caption": _caption(report, "Calibration of P(up)"),
            "forecast": forecast.tolist(),
            "came": came.tolist(),
            "count": count.tolist(),
        },
        "net_sharpe": net_sharpe(p_up, data.log_return[walked.samples], horizon=data.horizon),
        "coverage": _coverage(report),
        "epochs": [list(epochs) for epochs in walked.epochs],
        "manifest": manifest.to_json(),
    }


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
    return {"caption": _caption(report, title), "rows": rows}


def _against_price_only(report: Report) -> dict[str, Any] | None:
    if report.price_only is None:
        return None
    rows = [
        {"target": claim.name.split(":")[0], "adjusted": claim.adjusted, "proven": claim.proven, **_comparison(one)}
        for claim in report.verdict.claims
        if claim.name not in TARGETS
        for one in claim.comparisons
    ]
    title = f"{report.full.service} against {report.price_only.service}, the same model on the same instants"
    return {"caption": _caption(report, title), "rows": rows}


def _comparison(one: Comparison) -> dict[str, Any]:
    return asdict(one) | {
        "skill": one.skill,
        "skill_low": one.low / abs(one.reference_loss),
        "skill_high": one.high / abs(one.reference_loss),
        "skill_detectable": one.detectable / abs(one.reference_loss),
    }


def _coverage(report: Report) -> dict[str, Any]:
    data = report.data
    rows = data.windows.rows[:-1]
    absent = np.isnan(rows).mean(axis=0)
    gap = len(rows)
    return {
        "caption": _caption(report, "Samples"),
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


def _caption(report: Report, title: str) -> str:
    return f"{title}. Service {report.manifest.service}, texts scored by {report.manifest.scorer or 'nobody'}."


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _plots(report: Report) -> list[dict[str, str]]:
    data, walked = report.data, report.walked
    at = data.at[walked.samples]
    yearly = np.sqrt(365 * 24 / data.horizon)
    realised, predicted, harx = (
        100 * yearly * np.exp(0.5 * values)
        for values in (data.log_rv[walked.samples], walked.log_rv[MODEL], walked.log_rv["HAR-X"])
    )
    lines = {"realised": realised, "HAR-X": harx, MODEL: predicted}
    forecast, came, count = calibration(walked.p_up[MODEL], data.up[walked.samples])
    gains = {
        target: np.cumsum(report.full.of(target)[name] - report.full.of(target)[MODEL])
        for target, name in (("volatility", "HAR-X"), ("direction", "base rate"))
    }
    return [
        {
            "caption": _caption(report, "Volatility over the next bars, percent a year: forecast and realised"),
            "image": _over_time(at, lines, label="% a year"),
        },
        {
            "caption": _caption(report, "Calibration: frequency of a rise where P(up) was forecast"),
            "image": _calibration(forecast, came, count),
        },
        *(
            {
                "caption": _caption(report, f"{target.capitalize()}: gain of the model summed over time"),
                "image": _over_time(at, {f"gain in {UNITS[target]}": gain}, label="summed gain"),
            }
            for target, gain in gains.items()
        ),
    ]


def _over_time(at: TimeArray, lines: dict[str, FloatArray], *, label: str) -> str:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    # A line across a gap would draw what nobody saw.
    whole = np.diff(at, prepend=at[:1]) <= GAP
    for (name, values), color in zip(lines.items(), ("0.75", "tab:blue", "tab:red"), strict=False):
        axes.plot(
            at, np.where(whole, values, np.nan), label=name, linewidth=0.9, color=color if len(lines) > 1 else "tab:red"
        )
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _image(figure)


def _calibration(forecast: FloatArray, came: FloatArray, count: FloatArray) -> str:
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.9)
    axes.scatter(forecast, came, s=200 * count / count.max(), color="tab:red", alpha=0.7)
    span = [min(forecast.min(), came.min()) - 0.05, max(forecast.max(), came.max()) + 0.05]
    axes.set(xlabel="forecast P(up)", ylabel="frequency of a rise", xlim=span, ylim=span)
    axes.grid(alpha=0.3)
    return _image(figure)


def _image(figure: Figure) -> str:
    FigureCanvasAgg(figure)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"
