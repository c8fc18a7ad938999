"""What ``feature_store.yaml`` may say beyond Feast's own settings: ``${NAME:-default}``, as a shell reads it.

Feast replaces ``$NAME`` and ``${NAME}`` when it loads the file, and has no default for a variable that is not set. What
it leaves is resolved here, for the offline store, the online store and the registry that a feature repo names.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from backsight_features.errors import BadInput

_VARIABLE: Final = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>[^}]*))?\}|(?P<bare>\w+))")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced; unset without default, it stays.

    >>> expand("${HOME_OF_DATA:-../data}/online.db", {})
    '../data/online.db'
    >>> expand("${HOME_OF_DATA:-../data}/online.db", {"HOME_OF_DATA": "/srv/my data"})
    '/srv/my data/online.db'
    """
    return _VARIABLE.sub(lambda match: environment.get(_name(match)) or match["default"] or match[0], text)


def resolve(text: str, base: Path | None) -> str:
    """Return a path or URL with the variables of this process expanded, a relative path taken from `base`.

    Raises
    ------
    BadInput
        If a variable at the beginning holds a relative path: ``feast -c`` changes the working folder, so that it
        would mean another folder to every command.
    """
    first = _VARIABLE.match(text)
    home = os.environ.get(_name(first)) if first else None
    if first and home and "://" not in home and not Path(home).is_absolute():
        raise BadInput(f"{_name(first)} is {home!r}, a relative path; the feast command needs an absolute one")
    path = expand(text, os.environ)
    return path if "://" in path or base is None else str(base / path)


def _name(match: re.Match[str]) -> str:
    return match["braced"] or match["bare"]
