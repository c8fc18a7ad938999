"""Texts that people have labelled: read from a file, and sorted out to those by which a scorer can be judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from backsight_features.errors import BadInput
from backsight_features.texts import normalise, text_id

from backsight_ingest.scoring.labels import COLUMNS, MEANINGS

MOST_ROWS: Final = 1_000_000
"""Rows of a file; labels by hand are a thousandth of it, and nobody waits for a model to read more."""

_LISTED: Final = 10
"""Different labels that a message names."""

_READERS: Final[Mapping[str, Callable[..., pl.LazyFrame]]] = {
    ".csv": lambda file: pl.scan_csv(file, infer_schema=False),
    ".parquet": pl.scan_parquet,
    ".jsonl": pl.scan_ndjson,
    ".ndjson": pl.scan_ndjson,
}


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Texts by which a scorer can be judged, and what of the file is not among them.

    Parameters
    ----------
    texts : pl.DataFrame
        ``text_id``, ``said`` (normalised), ``truth`` (0, 1, 2 as in `labels.COLUMNS`) and ``source``; each text once.
    left_out : mapping of str to int
        Rows that are not among them, by the reason.
    unknown : mapping of str to int
        Rows by the label that means none of the three, the most frequent first.
    """

    texts: pl.DataFrame
    left_out: Mapping[str, int]
    unknown: Mapping[str, int]


def read(path: Path, *, text: str, label: str, source: str | None) -> pl.DataFrame:
    """Return the rows of a file of labelled texts.

    Parameters
    ----------
    path : Path
        CSV, Parquet or JSON lines, by its ending; CSV and JSON lines also as ``.gz``.
    text, label, source : str
        Its columns; without ``source`` the texts have none.

    Returns
    -------
    pl.DataFrame
        ``text``, ``label`` and ``source`` as text, null where empty.

    Raises
    ------
    BadInput
        If the file is of another kind, cannot be read as what it says it is, lacks a column or is too long.
    """
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind not in _READERS or (kind == ".parquet" and path.name.endswith(".gz")):
        raise BadInput(f"{path}: labelled texts are read from .csv, .jsonl, .ndjson (each also .gz) and .parquet")
    named = {"text": text, "label": label} | ({} if source is None else {"source": source})
    try:
        # A path would be taken for a pattern.
        with path.open("rb") as file:
            rows = _READERS[kind](file)
            there = rows.collect_schema().names()
            for option, column in named.items():
                if column not in there:
                    raise BadInput(f"{path} has no column {column!r} (--{option}); it has {', '.join(there)}")
            found = (
                rows.select(**{name: pl.col(column) for name, column in named.items()}).head(MOST_ROWS + 1).collect()
            )
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as {kind.removeprefix('.')}: {error}") from None
    if found.height > MOST_ROWS:
        raise BadInput(f"{path} has more than {MOST_ROWS:,} rows; judge the scorer by a part of them")
    for name, column in named.items():
        dtype = found.schema[name]
        if dtype.is_nested() or (name == "text" and dtype not in (pl.String, pl.Null)):
            raise BadInput(f"{path}: column {column!r} (--{name}) holds {dtype}, not text")
    rest = {} if source is not None else {"source": pl.lit(None, pl.String)}
    return found.with_columns(pl.all().cast(pl.String)).with_columns(**rest).select("text", "label", "source")


def sort_out(rows: pl.DataFrame) -> Labelled:
    """Return the texts by which a scorer can be judged.

    A text counts once, however often it is there with the same label, with its first source; one with several labels
    does not count, since nobody can tell which of them is right.

    Parameters
    ----------
    rows : pl.DataFrame
        As `read` returns them.

    Raises
    ------
    BadInput
        If no label is known by its name.

    Examples
    --------
    >>> rows = pl.DataFrame({"text": ["Up", "Up", "Down", "So"], "label": ["pos", "pos", "bearish", "mixed"]})
    >>> found = sort_out(rows.with_columns(source=pl.lit("desk")))
    >>> found.texts.select("said", "truth").rows(), found.unknown
    ([('Up', 0), ('Down', 1)], {'mixed': 1})
    """
    said = rows.select(
        "source", said=normalise(pl.col("text")), label=pl.col("label").str.strip_chars().str.to_lowercase()
    )
    worded = said.filter(pl.col("said").is_not_null())
    labelled = worded.filter(pl.col("label").fill_null("") != "")
    meant = labelled.with_columns(truth=_meanings(labelled["label"]))
    known = meant.filter(pl.col("truth").is_not_null())
    counts = meant.filter(pl.col("truth").is_null())["label"].value_counts(sort=True)
    if known.is_empty():
        found = f"they are {_listed(counts)}" if counts.height else "there are none"
        raise BadInput(
            f"no label says {', '.join(COLUMNS)} (or pos, neg, neu, bullish, bearish, or 1, -1 and 0 alone): {found}"
        )
    texts = known.with_columns(text_id=text_id(pl.col("said")))
    agreed = texts.filter(pl.col("truth").n_unique().over("text_id") == 1)
    once = agreed.unique("text_id", keep="first", maintain_order=True)
    return Labelled(
        texts=once.select("text_id", "said", "truth", "source"),
        left_out={
            "no text": said.height - worded.height,
            "no label": worded.height - labelled.height,
            "unknown label": meant.height - known.height,
            "repeated": agreed.height - once.height,
            "labelled differently": texts.height - agreed.height,
        },
        unknown=dict(counts.iter_rows()),
    )


def _meanings(labels: pl.Series) -> pl.Series:
    """Return what labels mean, null where that is not known."""
    numbers = labels.cast(pl.Float64, strict=False)
    # 0 and 1, or 0, 1 and 2, are counted from anywhere; below zero is only one end.
    if numbers.null_count() == 0 and {-1.0, 1.0} <= set(numbers.unique()) <= {-1.0, 0.0, 1.0}:
        return numbers.replace_strict({1.0: 0, -1.0: 1, 0.0: 2}, return_dtype=pl.Int64)
    return labels.replace_strict(MEANINGS, default=None, return_dtype=pl.Int64)


def _listed(counts: pl.DataFrame) -> str:
    listed = ", ".join(f"{label!r}" for label in counts["label"].head(_LISTED))
    return listed if counts.height <= _LISTED else f"{listed} and {counts.height - _LISTED} more"
