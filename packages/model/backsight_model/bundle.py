"""A bundle: all that a forecast needs, as files that can be read by eye and checked.

::

    models/forecast_1h-3f2a…/   bundle.json  model.keras  model.onnx  probe.npz
    models/current.json         which bundle forecasts which symbol

What forecasts a symbol was promoted: because it has proven skill, or by somebody who said why it is used without.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import onnxruntime
from backsight_features.errors import BadInput, Missing

from backsight_model.arrays import Float32Array, FloatArray
from backsight_model.baselines import Har
from backsight_model.drift import Reference
from backsight_model.lineage import Proof, Refit
from backsight_model.manifest import Manifest
from backsight_model.quantiles import LEVELS
from backsight_model.scaling import Scaler
from backsight_model.settings import Settings

if TYPE_CHECKING:
    from backsight_model.walk import Fitted

DOCUMENT = "bundle.json"
FILES = ("model.keras", "model.onnx", "probe.npz")
POINTER = "current.json"
FORMAT = 6
TOLERANCE = 1e-4
"""Largest difference of ONNX Runtime from Keras on the probe, in units of the network's outputs."""


@dataclass(frozen=True, kw_only=True)
class Override:
    """Why a bundle is used although it has no proven skill.

    Attributes
    ----------
    reason : str
        In the words of who promoted it, on one line.
    at : str
        ISO instant of the promotion.
    """

    reason: str
    at: str


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What turns the network's outputs of one horizon into a forecast.

    Attributes
    ----------
    horizon : int
        Bars ahead.
    harx, residual_scale
        See `walk.Straight`.
    """

    horizon: int
    harx: Har
    residual_scale: float


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read and checked.

    Attributes
    ----------
    name : str
        Of its folder.
    service, scorer : str
    symbols : tuple of str
        What it learnt from and forecasts.
    features : tuple of str
        The features, in order, that a window must have.
    length, horizon : int
        Slots per window, and bars ahead of the main label.
    timeframe : timedelta
        Length of one bar.
    scaler, harx, residual_scale
        See `walk.Fitted`.
    levels : tuple of float
        Of the Q quantiles of the return.
    further : tuple of Reach
        The further horizons.
    inputs : dict of str to Reference
        See `walk.Fitted`.
    proven : dict of str to bool
        Whether skill was proven, by target and further horizon.
    word : str
        Of the verdict: ``tradable``, ``skill`` or ``no skill``.
    override : Override or None
        Why it is used all the same, where it has no skill and is.
    verdict : tuple of str
        The sentences of the proof.
    manifest : Manifest
        Of what it learnt from.
    settings : Settings
    window : timedelta or None
        How far back its fit reached; None for all the way.
    refit : Refit or None
        How it came from another bundle, if it did.
    session : onnxruntime.InferenceSession
        From scaled windows (n, L, C) to (n, K (2 + Q)).
    """

    name: str
    service: str
    symbols: tuple[str, ...]
    scorer: str
    features: tuple[str, ...]
    length: int
    horizon: int
    timeframe: timedelta
    scaler: Scaler
    harx: Har
    residual_scale: float
    levels: tuple[float, ...]
    further: tuple[Reach, ...]
    inputs: dict[str, Reference]
    proven: dict[str, bool]
    word: str
    override: Override | None
    verdict: tuple[str, ...]
    manifest: Manifest
    settings: Settings
    window: timedelta | None
    refit: Refit | None
    session: onnxruntime.InferenceSession

    @property
    def views(self) -> tuple[Reach, ...]:
        """All horizons, the main one first, in the order of the network's outputs."""
        main = Reach(horizon=self.horizon, harx=self.harx, residual_scale=self.residual_scale)
        return (main, *self.further)

    def run(self, windows: Float32Array) -> FloatArray:
        """Return the network's outputs, shape (n, K (2 + Q)), for scaled windows (n, L, C)."""
        return _run(self.session, windows)


def write(
    models: Path,
    fitted: "Fitted",
    *,
    manifest: Manifest,
    settings: Settings,
    timeframe: timedelta,
    verdict: Proof,
    window: timedelta | None = None,
    refit: Refit | None = None,
) -> Path:
    """Write a bundle and return its folder: all of it or nothing, in the place of one of the same name.

    The name says what it was learnt from and how: same data, settings and seed, same name. An override of the one
    that it takes the place of holds for it too.
    """
    fitting = {
        "manifest": manifest.to_json(),
        "settings": asdict(settings),
        "window_seconds": None if window is None else window // timedelta(seconds=1),
    }
    lineage = {} if refit is None else {"champion": refit.champion, "warm": refit.warm}
    name = f"{manifest.service}-{_digest(_canonical(fitting | lineage))[:12]}"
    document = {
        "format": FORMAT,
        "name": name,
        "symbols": list(manifest.symbols),
        "timeframe_seconds": timeframe // timedelta(seconds=1),
        "features": list(fitted.scaler.features),
        "scaler": fitted.scaler.to_json(),
        "harx": fitted.harx.to_json(),
        "residual_scale": fitted.residual_scale,
        "levels": list(LEVELS),
        "further": [
            {"horizon": bars, "harx": lines.harx.to_json(), "residual_scale": lines.residual_scale}
            for bars, lines in zip(manifest.further, fitted.further, strict=True)
        ],
        "inputs": {symbol: reference.to_json() for symbol, reference in fitted.inputs.items()},
        "epochs": list(fitted.network.epochs),
        "fitted_on": "all samples (the LSTM on all but the last), after the walk-forward proof of earlier fits"
        if refit is None
        else refit.words,
        "refit": None if refit is None else asdict(refit),
        "proven": verdict.proven,
        "word": verdict.word,
        "override": None if verdict.skill else _override(models / name),
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
        _seal(folder, document)
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
    document = _document(folder)
    try:
        contents = {file: (folder / file).read_bytes() for file in FILES}
    except OSError as error:
        raise BadInput(f"bundle {folder.name}: {error}; train again") from error
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
    manifest = Manifest(**document["manifest"])
    window, refit = document["window_seconds"], document["refit"]
    return Bundle(
        name=document["name"],
        service=manifest.service,
        symbols=tuple(document["symbols"]),
        scorer=manifest.scorer,
        features=tuple(document["features"]),
        length=manifest.length,
        horizon=manifest.horizon,
        timeframe=timedelta(seconds=document["timeframe_seconds"]),
        scaler=Scaler.from_json(document["scaler"]),
        harx=Har.from_json(document["harx"]),
        residual_scale=document["residual_scale"],
        levels=tuple(document["levels"]),
        further=tuple(
            Reach(
                horizon=state["horizon"],
                harx=Har.from_json(state["harx"]),
                residual_scale=state["residual_scale"],
            )
            for state in document["further"]
        ),
        inputs={symbol: Reference.from_json(state) for symbol, state in document["inputs"].items()},
        proven=document["proven"],
        word=document["word"],
        override=None if document["override"] is None else Override(**document["override"]),
        verdict=tuple(document["verdict"]),
        manifest=manifest,
        settings=Settings.from_json(document["settings"]),
        window=None if window is None else timedelta(seconds=window),
        refit=None if refit is None else Refit(**refit),
        session=session,
    )


def promote(models: Path, folder: Path, *, override: Override | None = None) -> Bundle:
    """Make a bundle the one that forecasts its symbols, all or none, and return it.

    Parameters
    ----------
    models : Path
        The folder of bundles.
    folder : Path
        One of them.
    override : Override, optional
        Why to use it without skill; it is written into the bundle. Not needed, and not written, where it has skill.

    Raises
    ------
    BadInput
        Where the bundle is not one of `models`, cannot be read, or has no proven skill and there is no override.
    """
    if not (models / folder.name).is_dir() or (models / folder.name).resolve() != folder.resolve():
        raise BadInput(f"there is no bundle {folder.name} in {models}; `backsight train` says the name of what it made")
    bundle = read(folder)
    skill = any(bundle.proven.values())
    if not skill:
        if override is None:
            raise BadInput(
                f"bundle {bundle.name} has no proven skill; train again, or give a reason with --override, which every "
                "forecast of it will repeat"
            )
        _seal(folder, _document(folder) | {"override": asdict(override)})
        bundle = replace(bundle, override=override)
    with filelock.FileLock(models / f".{POINTER}.lock"):  # else a promotion of another symbol at the same time is lost
        pointer = {"bundle": folder.name, "skill": skill}
        in_use = pointers(models) | dict.fromkeys(bundle.symbols, pointer)
        _replace(models / POINTER, json.dumps(in_use, indent=1, sort_keys=True))
    return bundle


def current(models: Path, symbol: str) -> Bundle:
    """Return the bundle that forecasts a symbol.

    Raises
    ------
    Missing
        Where none was promoted.
    """
    in_use = pointers(models)
    if symbol not in in_use:
        there = f"there are models for {', '.join(sorted(in_use))}" if in_use else "no model is in use yet"
        raise Missing(
            f"no model forecasts {symbol}: {there}; `backsight train` promotes a model with skill, "
            "`backsight promote --override` one without"
        )
    return read(models / in_use[symbol]["bundle"])


def refits(models: Path, champion: str) -> dict[str, Refit]:
    """Return the bundles that were made from another, by name; those that cannot be read cannot be used either."""
    found = {}
    for path in sorted(models.glob(f"*/{DOCUMENT}")):
        try:
            refit = _document(path.parent)["refit"]
        except BadInput:
            continue
        if refit is not None and refit["champion"] == champion:
            found[path.parent.name] = Refit(**refit)
    return found


def _document(folder: Path) -> dict[str, Any]:
    """Return a bundle's document without its seal, once that was found whole."""
    try:
        document: dict[str, Any] = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        seal = document.pop("sha256")
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"bundle {folder.name}: {error}; train again") from error
    if seal != _digest(_canonical(document)):
        raise BadInput(f"bundle {folder.name}: {DOCUMENT} was changed after it was written; train again")
    if document["format"] != FORMAT:
        raise BadInput(f"bundle {folder.name}: format {document['format']}, this version reads {FORMAT}; train again")
    return document


def _seal(folder: Path, document: dict[str, Any]) -> None:
    _replace(folder / DOCUMENT, json.dumps(document | {"sha256": _digest(_canonical(document))}, indent=1))


def _override(folder: Path) -> dict[str, str] | None:
    """Return the override of a bundle; none where there is no bundle, or one that nobody can use any more."""
    try:
        override: dict[str, str] | None = _document(folder)["override"]
    except BadInput:
        return None
    return override


def _replace(path: Path, text: str) -> None:
    """Write a file such that readers see the old text or the new, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)


def pointers(models: Path) -> dict[str, Any]:
    """Return which bundle forecasts each symbol, by its name under ``bundle``."""
    path = models / POINTER
    if not path.exists():
        return {}
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); remove it and train again") from error
    return held


def _run(session: onnxruntime.InferenceSession, windows: Float32Array) -> FloatArray:
    outputs = session.run(None, {session.get_inputs()[0].name: windows})[0]
    return np.asarray(outputs, dtype=np.float64)


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
