"""The figures of a report, as PNG in data addresses: transparent, in inks that show on white and on black."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from backsight_model.arrays import FloatArray, TimeArray

GAP = np.timedelta64(6, "h")
"""Instants further apart are not joined by a line."""
INK, PALE, BLUE, RED = "#808080", "#9a9a9a", "#3b82c4", "#d1495b"


def over_time(at: TimeArray, lines: Mapping[str, FloatArray], *, label: str) -> str:
    """Return lines over time, the last of them in red."""
    figure, axes = _blank(9, 3)
    # A line across a gap would draw what nobody saw.
    whole = np.diff(at, prepend=at[:1]) <= GAP
    colors = (PALE, BLUE, RED)[-len(lines) :]
    for (name, values), color in zip(lines.items(), colors, strict=True):
        axes.plot(at, np.where(whole, values, np.nan), label=name, linewidth=0.9, color=color)
    axes.set_ylabel(label)
    _legend(axes)
    return _image(figure)


def reliability(section: Mapping[str, Any]) -> str:
    """Return frequency over forecast with intervals, and how many instants each point stands for."""
    figure = Figure(figsize=(4.6, 5), layout="constrained")
    axes, below = figure.subplots(2, height_ratios=(4, 1), sharex=True)
    forecast, came, low, high, count = (np.array(section[key]) for key in ("forecast", "came", "low", "high", "count"))
    axes.axline((0.5, 0.5), slope=1, color=PALE, linewidth=0.9)
    reach = (np.maximum(came - low, 0), np.maximum(high - came, 0))
    axes.errorbar(forecast, came, yerr=reach, fmt="o", color=RED, markersize=4, linewidth=0.9)
    axes.set(ylabel="frequency of a rise", ylim=(min(low.min(), 0.45), max(high.max(), 0.55)))
    below.bar(forecast, count, width=max(float(np.ptp(forecast)), 0.02) / 25, color=BLUE)
    below.set(xlabel="forecast P(up)", ylabel="instants")
    for one in (axes, below):
        _inked(one)
    return _image(figure)


def histogram(count: Sequence[int]) -> str:
    """Return counts in equal bins from 0 to 1, with the line of a uniform."""
    figure, axes = _blank(4.6, 3)
    edges = np.linspace(0, 1, len(count) + 1)
    axes.bar(edges[:-1], count, width=np.diff(edges), align="edge", color=BLUE, edgecolor=INK, linewidth=0.5)
    axes.axhline(sum(count) / len(count), color=RED, linewidth=0.9, label="a right density")
    axes.set(xlabel="forecast probability of less than what came", ylabel="instants", xlim=(0, 1))
    _legend(axes)
    return _image(figure)


def coverage(levels: Sequence[float], held: Mapping[str, Sequence[float]]) -> str:
    """Return what intervals or quantiles held over what they promised, the last of them in red."""
    figure, axes = _blank(4.6, 3.6)
    axes.axline((0.5, 0.5), slope=1, color=PALE, linewidth=0.9)
    for (kind, shares), color in zip(held.items(), (PALE, BLUE, RED)[-len(held) :], strict=True):
        axes.plot(levels, shares, "o-", color=color, markersize=4, label=kind)
    axes.set(xlabel="promised", ylabel="held")
    _legend(axes)
    return _image(figure)


def gains(rows: Sequence[Mapping[str, Any]], *, name: str, low: str, high: str) -> str:
    """Return gains with intervals, one line each from the top, in percent."""
    figure, axes = _blank(7, 0.7 + 0.32 * len(rows))
    middle, left, right = (100 * np.array([row[key] for row in rows], dtype=np.float64) for key in ("skill", low, high))
    place = np.arange(len(rows))
    axes.axvline(0, color=PALE, linewidth=0.9)
    reach = (np.maximum(middle - left, 0), np.maximum(right - middle, 0))
    axes.errorbar(middle, place, xerr=reach, fmt="o", color=RED, markersize=4, linewidth=0.9)
    axes.set_yticks(place, [str(row[name]) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("gain, % of the other's loss; right of 0 the model is better")
    return _image(figure)


def lag_correlation(section: Mapping[str, Any]) -> str:
    """Return the correlation by lag, with marks where the last move and the coming one lie."""
    figure, axes = _blank(7, 3)
    axes.axhline(0, color=PALE, linewidth=0.9)
    axes.plot(section["lags"], section["correlation"], color=RED, linewidth=1.2)
    for lag, said in ((-section["horizon"], "the last move"), (0, "the coming move")):
        axes.axvline(lag, color=BLUE, linewidth=0.9, linestyle="--")
        axes.annotate(said, (lag, 1.0), xycoords=("data", "axes fraction"), color=INK, fontsize=8, va="top")
    axes.set(xlabel="move began so many bars after the forecast", ylabel="correlation with P(up)")
    return _image(figure)


def _blank(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _inked(axes)
    return figure, axes


def _inked(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.grid(alpha=0.3, color=INK)
    axes.tick_params(colors=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for spine in axes.spines.values():
        spine.set_color(INK)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=INK)


def _image(figure: Figure) -> str:
    FigureCanvasAgg(figure)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110, transparent=True, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"
