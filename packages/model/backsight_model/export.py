"""A training set as files, for those who bring their own model.

::

    folder/  manifest.json  rows.npy  index.npy  symbol.npy  at.npy  label_at.npy  log_rv.npy  log_return.npy
             (windows.npy)
    folder/  manifest.json  rows.parquet  samples.parquet

Labels of further horizons are beside the main ones, with the number of bars in their name: ``log_rv_168``.
A window is a list of row numbers, so that what is written grows with the rows and not with rows times slots.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from backsight_features.errors import BadInput

from backsight_model.arrays import Float32Array, FloatArray, TimeArray
from backsight_model.manifest import Manifest
from backsight_model.training import TrainingSet

Format = Literal["numpy", "parquet"]
DOCUMENT = "manifest.json"
_AT_ONCE = 4_000_000
"""Numbers that are held at a time, whatever the length of a window."""
_CLOCK = pa.timestamp("us", tz="UTC")


def write(data: TrainingSet, manifest: Manifest, folder: Path, *, form: Format, gathered: bool = False) -> None:
    """Write a training set and its manifest into a new folder: all of it or nothing.

    Parameters
    ----------
    data : TrainingSet
        n samples over N rows.
    manifest : Manifest
        Of `data`.
    folder : Path
        Absent or empty.
    form : str
        ``numpy``: arrays as in `TrainingSet`, to be read with ``numpy.load``; the last of the (N + 1, F) rows is all
        NaN and stands for a gap. ``parquet``: a row per sample with its labels, the features of its newest slot and its
        window as a list of row numbers, and a row per row; undefined values and gaps are null.
    gathered : bool
        Whether to write the (n, L, F) windows too, as ``windows.npy``: L times the size.

    Raises
    ------
    BadInput
        If something is in `folder`, or windows are to be gathered for Parquet.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty; name a new folder")
    if gathered and form != "numpy":
        raise BadInput("gathered windows are written as NumPy; leave --gathered out, or use --format numpy")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        if form == "numpy":
            _write_numpy(data, fresh, gathered)
        else:
            _write_parquet(data, fresh)
        document = {
            "manifest": manifest.to_json(),
            "format": form,
            "features": list(data.windows.features),
            "timeframe_seconds": data.windows.timeframe.total_seconds(),
            "left_out": data.left_out,
            "files": {path.name: _digest(path) for path in sorted(fresh.iterdir())},
        }
        (fresh / DOCUMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")
        fresh.replace(folder)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in ``manifest.json`` of an export, or in ``bundle.json``.

    Raises
    ------
    BadInput
        If there is none.
    """
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8"))["manifest"])
        if not isinstance(manifest.series, list):
            raise TypeError(f"series is {manifest.series!r}, of an earlier version, and no list")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} holds no manifest of a training set ({error}); name the {DOCUMENT} of `backsight dataset`, "
            "or the bundle.json of a bundle"
        ) from error


def _write_numpy(data: TrainingSet, folder: Path, gathered: bool) -> None:
    windows = data.windows
    arrays = {
        "rows": windows.rows,
        "index": windows.index,
        "symbol": windows.symbol.astype(np.str_),
        "at": data.at,
        "label_at": data.label_at,
    } | _labels(data)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    if gathered:
        shape = (*windows.index.shape, len(windows.features))
        header = {"descr": windows.rows.dtype.str, "fortran_order": False, "shape": shape}
        with (folder / "windows.npy").open("wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            for part in _parts(len(data), shape[1] * shape[2]):
                file.write(windows.gather(part).tobytes())


def _labels(data: TrainingSet) -> dict[str, FloatArray]:
    """Return the labels of all horizons by name."""
    further = {
        f"{name}_{bars}": values
        for bars, came in data.further.items()
        for name, values in (("log_rv", came.log_rv), ("log_return", came.log_return))
    }
    return {"log_rv": data.log_rv, "log_return": data.log_return, **further}


def _write_parquet(data: TrainingSet, folder: Path) -> None:
    windows, gap = data.windows, len(data.windows.row_available_at)
    length = windows.index.shape[1]

    def rows() -> Iterator[dict[str, Any]]:
        for part in _parts(gap, len(windows.features)):
            yield {
                "row": np.arange(part.start, part.stop, dtype=np.int32),
                "available_at": _instants(windows.row_available_at[part]),
                **_columns(windows.rows[:-1][part], windows.features),
            }

    def samples() -> Iterator[dict[str, Any]]:
        for part in _parts(len(data), length + len(windows.features)):
            slots = windows.index[part]
            numbers = pa.array(slots.ravel(), mask=slots.ravel() == gap)
            yield {
                "symbol": pa.array(windows.symbol[part], pa.string()),
                "at": _instants(data.at[part]),
                "observed_at": _instants(windows.observed_at[part]),
                "label_at": _instants(data.label_at[part]),
                **{name: values[part] for name, values in _labels(data).items()},
                "window": pa.FixedSizeListArray.from_arrays(numbers, length),
                **_columns(windows.rows[slots[:, -1]], windows.features),
            }

    _write_parts(folder / "rows.parquet", rows())
    _write_parts(folder / "samples.parquet", samples())


def _write_parts(path: Path, parts: Iterator[dict[str, Any]]) -> None:
    first = pa.table(next(parts))
    with pq.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        for part in parts:
            writer.write_table(pa.table(part))


def _columns(rows: Float32Array, features: tuple[str, ...]) -> dict[str, pa.Array]:
    return {name: pa.array(rows[:, column], from_pandas=True) for column, name in enumerate(features)}


def _instants(instants: TimeArray) -> pa.Array:
    return pa.array(instants.astype(np.int64)).cast(_CLOCK)


def _parts(count: int, width: int) -> Iterator[slice]:
    """Yield slices over `count` things of `width` numbers each."""
    step = max(1, _AT_ONCE // width)
    for begin in range(0, count, step):
        yield slice(begin, min(begin + step, count))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
