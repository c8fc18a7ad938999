"""An evaluation as one HTML page that needs nothing beside it, in the reader's light or dark."""

from html import escape
from typing import Final

from backsight_ingest.scoring import evaluation_tables as tables
from backsight_ingest.scoring.evaluation import Evaluation
from backsight_ingest.scoring.evaluation_tables import Shown
from backsight_ingest.scoring.figures import Figures
from backsight_ingest.scoring.labels import COLUMNS

_STYLE: Final = """
:root { color-scheme: light dark; --text: #222; --back: #fff; --faint: #ddd; --quiet: #666;
  --hue: #1f6fb2; --soft: #f5f5f5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #16181b; --faint: #3a3e44; --quiet: #a0a4aa;
    --hue: #6db3f2; --soft: #202328; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--text);
  background: var(--back); }
h1 { overflow-wrap: anywhere; } .quiet { color: var(--quiet); }
.summary { border-left: .4rem solid var(--hue); padding: .5rem 1rem; background: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { text-align: right; padding: .15rem .7rem; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 2rem; } figure { margin: 0; } figcaption { font-weight: 600; }
svg { display: block; max-width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--text); }
.grid { stroke: var(--faint); } .right { fill: var(--hue); fill-opacity: .55; }
.even { stroke: var(--quiet); stroke-dasharray: 4 3; } .cell { fill: var(--hue); stroke: var(--faint); }
"""

_SIDE: Final = 320
_LEFT: Final = 80
_TOP: Final = 28
"""Pixels of a plot, and of what stands left of it and above or below it."""


def html(found: Evaluation, *, labels: str) -> str:
    """Return the page.

    Parameters
    ----------
    found : Evaluation
    labels : str
        What the labelled texts are called.
    """
    overall = found.overall
    title = escape(f"{found.scorer} on {labels}")
    shown = [tables.headline(overall), tables.classes(overall), tables.calibration(overall)]
    shown.append(tables.parts("By length", found.by_length))
    if found.by_source:
        shown.append(tables.parts("By source", found.by_source))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="summary"><strong>{escape(tables.summary(found))}</strong></p>
<p class="quiet">Revision {escape(found.revision)}; {escape(tables.left_out(found))}.</p>
<div class="plots">
<figure><figcaption>{escape(tables.confusion(overall).title)}</figcaption>{_confusion(overall)}</figure>
<figure><figcaption>Calibration: share that is right, by probability</figcaption>{_reliability(overall)}</figure>
</div>
{"".join(map(_table, shown))}<p class="quiet">Intervals: bootstrap over the texts. Without reading: the most
frequent label always, for Brier score and log loss the share of each label as its probability. Macro-F1 and balanced
accuracy are means over the classes that texts are labelled with.</p>
</body>
</html>
"""


def _table(shown: Shown) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in shown.rows)
    return (
        f'<div class="wide"><table>\n<caption>{escape(shown.title)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>\n"
    )


def _confusion(overall: Figures) -> str:
    """Return a square for each label and prediction, the darker the larger its share of the label."""
    step = _SIDE / len(COLUMNS)
    drawn = []
    for i, (label, row) in enumerate(zip(COLUMNS, overall.confusion, strict=True)):
        top = _TOP + i * step
        drawn.append(_text(_LEFT - 8, top + step / 2 + 4, label, "end"))
        drawn.append(_text(_LEFT + (i + 0.5) * step, _TOP - 8, label))
        for j, count in enumerate(row):
            share, left = count / max(sum(row), 1), _LEFT + j * step
            drawn.append(
                f'<rect class="cell" x="{left:.1f}" y="{top:.1f}" width="{step:.1f}" height="{step:.1f}" '
                f'fill-opacity="{0.6 * share:.3f}"/>'
            )
            drawn.append(_text(left + step / 2, top + step / 2, f"{count:,}"))
            drawn.append(_text(left + step / 2, top + step / 2 + 16, f"{share:.0%}"))
    return _svg("Texts by label and prediction; the table of classes says the same in figures", drawn)


def _reliability(overall: Figures) -> str:
    """Return a bar for each bin of probability, as high as it is right, over the line where both are the same."""
    drawn = []
    for i in range(0, 11, 2):
        at = _TOP + _SIDE * (1 - i / 10)
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{at:.1f}" y2="{at:.1f}"/>')
        drawn.append(_text(_LEFT - 8, at + 4, f"{i / 10:.0%}", "end"))
        drawn.append(_text(_LEFT + _SIDE * i / 10, _TOP + _SIDE + 18, f"{i / 10:.0%}"))
    for each in overall.bins:
        high = _SIDE * each.accuracy
        drawn.append(
            f'<rect class="right" x="{_LEFT + _SIDE * each.above + 1:.1f}" y="{_TOP + _SIDE - high:.1f}" '
            f'width="{_SIDE * (each.upto - each.above) - 2:.1f}" height="{high:.1f}">'
            f"<title>{each.n:,} texts: {each.confidence:.1%} on average, {each.accuracy:.1%} right</title></rect>"
        )
    drawn.append(f'<line class="even" x1="{_LEFT}" y1="{_TOP + _SIDE}" x2="{_LEFT + _SIDE}" y2="{_TOP}"/>')
    return _svg("Share of predictions that are right by their probability, as in the table of calibration", drawn)


def _svg(label: str, drawn: list[str]) -> str:
    wide, high = _LEFT + _SIDE + 24, _TOP + _SIDE + 28
    return (
        f'<svg width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(label)}">\n'
        f"{chr(10).join(drawn)}\n</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
