"""A bundle: all that a forecast needs, as files that can be read by eye and checked.

::

    models/forecast_1h-3f2a…/   bundle.json  model.keras  model.onnx  probe.npz
    models/current.json         which bundle forecasts which symbol
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from backsight_features.errors import BadInput, Missing

from backsight_model.arrays import Float32Array, FloatArray
from backsight_model.baselines import Har
from backsight_model.scaling import Scaler
from backsight_model.settings import Settings
from backsight_model.training import Manifest
from backsight_model.verdict import Verdict

if TYPE_CHECKING:
    from backsight_model.walk import Fitted

DOCUMENT = "bundle.json"
FILES = ("model.keras", "model.onnx", "probe.npz")
POINTER = "current.json"
FORMAT = 1
TOLERANCE = 1e-4
"""Largest difference of ONNX Runtime from Keras on the probe, in units of the network's outputs."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read and checked.

    Attributes
    ----------
    name : str
        Of its folder.
    service, symbol, scorer : str
    features : tuple of str
        The features, in order, that a window must have.
    length, horizon : int
        Slots per window and bars ahead.
    timeframe : timedelta
        Length of one bar.
    scaler, harx, residual_scale
        See `walk.Fitted`.
    proven : dict of str to bool
        Whether skill was proven, by target.
    verdict : tuple of str
        The sentences of the proof.
    session : onnxruntime.InferenceSession
        From scaled windows (n, L, C) to (n, 2).
    """

    name: str
    service: str
    symbol: str
    scorer: str
    features: tuple[str, ...]
    length: int
    horizon: int
    timeframe: timedelta
    scaler: Scaler
    harx: Har
    residual_scale: float
    proven: dict[str, bool]
    verdict: tuple[str, ...]
    session: onnxruntime.InferenceSession

    def run(self, windows: Float32Array) -> FloatArray:
        """Return the network's outputs, shape (n, 2), for scaled windows (n, L, C)."""
        return _run(self.session, windows)


def write(
    models: Path, fitted: "Fitted", *, manifest: Manifest, settings: Settings, timeframe: timedelta, verdict: Verdict
) -> Path:
    """Write a bundle and return its folder: all of it or nothing, in the place of one of the same name.

    The name says what it was learnt from and how: same data, settings and seed, same name.
    """
    fitting = {"manifest": manifest.to_json(), "settings": asdict(settings)}
    name = f"{manifest.service}-{_digest(_canonical(fitting))[:12]}"
    document = {
        "format": FORMAT,
        "name": name,
        "symbol": manifest.series.split(":")[1],
        "timeframe_seconds": timeframe // timedelta(seconds=1),
        "features": list(fitted.scaler.features),
        "features_sha256": features_digest(fitted.scaler.features),
        "scaler": fitted.scaler.to_json(),
        "harx": fitted.harx.to_json(),
        "residual_scale": fitted.residual_scale,
        "epochs": list(fitted.network.epochs),
        "fitted_on": "all samples (the LSTM on all but the last), after the walk-forward proof of earlier fits",
        "proven": verdict.proven,
        "verdict": list(verdict.sentences),
        **fitting,
    }
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".new-") as scratch:
        folder = Path(scratch) / name
        folder.mkdir()
        fitted.network.save(folder)
        probe = np.random.default_rng(0).standard_normal((2, manifest.length, fitted.scaler.width)).astype(np.float32)
        rows, index = probe.reshape(-1, fitted.scaler.width), np.arange(2 * manifest.length, dtype=np.int32)
        outputs = fitted.network.predict(rows, index.reshape(2, -1))
        np.savez(folder / "probe.npz", windows=probe, outputs=outputs)
        document["files"] = {file: _digest((folder / file).read_bytes()) for file in FILES}
        document["sha256"] = _digest(_canonical(document))
        (folder / DOCUMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")
        read(folder)
        target = models / name
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return target


def read(folder: Path) -> Bundle:
    """Return the bundle in a folder, checked; imports neither TensorFlow nor Feast.

    Raises
    ------
    BadInput
        Where a file is absent or is not the one that was written, or where ONNX Runtime does not give what
        Keras gave on the probe.
    """
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        seal = document.pop("sha256")
        contents = {file: (folder / file).read_bytes() for file in FILES}
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"bundle {folder.name}: {error}; train again") from error
    if seal != _digest(_canonical(document)):
        raise BadInput(f"bundle {folder.name}: {DOCUMENT} was changed after it was written; train again")
    if document["format"] != FORMAT:
        raise BadInput(f"bundle {folder.name}: format {document['format']}, this version reads {FORMAT}; train again")
    for file, content in contents.items():
        if _digest(content) != document["files"][file]:
            raise BadInput(f"bundle {folder.name}: {file} was changed after it was written; train again")
    session = onnxruntime.InferenceSession(contents["model.onnx"], providers=["CPUExecutionProvider"])
    with np.load(folder / "probe.npz", allow_pickle=False) as probe:
        difference = float(np.abs(_run(session, probe["windows"]) - probe["outputs"]).max())
    if not difference <= TOLERANCE:
        raise BadInput(
            f"bundle {folder.name}: ONNX Runtime differs from Keras by {difference:.1e} on the probe, "
            f"at most {TOLERANCE:.0e} is allowed; train again with the versions installed here"
        )
    manifest = document["manifest"]
    return Bundle(
        name=document["name"],
        service=manifest["service"],
        symbol=document["symbol"],
        scorer=manifest["scorer"],
        features=tuple(document["features"]),
        length=manifest["length"],
        horizon=manifest["horizon"],
        timeframe=timedelta(seconds=document["timeframe_seconds"]),
        scaler=Scaler.from_json(document["scaler"]),
        harx=Har.from_json(document["harx"]),
        residual_scale=document["residual_scale"],
        proven=document["proven"],
        verdict=tuple(document["verdict"]),
        session=session,
    )


def promote(models: Path, folder: Path, *, symbol: str, skill: bool) -> bool:
    """Make a bundle the one that forecasts a symbol, and return whether it is now.

    One without skill never takes the place of one with skill; where there is none yet it is used, and
    its forecasts say that nothing is proven.
    """
    pointers = _pointers(models)
    held = pointers.get(symbol)
    if not skill and held is not None and held["skill"] and (models / held["bundle"]).is_dir():
        return bool(held["bundle"] == folder.name)
    pointers[symbol] = {"bundle": folder.name, "skill": skill}
    fresh = models / f".{POINTER}.new"
    fresh.write_text(json.dumps(pointers, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(fresh, models / POINTER)
    return True


def current(models: Path, symbol: str) -> Bundle:
    """Return the bundle that forecasts a symbol.

    Raises
    ------
    Missing
        Where none was trained.
    """
    pointers = _pointers(models)
    if symbol not in pointers:
        there = f"there are models for {', '.join(sorted(pointers))}" if pointers else "no model was trained yet"
        raise Missing(f"no model forecasts {symbol}: {there}; run `backsight train`")
    return read(models / pointers[symbol]["bundle"])


def features_digest(features: tuple[str, ...]) -> str:
    """Return the digest of an ordered list of features."""
    return _digest("\n".join(features).encode())


def _pointers(models: Path) -> dict[str, Any]:
    path = models / POINTER
    if not path.exists():
        return {}
    try:
        pointers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); remove it and train again") from error
    return pointers


def _run(session: onnxruntime.InferenceSession, windows: Float32Array) -> FloatArray:
    outputs = session.run(None, {session.get_inputs()[0].name: windows})[0]
    return np.asarray(outputs, dtype=np.float64)


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
