"""The model in the package: whole, small, said by its graph as by PyTorch, and as good as its card says."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.embedded import NAME, folder
from backsight_ingest.scoring.hub import local
from backsight_ingest.scoring.labels import columns
from onnx import numpy_helper

HAS_TORCH = importlib.util.find_spec("torch") is not None
FILES = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.onnx", "MODEL_CARD.md", "SHA256SUMS"}
MOST_BYTES = 6_000_000

PLAIN = {
    "Net profit of the retailer rose 40% on strong demand": 0,
    "The lender's net loss narrowed": 0,
    "Bitcoin soars to a new record": 0,
    "Shares of the airline plunge after profit warning": 1,
    "The lender's net loss widened": 1,
    "Exchange halts withdrawals after hackers steal $200m": 1,
    "The board will meet on Thursday": 2,
    "What is bitcoin and how does it work?": 2,
}


@pytest.fixture(scope="module")
def scorer() -> OnnxClassifier:
    files = local(folder())
    return OnnxClassifier(
        name=NAME,
        revision=files.revision,
        model=files.weights,
        tokenizer=files.folder,
        outputs=columns(files.id2label, model=NAME),
    )


def test_plain_sentences_are_told_apart(scorer: OnnxClassifier) -> None:
    scores = scorer.score(list(PLAIN))
    assert scores.argmax(axis=1).tolist() == list(PLAIN.values())
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)


def test_a_number_is_a_number_and_a_currency_a_currency(scorer: OnnxClassifier) -> None:
    same = ["Sales up 5.5 per cent to Rs 1,200 crore", "SALES UP 12% to EUR 3.1 mn", "Sales up 7 pct to $3m"]
    scores = scorer.score(same)
    np.testing.assert_allclose(scores, np.repeat(scores[:1], len(same), axis=0), atol=1e-6)


def test_alone_and_in_a_crowd_are_the_same(scorer: OnnxClassifier) -> None:
    rng = np.random.default_rng(0)
    words = " ".join(PLAIN).split()
    texts = [" ".join(rng.choice(words, size=n)) for n in rng.integers(1, 60, size=100)]
    alone = np.concatenate([scorer.score([text]) for text in texts])
    np.testing.assert_allclose(scorer.score(texts), alone, atol=1e-6)


def test_odd_texts_get_probabilities(scorer: OnnxClassifier) -> None:
    scores = scorer.score(["?", "\u6bd4\u7279\u5e01", "\U0001f680", "x" * 500, "up " * 500])
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, atol=1e-6)


def test_weights_are_stored_by_name_as_float16() -> None:
    stored = {each.name: each.data_type for each in onnx.load(folder() / "model.onnx").graph.initializer}
    assert stored["bert.embeddings.word_embeddings.weight"] == onnx.TensorProto.FLOAT16
    assert onnx.TensorProto.FLOAT not in stored.values()


@pytest.mark.skipif(not HAS_TORCH, reason="needs PyTorch: pip install 'backsight-ingest[torch]'")
def test_pytorch_says_the_same_with_the_same_weights(scorer: OnnxClassifier) -> None:
    import torch
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    graph = onnx.load(folder() / "model.onnx").graph
    state = {each.name: torch.from_numpy(numpy_helper.to_array(each).astype("float32")) for each in graph.initializer}
    config = AutoConfig.from_pretrained(str(folder()))
    model = BertForSequenceClassification(config)
    model.load_state_dict(state, strict=True)
    tokenizer = AutoTokenizer.from_pretrained(str(folder()))
    with torch.inference_mode():
        logits = torch.cat([model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in PLAIN])
    expected = torch.softmax(logits, dim=1).numpy()[:, columns(local(folder()).id2label, model=NAME)]
    np.testing.assert_allclose(scorer.score(list(PLAIN)), expected, atol=1e-4)


def test_the_card_says_what_it_is() -> None:
    card = (folder() / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {NAME}\n")
    assert "It is not FinBERT" in card
    assert "MIT licence" in card
    assert "$" not in re.sub(r"`[^`]*`", "", card), "a place of the template was left empty"


def test_the_model_calls_itself_by_its_name_only() -> None:
    config = (folder() / "config.json").read_text(encoding="utf-8")
    assert json.loads(config)["architectures"] == ["BertForSequenceClassification"]
    assert "finbert" not in f"{NAME}{config}".lower()


def test_the_file_beats_vader_by_what_was_asked() -> None:
    ours, vader = (_macro_f1("SEntFiN, held out", scorer) for scorer in (NAME, "VADER"))
    assert ours - vader >= 0.25
    ours, vader = (_macro_f1("crypto-news titles", scorer) for scorer in (NAME, "VADER"))
    assert ours >= vader


def _macro_f1(texts: str, scorer: str) -> float:
    """Return a figure of the card's table."""
    card = (folder() / "MODEL_CARD.md").read_text(encoding="utf-8")
    row = next(line for line in card.splitlines() if line.startswith(f"| {texts}") and f"| {scorer} |" in line)
    return float(row.split("|")[4])


def test_the_card_tells_the_figure_of_this_file(scorer: OnnxClassifier, shared_data: Path) -> None:
    rows = pl.read_csv(shared_data / "labelled" / "cryptonews_labelled_appliedai.csv.gz")
    labels = rows["sentiment"].replace_strict({"positive": 0, "negative": 1, "neutral": 2}).to_numpy()
    verdicts = scorer.score(rows["title"].to_list()).argmax(axis=1)
    right = [((verdicts == at) & (labels == at)).sum() for at in range(3)]
    f1 = [2 * right[at] / ((verdicts == at).sum() + (labels == at).sum()) for at in range(3)]
    assert np.mean(f1) == pytest.approx(_macro_f1("crypto-news titles", NAME), abs=2e-3)


def test_it_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in folder().iterdir() if path.name in FILES}
    assert sizes.keys() == FILES
    assert sum(sizes.values()) <= MOST_BYTES
