"""What was last seen of forecasts and jobs, as JSON files that other processes read: each is replaced as a whole."""

import json
import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import BadInput, SourceError
from filelock import FileLock

WATCHED: Final = "watched.json"
"""What `backsight watch` saw of the forecasts."""

STATUS: Final = "status.json"
"""What `backsight status` said of the jobs at the end of a round."""

MENDED: Final = ("worse", "biased", "switched", "drifting")
"""Rules of alerts about a model that may be well again once it was trained again."""


def keep(path: Path, document: Any) -> None:
    """Write a document such that readers see the one before or this one, never a part.

    Raises
    ------
    SourceError
        If it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(document), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def others(path: Path, symbols: Collection[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield what was last seen of other symbols; meanwhile nobody else writes what was seen.

    What cannot be read is nothing: it is written anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        try:
            held = _symbols(path)
        except BadInput:
            held = []
        yield [one for one in held if one["symbol"] not in symbols]


def to_mend(folder: Path, bundle: str) -> tuple[str, ...]:
    """Return what `watch` last said against a bundle that training again may mend.

    Parameters
    ----------
    folder : Path
        `Workspace.live`.
    bundle : str

    Raises
    ------
    BadInput
        If what `watch` left there is damaged.
    """
    return tuple(
        alert["said"]
        for one in _symbols(folder / WATCHED)
        if one["bundle"] == bundle
        for alert in one["alerts"]
        if alert["rule"] in MENDED
    )


def _symbols(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        held: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["symbols"]
        if all({"symbol", "bundle", "at", "alerts"} <= set(one) for one in held):
            return held
        why = "parts are missing"
    except (ValueError, KeyError, TypeError) as error:
        why = str(error)
    raise BadInput(f"{path} is not what `backsight watch` writes ({why}); it writes it anew")
