"""Chance by name: the same seed and names always give the same numbers, whatever else was drawn before."""

from random import Random


def rng(seed: int, *names: object) -> Random:
    """Return a generator that depends on the seed and the names, and on nothing else.

    >>> rng(7, "posts", 3).random() == rng(7, "posts", 3).random()
    True
    """
    return Random("/".join(map(str, (seed, *names))))
