"""What the settings of a feature repo may say beyond Feast's own: ``${NAME:-default}``, as a shell reads it.

Feast replaces ``$NAME`` and ``${NAME}`` when it loads the file, and has no default for a variable that is not set. What
it leaves is resolved here, for the offline store, the online store and the registry that a feature repo names.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from backsight_features.errors import BadInput

_VARIABLE: Final = re.compile(r"\$(?:\{(?P<braced>\w+)(?::-(?P<default>(?:\$\{[^{}]*\}|[^{}])*))?\}|(?P<bare>\w+))")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` replaced; unset without default, it stays.

    >>> expand("${HOME_OF_DATA:-../data}/online.db", {})
    '../data/online.db'
    >>> expand("${HOME_OF_DATA:-../data}/online.db", {"HOME_OF_DATA": "/srv/my data"})
    '/srv/my data/online.db'
    >>> expand("${TABLES:-${HOME_OF_DATA:-../data}}", {"HOME_OF_DATA": "/srv"})
    '/srv'
    """

    def value(match: re.Match[str]) -> str:
        default = match["default"]
        return environment.get(_name(match)) or (match[0] if default is None else expand(default, environment))

    return _VARIABLE.sub(value, text)


def unset(text: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that a text needs and that are not there: ``${NAME}`` without default.

    >>> unset("${TABLES}/${SUBFOLDER:-a}", {})
    ('TABLES',)
    """
    found = _VARIABLE.finditer(text)
    return tuple(
        match["braced"]
        for match in found
        if match["braced"] and match["default"] is None and not environment.get(match["braced"])
    )


def resolve(text: str, base: Path | str | None) -> str:
    """Return a path or URL with the variables of this process expanded, a relative path taken from a folder or URL.

    Raises
    ------
    BadInput
        If a variable has no value and no default; or if one at the beginning holds a relative path: ``feast -c``
        changes the working folder, so that it would mean another folder to every command.
    """
    if missing := unset(text, os.environ):
        raise BadInput(f"{text} needs {', '.join(missing)}, which is not set")
    first = _first(text)
    folder = os.environ[first] if first else ""
    if folder and "://" not in folder and not Path(folder).is_absolute():
        raise BadInput(f"{first} is {folder!r}, a relative path; the feast command needs an absolute one")
    path = expand(text, os.environ)
    if "://" in path or base is None:
        return path
    # A Path would make one slash of two.
    return f"{base.rstrip('/')}/{path}" if isinstance(base, str) and "://" in base else str(Path(base) / path)


def _first(text: str) -> str | None:
    """Return the variable whose value the expanded text begins with, if it begins with one."""
    match = _VARIABLE.match(text)
    if match is None:
        return None
    return _name(match) if os.environ.get(_name(match)) else _first(match["default"] or "")


def _name(match: re.Match[str]) -> str:
    return match["braced"] or match["bare"]
