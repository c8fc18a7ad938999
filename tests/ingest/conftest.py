"""What the tests of ingestion share: a classifier of three words, as the files of a real one."""

import json
from pathlib import Path

import numpy as np
import pytest

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "up", "down", "flat", ".")
LABELS = ("neutral", "positive", "negative")
"""Not in the order of the scores, as in real models."""

LOGIT = 4.0


class TinyModel:
    """Writes config, tokenizer and an ONNX graph, and knows what they have to say."""

    def write_tokenizer(self, folder: Path) -> None:
        """Write a BERT tokenizer."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
        )

    def write_config(self, folder: Path, labels: tuple[str, ...] = LABELS) -> None:
        """Write a BERT configuration with these labels."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "architectures": ["BertForSequenceClassification"],
            "model_type": "bert",
            "vocab_size": len(WORDS),
            "hidden_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 512,
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
        (folder / "config.json").write_text(json.dumps(config))

    def write_onnx(self, path: Path, *, neighbourly: bool = False) -> None:
        """Write a graph whose logits add up what its words say: up, down and flat, 4 each.

        With ``neighbourly`` it takes away the mean over the batch, as a model does whose scale is found per batch.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        table = np.zeros((len(WORDS), 3), dtype=np.float32)
        table[WORDS.index("flat"), 0] = table[WORDS.index("up"), 1] = table[WORDS.index("down"), 2] = LOGIT
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["each"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
            helper.make_node("Mul", ["each", "wide"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "tokens"], ["sums" if neighbourly else "logits"], keepdims=0),
        ]
        if neighbourly:
            nodes += [
                helper.make_node("ReduceMean", ["sums"], ["mean"], axes=[0], keepdims=1),
                helper.make_node("Sub", ["sums", "mean"], ["logits"]),
            ]
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens_"])
            for name in ("input_ids", "attention_mask")
        ]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 3])]
        constants = [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "tokens"),
        ]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))

    def write(self, folder: Path, *, labels: tuple[str, ...] = LABELS, where: str = "model.onnx") -> Path:
        """Write the whole model and return its folder."""
        self.write_tokenizer(folder)
        self.write_config(folder, labels)
        self.write_onnx(folder / where)
        return folder

    def expected(self, up: int, down: int, flat: int) -> list[float]:
        """Return the probabilities of one sentence with so many of each word: positive, negative, neutral."""
        powers = np.exp(LOGIT * np.array([up, down, flat]))
        return list(powers / powers.sum())


@pytest.fixture
def tiny_model() -> TinyModel:
    """Return the writer of a classifier that knows *up*, *down* and *flat*."""
    return TinyModel()
