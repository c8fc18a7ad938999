"""What was last seen of forecasts and jobs, as JSON files that other processes read: each is replaced as a whole."""

import json
import os
import uuid
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import SourceError

WATCHED: Final = "watched.json"
"""What `backsight watch` saw of the forecasts."""

STATUS: Final = "status.json"
"""What `backsight status` said of the jobs at the end of a round."""


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
