"""An evaluation in words and tables, the same for a terminal and a page."""

from collections.abc import Mapping
from dataclasses import dataclass

from backsight_ingest.scoring.evaluation import Evaluation
from backsight_ingest.scoring.figures import Figures
from backsight_ingest.scoring.labels import COLUMNS

_NONE = "-"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A table for people.

    Parameters
    ----------
    title : str
    columns : tuple of str
    rows : tuple of tuple of str
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def summary(found: Evaluation) -> str:
    """Return how good the scorer is, in two sentences."""
    overall = found.overall
    most = max(COLUMNS, key=lambda name: overall.classes[name].support)
    return (
        f"{overall.accuracy:.1%} of {overall.n:,} texts are told rightly ({_percents(overall.accuracy_interval)}); "
        f"to say {most} always would tell {overall.unread.accuracy:.1%}. Macro-F1 is {overall.macro_f1:.3f} "
        f"({_span(overall.macro_f1_interval)}), without reading {overall.unread.macro_f1:.3f}."
    )


def left_out(found: Evaluation) -> str:
    """Return which rows were not judged, and why."""
    counted = ", ".join(f"{rows:,} {reason}" for reason, rows in found.left_out.items() if rows)
    labels = ", ".join(f"{label!r} {rows:,}" for label, rows in list(found.unknown_labels.items())[:10])
    return f"left out: {counted or 'nothing'}" + (f" ({labels})" if labels else "")


def headline(overall: Figures) -> Shown:
    """Return the figures of all texts, and what can be had without reading them."""
    unread = overall.unread
    rows = (
        ("accuracy", overall.accuracy, overall.accuracy_interval, unread.accuracy),
        ("balanced accuracy", overall.balanced_accuracy, None, unread.balanced_accuracy),
        ("macro-F1", overall.macro_f1, overall.macro_f1_interval, unread.macro_f1),
        ("Brier score, lower is better", overall.brier, None, unread.brier),
        ("log loss, lower is better", overall.log_loss, None, unread.log_loss),
        ("calibration error (ECE), lower is better", overall.calibration_error, None, None),
    )
    return Shown(
        title="Figures",
        columns=("", "scorer", "95 % interval", "without reading"),
        rows=tuple(
            (name, _number(value), _NONE if interval is None else _span(interval), _number(other))
            for name, value, interval, other in rows
        ),
    )


def classes(overall: Figures) -> Shown:
    """Return how well each class is told."""
    return Shown(
        title="By class",
        columns=("", "texts", "precision", "recall", "F1"),
        rows=tuple(
            (name, f"{each.support:,}", _number(each.precision), _number(each.recall), _number(each.f1))
            for name, each in overall.classes.items()
        ),
    )


def confusion(overall: Figures) -> Shown:
    """Return what is taken for what."""
    return Shown(
        title="Confusion: texts by label (rows) and prediction (columns)",
        columns=("", *COLUMNS),
        rows=tuple(
            (name, *(f"{count:,}" for count in row)) for name, row in zip(COLUMNS, overall.confusion, strict=True)
        ),
    )


def calibration(overall: Figures) -> Shown:
    """Return how often predictions of about the same probability are right."""
    return Shown(
        title="Calibration: how often a prediction is right",
        columns=("probability", "texts", "mean probability", "right"),
        rows=tuple(
            (f"{each.above:.1f} to {each.upto:.1f}", f"{each.n:,}", f"{each.confidence:.1%}", f"{each.accuracy:.1%}")
            for each in overall.bins
        ),
    )


def parts(title: str, of: Mapping[str, Figures]) -> Shown:
    """Return the figures of parts of the texts."""
    return Shown(
        title=title,
        columns=(
            "",
            "texts",
            "accuracy",
            "95 %",
            "without reading",
            "macro-F1",
            "95 %",
            "Brier",
            "ECE",
        ),
        rows=tuple(
            (
                name,
                f"{each.n:,}",
                _number(each.accuracy),
                _span(each.accuracy_interval, digits=2),
                _number(each.unread.accuracy),
                _number(each.macro_f1),
                _span(each.macro_f1_interval, digits=2),
                _number(each.brier),
                _number(each.calibration_error),
            )
            for name, each in of.items()
        ),
    )


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _span(interval: tuple[float, float], *, digits: int = 3) -> str:
    return f"{interval[0]:.{digits}f}-{interval[1]:.{digits}f}"


def _percents(interval: tuple[float, float]) -> str:
    return f"95 % interval {interval[0]:.1%} to {interval[1]:.1%}"
