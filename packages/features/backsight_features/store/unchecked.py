"""Imports Feast without what takes longest of it and is not needed here: checks at run time, and PyTorch.

typeguard parses a whole module anew for every method that it checks, which is two thirds of what importing Feast takes.
PyTorch is half of the rest: Feast loads it where it is installed, to hand out answers as tensors, and does without it
where it is not. Who wants tensors of Feast imports PyTorch or Feast first.
"""

import sys
from typing import Any

import typeguard


def _unchecked(target: Any = None, **_: Any) -> Any:
    return _unchecked if target is None else target


_checked = typeguard.typechecked
typeguard.typechecked = _unchecked
_torch_hidden = "torch" not in sys.modules
if _torch_hidden:
    sys.modules["torch"] = None  # type: ignore[assignment]  # what is None there cannot be imported
try:
    import feast  # noqa: F401
finally:
    typeguard.typechecked = _checked
    if _torch_hidden:
        del sys.modules["torch"]
