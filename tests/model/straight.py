"""A bundle whose network has no hidden units: quick to make, without TensorFlow, and served as any other."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from backsight_model import bundle, proof
from backsight_model.baselines import HAR_TERMS, fit_har
from backsight_model.drift import Reference
from backsight_model.linear import LOGIT, OUTPUTS, RESIDUAL
from backsight_model.manifest import Manifest, features_digest
from backsight_model.quantiles import GAUSSIAN
from backsight_model.scaling import fit_scaler
from backsight_model.settings import Settings
from backsight_model.training import TrainingSet
from backsight_model.verdict import Verdict

HOUR = timedelta(hours=1)
SERVICE = "forecast_1h"


class Straight:
    """A network without hidden units: quick to make, and run by ONNX Runtime as any other."""

    epochs = (0,)

    def __init__(self, length: int, width: int, seed: int) -> None:
        self.weights = np.zeros((length * width, 2 * OUTPUTS), dtype=np.float32)
        self.weights[:, [RESIDUAL, LOGIT]] = np.random.default_rng(seed).normal(scale=0.01, size=(length * width, 2))
        self.bias = np.tile([0, 0, *GAUSSIAN], 2).astype(np.float32)
        self.length, self.width = length, width

    def predict(self, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
        return rows[index].reshape(len(index), -1).astype(np.float64) @ self.weights + self.bias

    def save(self, folder: Path) -> None:
        (folder / "model.keras").write_bytes(b"none")
        shape, kind = ("n", self.length, self.width), onnx.TensorProto.FLOAT
        ends = [
            onnx.helper.make_tensor_value_info(*of) for of in (("x", kind, shape), ("y", kind, ("n", len(self.bias))))
        ]
        steps = [onnx.helper.make_node("Flatten", ["x"], ["f"]), onnx.helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
        learnt = [onnx.numpy_helper.from_array(self.weights, "w"), onnx.numpy_helper.from_array(self.bias, "b")]
        graph = onnx.helper.make_graph(steps, "straight", ends[:1], ends[1:], learnt)
        model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
        onnx.save(model, str(folder / "model.onnx"))


def write_bundle(models: Path, data: TrainingSet, symbol: str, *, skill: bool = True, seed: int = 1) -> Path:
    """Write a bundle with or without proven skill; another seed gives other weights."""
    features, rows = data.windows.features, data.windows.rows
    newest = rows[data.windows.index[:, -1]]
    scaler = fit_scaler(rows, features)
    harx = fit_har(scaler.transform(newest), data.log_rv, terms=HAR_TERMS, features=features)
    network = Straight(12, scaler.width, seed)
    manifest = Manifest(
        series=[f"bitstamp:{symbol}:1h"], service=SERVICE, features_sha256=features_digest(features), length=12,
        horizon=24, seed=seed, ingested_until="2024-01-01T00:00:00+00:00", first_at="2023-01-01T00:00:15+00:00",
        last_at="2023-12-31T00:00:15+00:00", lake_versions={"bars": 3}, feature_versions={"market_1h": 0},
        scorer="a@1", code="0", samples=len(data), sha256=data.sha256(), further=[72],
    )  # fmt: skip
    comparison = proof.Comparison(
        model="LSTM", reference="HAR", count=9, loss=1, reference_loss=2, gain=1, low=0, high=2,
        p_value=0.001 if skill else 0.6, detectable=1,
    )  # fmt: skip
    claims = proof.judge({"volatility": (comparison,), "direction": (replace(comparison, p_value=0.9),)})
    signs = proof.Directional(accuracy=0.5, statistic=0, p_value=1, detectable=0.1)
    verdict: Any = Verdict(claims=claims, comparisons={"volatility": (), "direction": ()}, directional=signs)
    further = (SimpleNamespace(harx=harx, residual_scale=0.5),)
    fitted: Any = SimpleNamespace(
        scaler=scaler,
        harx=harx,
        residual_scale=0.5,
        network=network,
        further=further,
        inputs={symbol: Reference.of(newest, features)},
    )
    return bundle.write(models, fitted, manifest=manifest, settings=Settings(), timeframe=HOUR, verdict=verdict)
