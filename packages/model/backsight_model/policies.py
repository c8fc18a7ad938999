"""When to train again: never, every so many bars, or when something drifted; and whether from where the model is."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from backsight_features.errors import BadInput

from backsight_model.challenge import LEAST_HORIZONS, STRETCH
from backsight_model.drift import Drift

_FORM: Final = re.compile(r"(never|drift|every:([1-9]\d{0,6}))(:cold)?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A rule of retraining.

    Attributes
    ----------
    every : int or None
        Train again once so many new samples, one a bar, have their label.
    drift : bool
        Train again when the inputs moved or a loss rose, or `watch` says so of what was handed out.
    warm : bool
        Whether to go on from the network in use, with the scaling that it has; otherwise from nothing.

    Examples
    --------
    >>> Policy.parse("every:720:cold")
    Policy(every=720, drift=False, warm=False)
    >>> Policy.parse("drift").name
    'drift'
    """

    every: int | None = None
    drift: bool = False
    warm: bool = True

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Return the policy that a text names.

        Raises
        ------
        BadInput
            If it names none.
        """
        match = _FORM.fullmatch(text)
        if match is None or (match[1] == "never" and match[3]):
            raise BadInput(
                f"{text!r} is no policy; write never, drift or every:720 (bars), the latter two also with :cold"
            )
        return cls(every=int(match[2]) if match[2] else None, drift=match[1] == "drift", warm=match[3] is None)

    @property
    def name(self) -> str:
        """What `parse` reads."""
        rule = "drift" if self.drift else "never" if self.every is None else f"every:{self.every}"
        return rule if self.warm else f"{rule}:cold"

    def decide(
        self, new: int, *, since_last: int, horizon: int, look: Callable[[], Drift], alerts: Sequence[str] = ()
    ) -> "Decision":
        """Return whether to train again.

        Parameters
        ----------
        new : int
            Samples with known labels that the model in use did not learn from.
        since_last : int
            Those of them whose label became known after the last challenger was trained; all where none was.
        horizon : int
            Bars that a label reaches ahead.
        look : callable
            Looks for drift; asked only where the answer counts.
        alerts : sequence of str
            What `watch` says against the forecasts that were handed out.
        """
        if self.every is None and not self.drift:
            return Decision(due=False, why="the policy is never to train again")
        least = LEAST_HORIZONS * horizon
        if new < least:
            return Decision(due=False, why=f"{new} new samples, a challenger is compared on {least} or more")
        if self.every is not None:
            so_many = f"{since_last} new samples"
            due = since_last >= self.every
            return Decision(due=due, why=so_many if due else f"{so_many} of the {self.every} that are waited for")
        if since_last < min(new, STRETCH):
            said = f"{since_last} new samples since the last challenger was trained, {STRETCH} are waited for"
            return Decision(due=False, why=said)
        found = look()
        if not alerts:
            return Decision(due=found.drifted, why=found.words, drift=found)
        seen = f"seen live: {'; '.join(alerts)}"
        return Decision(due=True, why=f"{found.words}; {seen}" if found.drifted else seen, drift=found)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether to train again.

    Attributes
    ----------
    due : bool
    why : str
        With the numbers that it follows from.
    drift : Drift or None
        What was seen, where it was looked for.
    """

    due: bool
    why: str
    drift: Drift | None = None
