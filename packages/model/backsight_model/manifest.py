"""The manifest of a training set: what rebuilds it byte for byte, in a module that a service can afford to import."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What rebuilds a training set byte for byte, and the digest that says whether it did.

    Attributes
    ----------
    series : list of str
        The bars that labels come from, one series per symbol, ordered by symbol.
    service : str
        The feature service that windows come from.
    features_sha256 : str
        Of the names of the features, in order.
    length, horizon, seed : int
        Slots per window, bars ahead of the main label, and the seed of the run.
    ingested_until : str
        ISO instant at which the newest of the facts was written; what was written later had no part.
    first_at, last_at : str
        ISO instants of the first and the last sample; instants outside are left out.
    lake_versions : dict of str to int or None
        Version of each fact table that features and labels were made of.
    feature_versions : dict of str to int
        Version of each feature table when it was read.
    scorer : str
        Which model scored the texts.
    code : str
        Version of the code, and of what it computes with.
    samples : int
    sha256 : str
        Of the training set.
    further : list of int
        Bars ahead of the further labels.
    """

    series: list[str]
    service: str
    features_sha256: str
    length: int
    horizon: int
    seed: int
    ingested_until: str
    first_at: str
    last_at: str
    lake_versions: dict[str, int | None]
    feature_versions: dict[str, int]
    scorer: str
    code: str
    samples: int
    sha256: str
    further: list[int] = field(default_factory=list)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Whose outcomes the labels are."""
        return tuple(name.split(":")[1] for name in self.series)

    @property
    def horizons(self) -> tuple[int, ...]:
        """Bars ahead of every label, the main one first."""
        return (self.horizon, *self.further)

    @property
    def longest(self) -> int:
        """Bars ahead of the label that is known last: as far apart are what is learnt and what is judged."""
        return max(self.horizons)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def features_digest(features: tuple[str, ...]) -> str:
    """Return the digest of an ordered list of features."""
    return hashlib.sha256("\n".join(features).encode()).hexdigest()
