"""Where a bundle comes from: a proof, or another bundle whose proof it was given."""

from dataclasses import dataclass
from typing import Any, Protocol


class Proof(Protocol):
    """What was proven of a model, or of those that it comes from: a `Verdict`, or `Inherited`."""

    @property
    def proven(self) -> dict[str, bool]:
        """Whether there is skill, by target."""

    @property
    def skill(self) -> bool:
        """Whether any target is proven: what a bundle needs to be promoted."""

    @property
    def word(self) -> str:
        """``tradable``, ``skill`` or ``no skill``."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """The proof in words."""


@dataclass(frozen=True, kw_only=True)
class Inherited:
    """The proof of an earlier bundle, for a refit that was made by the same procedure.

    Attributes
    ----------
    proven, word, sentences
        See `Proof`.
    """

    proven: dict[str, bool]
    word: str
    sentences: tuple[str, ...]

    @property
    def skill(self) -> bool:
        """Whether any target is proven."""
        return any(self.proven.values())


@dataclass(frozen=True, kw_only=True)
class Refit:
    """How a bundle came from another, whose proof it was given: none was made of the refit itself.

    Attributes
    ----------
    champion : str
        The bundle that was in use, and that it was compared with.
    number : int
        1 for the first refit since the proof.
    warm : bool
        Whether its network went on from that of the champion, with its scaling.
    policy, why : str
        Why it was trained.
    at : str
        ISO instant as of which that was decided.
    learnt_until : str
        ISO instant; labels that were known later were not learnt from.
    comparison : dict
        What both lost on the same samples, which neither learnt from: see `challenge.Comparison`.
    won : bool
        Whether it was not worse.
    proven_by, proven_until : str
        The bundle whose walk-forward proof it is, and the ISO instant of the newest sample of that.
    """

    champion: str
    number: int
    warm: bool
    policy: str
    why: str
    at: str
    learnt_until: str
    comparison: dict[str, Any]
    won: bool
    proven_by: str
    proven_until: str

    @property
    def words(self) -> str:
        """What was learnt from, and what was proven of what."""
        return (
            f"samples whose labels were known by {self.learnt_until}, {'warm' if self.warm else 'cold'}: refit "
            f"{self.number} after the walk-forward proof of {self.proven_by}, which reached {self.proven_until} and is "
            f"of earlier, cold fits; the refit itself was compared with {self.champion} only"
        )
