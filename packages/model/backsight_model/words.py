"""Putting names into sentences."""

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """Return names in a row.

    >>> listed(["volatility"]), listed(["volatility", "direction", "return"])
    ('volatility', 'volatility, direction and return')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
