"""Imports Feast without the type checks at run time that it asks of typeguard.

typeguard parses a whole module anew for every method that it checks, which is two thirds of what importing Feast takes.
"""

from typing import Any

import typeguard


def _unchecked(target: Any = None, **_: Any) -> Any:
    return _unchecked if target is None else target


_checked = typeguard.typechecked
typeguard.typechecked = _unchecked
try:
    import feast  # noqa: F401
finally:
    typeguard.typechecked = _checked
