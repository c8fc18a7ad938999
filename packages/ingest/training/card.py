"""The model card, with the figures of the very file it lies beside."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from string import Template

from figures import Figures
from sentfin import LABELS, Corpus


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training run is told by.

    Parameters
    ----------
    seed : int
    temperature : float
        By which the logits were divided.
    cpu_seconds : float
        That the training took.
    texts_per_second : float
        Headlines scored in a CPU-second.
    parameters, vocabulary : int
        Weights, and word pieces.
    day : date
        Of the run.
    command : str
        That makes the same files.
    """

    seed: int
    temperature: float
    cpu_seconds: float
    texts_per_second: float
    parameters: int
    vocabulary: int
    day: date
    command: str


def written(folder: Path, run: Run, corpus: Corpus, found: Mapping[str, Mapping[str, Figures]]) -> None:
    """Write ``MODEL_CARD.md`` for the files in a folder."""
    template = Template((Path(__file__).parent / "card.md").read_text(encoding="utf-8"))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.suffix in (".json", ".onnx")}
    text = template.substitute(
        command=run.command,
        seed=run.seed,
        day=run.day.isoformat(),
        temperature=f"{run.temperature:.2f}",
        cpu=f"{run.cpu_seconds:.0f}",
        speed=f"{run.texts_per_second:,.0f}",
        parameters=f"{run.parameters / 1e6:.2f} million",
        vocabulary=f"{run.vocabulary:,}",
        megabytes=f"{sum(sizes.values()) / 1e6:.1f}",
        onnx=f"{sizes['model.onnx'] / 1e6:.1f}",
        rows=f"{corpus.rows:,}",
        repeated=corpus.repeated,
        disagreeing=f"{corpus.disagreeing:,}",
        split=_split(corpus),
        figures=_table(found),
    )
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")


def _split(corpus: Corpus) -> str:
    lines = ["| part | headlines | positive | negative | neutral |", "|---|---|---|---|---|"]
    for name, headlines in corpus.parts.items():
        counts = Counter(each.label for each in headlines)
        each = " | ".join(f"{counts[at]:,}" for at in range(len(LABELS)))
        lines.append(f"| {name} | {len(headlines):,} | {each} |")
    return "\n".join(lines)


def _table(found: Mapping[str, Mapping[str, Figures]]) -> str:
    lines = ["| texts | scorer | accuracy | macro-F1 | ECE |", "|---|---|---|---|---|"]
    for texts, scorers in found.items():
        for scorer, its in scorers.items():
            ece = "-" if its.ece is None else f"{its.ece:.3f}"
            lines.append(f"| {texts} | {scorer} | {its.accuracy:.3f} | {its.macro_f1:.3f} | {ece} |")
    return "\n".join(lines)
