"""The report of a simulation: one HTML page that needs nothing beside it, and the same numbers as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from backsight_model import plots
from backsight_model.evidence import comparison
from backsight_model.manifest import Manifest
from backsight_model.settings import Settings
from backsight_model.simulation import Life, Simulation
from backsight_model.verdict import chance
from backsight_model.words import listed


def write(found: Simulation, manifest: Manifest, settings: Settings, folder: Path) -> tuple[Path, Path]:
    """Write ``retraining.html`` and ``retraining.json`` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    document = summary(found, manifest, settings)
    as_html, as_json = folder / "retraining.html", folder / "retraining.json"
    as_json.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    environment = Environment(
        loader=PackageLoader("backsight_model", "templates"), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["chance"] = chance
    page = environment.get_template("retraining.html.j2").render(report=document, figures=_figures(found))
    as_html.write_text(page, encoding="utf-8")
    return as_html, as_json


def summary(found: Simulation, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return all numbers and sentences as plain values."""
    return {
        "title": f"Retraining: {listed(manifest.series)}, {manifest.horizon} bars ahead, service {manifest.service}",
        "scorer": manifest.scorer,
        "sentences": list(found.sentences),
        "first": f"{found.at[0].astype('datetime64[s]')}Z",
        "last": f"{found.at[-1].astype('datetime64[s]')}Z",
        "instants": len(found.at),
        "policies": [_policy(found, life) for life in found.lives],
        "settings": asdict(settings),
        "manifest": manifest.to_json(),
    }


def _policy(found: Simulation, life: Life) -> dict[str, Any]:
    name = life.policy.name
    against = {
        target: comparison(one) | {"adjusted": found.adjusted[name][target]}
        for target, one in found.comparisons.get(name, {}).items()
    }
    return {
        "policy": name,
        "loss": {target: float(values.mean()) for target, values in life.lost.items()},
        "challengers": len(life.refits),
        "taken": life.taken,
        "cpu_seconds": life.seconds,
        "against_never": against,
        "refits": [
            {
                "at": f"{refit.at.astype('datetime64[s]')}Z",
                "why": refit.why,
                "cpu_seconds": refit.seconds,
                "comparison": refit.comparison.to_json(),
            }
            for refit in life.refits
        ],
    }


def _figures(found: Simulation) -> dict[str, dict[str, str]]:
    """Return caption and image by policy."""
    never, *others = found.lives
    figures = {}
    for life in others:
        gains = {
            target: np.cumsum(never.lost[target] - values) / never.lost[target].mean()
            for target, values in life.lost.items()
        }
        image = plots.over_time(found.at, gains, label="gain, in mean losses")
        figures[life.policy.name] = {"caption": f"{life.policy.name}: gain on never, summed over time", "image": image}
    return figures
