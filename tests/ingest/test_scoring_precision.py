"""Precisions: whole numbers with a scale per token say what float32 says, alone and in a crowd; others are refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from backsight_features.errors import BadInput
from backsight_ingest.scoring import precision
from backsight_ingest.scoring.classifier import OnnxClassifier
from backsight_ingest.scoring.precision import check_neighbours, check_parity, in_precision, revised
from backsight_ingest.scoring.probes import probes
from backsight_ingest.scoring.quantise import quantise, rounded
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, WIDER, LAYERS = 64, 4, 256, 1
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Bert:
    """A BERT with random weights as an ONNX graph, as an exporter writes it.

    Parameters
    ----------
    words : int
        Size of the vocabulary.
    """

    def __init__(self, words: int) -> None:
        self.rng = np.random.default_rng(5)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        mask = self.do("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self.do("Unsqueeze", mask, self.constant(np.array([1, 2])))
        self.mask = self.do("Mul", self.do("Sub", mask, self.number(1)), self.number(1e4))
        state = self.norm(self.do("Gather", self.weights(words, WIDTH, scale=1.0), "input_ids"))
        for _ in range(LAYERS):
            state = self.norm(self.do("Add", self.attention(state), state))
            inner = self.linear(state, WIDTH, WIDER)
            bent = self.do("Add", self.do("Erf", self.do("Div", inner, self.number(2**0.5))), self.number(1))
            gelu = self.do("Mul", self.do("Mul", inner, bent), self.number(0.5))
            state = self.norm(self.do("Add", self.linear(gelu, WIDER, WIDTH), state))
        self.pooled = self.do("Gather", state, self.constant(np.array(0)), axis=1)

    def save(self, path: Path, head: np.ndarray, bias: np.ndarray) -> None:
        self.nodes.append(helper.make_node("Gemm", [self.pooled, self.constant(head), self.constant(bias)], ["logits"]))
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "t"]) for n in ("input_ids", "attention_mask")
        ]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", head.shape[1]])]
        graph = helper.make_graph(self.nodes, "bert", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        self.nodes.pop()

    def do(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def weights(self, rows: int, columns: int, scale: float | None = None) -> str:
        drawn = self.rng.normal(scale=scale or rows**-0.5, size=(rows, columns))
        return self.constant(drawn.astype(np.float32))

    def linear(self, source: str, rows: int, columns: int) -> str:
        bias = self.constant(self.rng.normal(scale=0.1, size=columns).astype(np.float32))
        return self.do("Add", self.do("MatMul", source, self.weights(rows, columns)), bias)

    def norm(self, source: str) -> str:
        ones, zeros = self.constant(np.ones(WIDTH, np.float32)), self.constant(np.zeros(WIDTH, np.float32))
        return self.do("LayerNormalization", source, ones, zeros, axis=-1)

    def attention(self, state: str) -> str:
        split, joined = (self.constant(np.array(s)) for s in ([0, 0, HEADS, WIDTH // HEADS], [0, 0, WIDTH]))
        query, key, value = (self.do("Reshape", self.linear(state, WIDTH, WIDTH), split) for _ in range(3))
        query, value = (self.do("Transpose", each, perm=[0, 2, 1, 3]) for each in (query, value))
        match = self.do("MatMul", query, self.do("Transpose", key, perm=[0, 2, 3, 1]))
        match = self.do("Div", match, self.number((WIDTH // HEADS) ** 0.5))
        heed = self.do("Softmax", self.do("Add", match, self.mask))
        mixed = self.do("Transpose", self.do("MatMul", heed, value), perm=[0, 2, 1, 3])
        return self.linear(self.do("Reshape", mixed, joined), WIDTH, WIDTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tokenizer and a model whose verdicts on the probe sentences vary."""
    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for probe in probes() for word in re.findall(r"\w+|[^\w\s]", probe.lower())})
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512})
    )
    bert = Bert(len(SPECIAL) + len(words))
    bert.save(folder / "states.onnx", np.eye(WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32))
    states = _states(folder)
    # A head that reads where sentences differ most, as a trained one does.
    _, spread, axes = np.linalg.svd(states - states.mean(axis=0), full_matrices=False)
    head = (axes[:3] / spread[:3, None]).T * 4 * len(states) ** 0.5
    bert.save(folder / "model.onnx", head.astype(np.float32), (-states.mean(axis=0) @ head).astype(np.float32))
    return folder


def _states(folder: Path) -> np.ndarray:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    session = onnxruntime.InferenceSession(str(folder / "states.onnx"), providers=["CPUExecutionProvider"])
    encoded = (tokenizer([probe], return_tensors="np") for probe in probes())
    return np.concatenate(
        [
            session.run(None, {name: each[name].astype(np.int64) for name in ("input_ids", "attention_mask")})[0]
            for each in encoded
        ]
    )


@pytest.fixture
def opened(folder: Path) -> Callable[[Path], OnnxClassifier]:
    def opened(model: Path) -> OnnxClassifier:
        return OnnxClassifier(name="bert", revision="r", model=model, tokenizer=folder, outputs=(0, 1, 2))

    return opened


def test_int8_passes_the_gate_and_is_kept(folder: Path, tmp_path: Path, opened) -> None:
    target = tmp_path / "cache" / "int8.onnx"
    assert in_precision(folder / "model.onnx", "int8", opened=opened, target=target) == target
    made = target.stat().st_mtime_ns
    assert in_precision(folder / "model.onnx", "int8", opened=opened, target=target) == target
    assert target.stat().st_mtime_ns == made
    assert {path.name for path in target.parent.iterdir()} == {"int8.onnx", "int8.SHA256SUMS"}
    exact, fast = opened(folder / "model.onnx").score(probes()), opened(target).score(probes())
    assert np.abs(fast - exact).max() > 0
    assert np.bincount(exact.argmax(axis=1), minlength=3).min() > 40, "a model that says the same of all tests nothing"


def test_int8_says_the_same_alone_and_in_any_batch(folder: Path, tmp_path: Path, opened) -> None:
    quantise(folder / "model.onnx", tmp_path / "int8.onnx")
    fast = opened(tmp_path / "int8.onnx")
    assert check_neighbours(fast) == 0.0
    sentences = probes()[:40]
    np.testing.assert_array_equal(fast.score(sentences)[::-1], fast.score(sentences[::-1]))


def test_fp32_is_the_file_itself(folder: Path, tmp_path: Path, opened) -> None:
    model = folder / "model.onnx"
    assert in_precision(model, "fp32", opened=opened, target=tmp_path / "never") == model
    assert not (tmp_path / "never").exists()


def test_another_precision_is_another_scorer() -> None:
    assert revised("abc", "fp32") == "abc"
    assert revised("abc", "int8") == "abc+int8.1"


def test_an_unknown_precision_is_refused_with_those_there_are(folder: Path, tmp_path: Path, opened) -> None:
    for call in (
        lambda: revised("abc", "bf16"),
        lambda: in_precision(folder / "model.onnx", "bf16", opened=opened, target=tmp_path / "x"),
    ):
        with pytest.raises(BadInput, match=r"no precision bf16; there are fp32 and int8\. .* depend on the batch"):
            call()


def test_dynamic_int8_is_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(folder / "model.onnx", tmp_path / "dynamic.onnx", op_types_to_quantize=["MatMul"])
    with pytest.raises(BadInput, match="in its batch, as dynamic int8"):
        OnnxClassifier(name="d", revision="r", model=tmp_path / "dynamic.onnx", tokenizer=folder, outputs=(0, 1, 2))


class Crowd:
    """Scores by what else is in the batch."""

    name, revision = "crowd", "r"

    def score(self, sentences) -> np.ndarray:
        return np.tile([0.5, 0.5 - 1e-5 * len(sentences), 1e-5 * len(sentences)], (len(sentences), 1))


def test_scores_that_depend_on_neighbours_are_refused() -> None:
    with pytest.raises(BadInput, match=r"crowd@r: a probability changes by 0\.004 .* scale is found for a whole batch"):
        check_neighbours(Crowd())


class Leaning:
    """Says the same of all sentences, and the opposite of a share of them."""

    name, revision = "leaning", "r"

    def __init__(self, *, flips: int = 0, lean: float = 0.0) -> None:
        self.flips, self.lean = flips, lean

    def score(self, sentences) -> np.ndarray:
        found = np.tile([0.6 + self.lean, 0.3 - self.lean, 0.1], (len(sentences), 1))
        found[: self.flips] = [0.44, 0.1, 0.46]
        return found


def test_the_gate_measures_flips_and_deviation() -> None:
    parity = check_parity(Leaning(flips=4), Leaning())
    assert parity.flips == 4 / 400
    assert parity.deviation == pytest.approx(4 / 400 * 0.04)
    assert check_parity(Leaning(lean=0.009), Leaning()).deviation == pytest.approx(0.018)


@pytest.mark.parametrize(
    ("fast", "said"),
    [
        (Leaning(flips=5), r"400 probe sentences 1\.2% get another label \(at most 1%\)"),
        (Leaning(lean=0.011), r"0\.0% get another .* differs by 0\.022 \(at most 0\.02\)"),
        (Leaning(lean=float("nan")), r"differs by nan"),
    ],
)
def test_the_gate_refuses_and_says_by_how_much(fast: Leaning, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        check_parity(fast, Leaning())


def test_a_model_that_int8_damages_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path, opened) -> None:
    loaded = onnx.load(str(folder / "model.onnx"))
    products = {node.input[1] for node in loaded.graph.node if node.op_type == "MatMul"}
    for constant in loaded.graph.initializer:
        if constant.name in products:
            weights = numpy_helper.to_array(constant).copy()
            weights[0] *= 1000.0  # one input drowns the others: no step is fine enough for them
            constant.CopyFrom(numpy_helper.from_array(weights, constant.name))
    onnx.save(loaded, str(tmp_path / "harsh.onnx"))
    with pytest.raises(BadInput, match=r"too far from float32: of 400 probe sentences .* use the precision fp32"):
        in_precision(tmp_path / "harsh.onnx", "int8", opened=opened, target=tmp_path / "cache" / "int8.onnx")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("opset", [17, 18])
def test_a_product_is_what_whole_numbers_say(tmp_path: Path, opset: int) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(32, 24)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "t", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "t", 24])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, str(tmp_path / "product.onnx"))
    quantise(tmp_path / "product.onnx", tmp_path / "int8.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "int8.onnx"), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(3, 5, 32)).astype(np.float32) * np.float32([[[1.0]], [[100.0]], [[0.0]]])
    whole, scales = rounded(weights)
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    expected = np.rint(x / step).astype(np.int64) @ whole.astype(np.int64) * scales * step
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5)


def test_no_sum_of_two_products_overflows_on_any_processor(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for weights in (rng.normal(size=(64, 500)), np.ones((6, 2)), np.full((3, 2), -7.0), np.eye(4)):
        whole, _ = rounded(weights.astype(np.float32))
        pairs = whole[: len(whole) // 2 * 2].astype(int).reshape(-1, 2, whole.shape[1]).sum(axis=1)
        assert np.abs(pairs).max() <= 128
        assert np.abs(whole.astype(int)).max() <= 127


def test_a_model_without_float32_products_is_refused(tmp_path: Path, tiny_model) -> None:
    tiny_model.write_onnx(tmp_path / "tiny.onnx")
    with pytest.raises(BadInput, match="no product with constant float32 weights"):
        quantise(tmp_path / "tiny.onnx", tmp_path / "int8.onnx")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_text("no graph")
    with pytest.raises(BadInput, match=r"broken\.onnx is no ONNX model"):
        quantise(tmp_path / "broken.onnx", tmp_path / "int8.onnx")


def test_the_probes_are_many_and_of_all_lengths() -> None:
    words = np.array([len(probe.split()) for probe in probes()])
    assert len(set(probes())) == len(probes()) >= 300
    assert words.min() <= 4
    assert words.max() >= 40
    assert {"fp32", "int8"} == set(precision.PRECISIONS)
