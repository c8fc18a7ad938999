"""Trains the model that ships with backsight-ingest: sentfin-tiny-bert, a small BERT for machines without a network.

Run by hand; it is no part of the wheel. It needs PyTorch, VADER and scikit-learn, in an environment of its own::

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install packages/features 'packages/ingest[torch]' scikit-learn vaderSentiment
    ENVIRONMENT/bin/python packages/ingest/training/sentfin_tiny_bert.py --labels SEntFiN.csv.gz --out FOLDER

SEntFiN 1.0 is a CSV file with the columns Title and Decisions, from its authors (Sinha et al., MIT licence). Takes some
five CPU-minutes on one thread. The same command gives the same model on the same machine.
"""

import argparse
import json
import os
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import card
import graph
import network
import polars as pl
import sentfin
import torch
import wordpieces
from backsight_ingest.scoring import checksums
from compositions import Composer
from figures import Figures, Judge
from sentfin import LABELS, Corpus
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

SEED: Final = 7
_FILES: Final = ("config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json")
_COMMAND: Final = "python packages/ingest/training/sentfin_tiny_bert.py --labels SEntFiN.csv.gz --out FOLDER"


def main() -> None:
    """Train, write the files, measure them."""
    given = _arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    # Sums of many threads depend on how many there are.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    corpus = sentfin.read(given.labels, seed=SEED)
    began = time.process_time()
    tokenizer, model, temperature = _trained(corpus)
    spent = time.process_time() - began
    _write(model, tokenizer, given.out)
    judge = Judge(given.out, corpus.parts["train"])
    found = _found(judge, corpus, given.elsewhere)
    run = card.Run(
        seed=SEED,
        temperature=temperature,
        cpu_seconds=spent,
        texts_per_second=judge.speed([each.title for each in corpus.parts["held-out"]]),
        parameters=sum(weights.numel() for weights in model.parameters()),
        vocabulary=tokenizer.get_vocab_size(),
        day=datetime.now(tz=UTC).date(),
        command=_COMMAND + (" --elsewhere CRYPTONEWS.csv.gz" if given.elsewhere else ""),
    )
    card.written(given.out, run, corpus, found)
    print((given.out / "MODEL_CARD.md").read_text(encoding="utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train sentfin-tiny-bert.")
    parser.add_argument("--labels", type=Path, required=True, help="SEntFiN's CSV file, gzipped or not")
    parser.add_argument("--out", type=Path, required=True, help="folder that the files are written to")
    parser.add_argument("--elsewhere", type=Path, help="CSV file with the columns title and sentiment, to measure on")
    return parser.parse_args()


def _trained(corpus: Corpus) -> tuple[Tokenizer, BertForSequenceClassification, float]:
    headlines, validation = corpus.parts["train"], corpus.parts["validation"]
    composer = Composer(headlines, lexicon=SentimentIntensityAnalyzer().lexicon, seed=SEED)
    tokenizer = wordpieces.learnt([each.title for each in headlines], composer.words)
    model = network.trained(headlines, composer, tokenizer, seed=SEED, tell=print)
    logits = network.logits_of(model, tokenizer, [each.title for each in validation])
    temperature = network.calibrate(model, logits, torch.tensor([each.label for each in validation]))
    network.halve(model)
    return tokenizer, model, temperature


def _write(model: BertForSequenceClassification, tokenizer: Tokenizer, folder: Path) -> None:
    shape = model.config.to_diff_dict() | {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    wordpieces.save(tokenizer, folder)
    # Written beside and renamed: a graph that is there is whole.
    draft = folder / f"model.onnx.{os.getpid()}.part"
    graph.write(model, draft)
    draft.replace(folder / "model.onnx")
    checksums.write(checksums.sums(folder, _FILES), folder / checksums.MANIFEST)


def _found(judge: Judge, corpus: Corpus, elsewhere: Path | None) -> dict[str, dict[str, Figures]]:
    """Return the figures of each scorer on each set."""
    held_out = corpus.parts["held-out"]
    sets = {"SEntFiN, held out": ([each.title for each in held_out], [each.label for each in held_out])}
    if elsewhere is not None:
        rows = pl.read_csv(elsewhere, columns=["title", "sentiment"])
        sets["crypto-news titles"] = (rows["title"].to_list(), [LABELS.index(label) for label in rows["sentiment"]])
    own = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text(encoding="utf-8"))
    listed = [(line, at) for at, label in enumerate(LABELS) for line in own[label].strip().splitlines()]
    sets["hand-written sentences"] = ([line for line, _ in listed], [at for _, at in listed])
    return {f"{name} ({len(texts):,})": judge.figures(texts, labels) for name, (texts, labels) in sets.items()}


if __name__ == "__main__":
    main()
