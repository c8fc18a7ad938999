"""How each feature is brought to the scale of the others: the one place where that is declared."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, get_args

from backsight_features.errors import BadInput

Kind = Literal["standard", "robust", "log", "rank"]


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What is done to a feature. All of it is fitted on training rows, and can be undone.

    Attributes
    ----------
    kind : str
        ``standard``: less the mean, over the standard deviation. ``robust``: less the median, over the interquartile
        range in units of a normal deviation; not for a feature that is one value half of the time, which has none.
        ``log``: the logarithm of 1 + size with the sign kept, then as standard, for what grows by factors. ``rank``:
        which share of the training values lies below, spread evenly around 0, for what has no scale worth keeping.
    tail : float
        Share of the training values that is clipped on each side; 0 clips to the training range.
    mask : bool
        Whether a column says where the feature is missing; a missing value itself is 0, the centre. How old a value is,
        the feature tables say: ``news_age_h``, ``cpiaucsl_age_d``.
    """

    kind: Kind = "standard"
    tail: float = 0.005
    mask: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if self.kind not in get_args(Kind):
            raise BadInput(f"a treatment is of kind {self.kind!r}, it must be one of {', '.join(get_args(Kind))}")
        if not 0 <= self.tail < 0.5:
            raise BadInput(f"a treatment clips {self.tail} on each side, it must be at least 0 and below 0.5")


Treatments = tuple[tuple[str, Treatment], ...]
"""Patterns of feature names, as in ``*_count_*``, and what is done to them; the first that fits holds."""

DECLARED: Final[Treatments] = (("*", Treatment()),)
"""What `backsight train` does. Counts come as logarithms, ranges and volatilities as ratios from the feature tables."""


def of(feature: str, treatments: Treatments) -> Treatment:
    """Return the treatment of a feature.

    Raises
    ------
    BadInput
        If no pattern fits.

    Examples
    --------
    >>> of("news_count_24h", (("*_count_*", Treatment(kind="rank")), ("*", Treatment()))).kind
    'rank'
    """
    for pattern, treatment in treatments:
        if fnmatchcase(feature, pattern):
            return treatment
    raise BadInput(f"no treatment is declared for {feature}; end with one for '*'")


def refuse_idle(treatments: Treatments, features: tuple[str, ...]) -> None:
    """Raise where a pattern fits no feature: it was probably meant for one.

    Raises
    ------
    BadInput
        Names the first such pattern.

    Examples
    --------
    >>> refuse_idle((("news_*", Treatment(kind="log")), ("*", Treatment())), ("news_count_24h", "ret_log_1h"))
    """
    for pattern, _ in treatments:
        if not any(fnmatchcase(feature, pattern) for feature in features):
            raise BadInput(f"a treatment is declared for {pattern!r}, which is none of the {len(features)} features")
