"""The final period: samples that no fold sees, scored once, and a ledger that says that they were."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from backsight_features.clocks import from_us, parse_instant
from backsight_features.errors import BadInput

from backsight_model.arrays import TimeArray
from backsight_model.settings import Settings
from backsight_model.splits import Fold, final_fit
from backsight_model.training import TrainingSet
from backsight_model.verdict import Losses, Verdict, decide, losses
from backsight_model.walk import Walk, over

LEDGER = "final-periods.jsonl"


@dataclass(frozen=True, kw_only=True)
class Span:
    """The time that a final period covers.

    Attributes
    ----------
    series : str
        The bars that its labels are made of.
    first, last : str
        ISO instants of its first and its last sample.
    """

    series: str
    first: str
    last: str

    def overlaps(self, other: "Span") -> bool:
        """Whether some of the same outcomes are in both."""
        mine, theirs = ([parse_instant(at) for at in (span.first, span.last)] for span in (self, other))
        return self.series == other.series and mine[0] <= theirs[1] and theirs[0] <= mine[1]


@dataclass(frozen=True, kw_only=True)
class Held:
    """Samples held back for the end, and what may be learnt from before they are scored.

    Attributes
    ----------
    before : int
        The first so many samples had labels that were known before the final period began: the walk is over them.
    part : Fold
        Learns from these, an embargo apart, and is judged on the final period.
    """

    before: int
    part: Fold


@dataclass(frozen=True, kw_only=True)
class FinalPeriod:
    """What the final period says.

    Attributes
    ----------
    spans : tuple of Span
        By symbol.
    look : int
        1 for the first time that these outcomes were scored as a final period.
    samples : int
    verdict : Verdict
        By the same rule as that of the walk.
    """

    spans: tuple[Span, ...]
    look: int
    samples: int
    verdict: Verdict

    @property
    def title(self) -> str:
        """What this is, in words."""
        seen = "scored once" if self.look == 1 else f"{_ordinal(self.look)} look, so that it proves nothing any more"
        return f"Final period, {self.first} to {self.last}, {self.samples} samples: {seen}."

    @property
    def first(self) -> str:
        """ISO instant of the first sample."""
        return min((span.first for span in self.spans), key=parse_instant)

    @property
    def last(self) -> str:
        """ISO instant of the last sample."""
        return max((span.last for span in self.spans), key=parse_instant)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it says, in words."""
        return self.verdict.sentences

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "title": self.title,
            "series": [span.series for span in self.spans],
            "first": self.first,
            "last": self.last,
            "look": self.look,
            "samples": self.samples,
            "verdict": self.verdict.word,
            "proven": self.verdict.proven,
            "sentences": list(self.sentences),
        }


def start_of(at: TimeArray, *, share: float) -> np.datetime64:
    """Return where the last `share` of the span of some instants begins."""
    span = (at[-1] - at[0]).astype("timedelta64[us]").astype(np.int64)
    start: np.datetime64 = at[-1] - np.timedelta64(int(span * share), "us")
    return start


def hold_back(
    at: TimeArray,
    label_at: TimeArray,
    *,
    start: np.datetime64,
    embargo: timedelta,
    window: timedelta | None = None,
) -> Held:
    """Return the samples from `start` on as the final period.

    Parameters
    ----------
    at, label_at : ndarray of shape (n,), datetime64[us]
        See `splits.walk_forward`; in time order.
    start : datetime64[us]
    embargo, window
        See `splits.walk_forward`.

    Raises
    ------
    BadInput
        Where too few samples remain to learn from, or none to score.
    """
    free = np.timedelta64(embargo // timedelta(microseconds=1), "us")
    known, test = _known(at, label_at, start - free), np.flatnonzero(at >= start)
    if min(known, len(test)) == 0:
        raise BadInput(
            f"a final period from {start} on has {known} samples before it and {len(test)} in it; need a longer history"
        )
    learnt = final_fit(at[:known], label_at[:known], embargo=embargo, window=window)
    part = Fold(fit=learnt.fit, valid=learnt.valid, test=test, start=start)
    return Held(before=_known(at, label_at, start), part=part)


def span_of(series: str, at: TimeArray) -> Span:
    """Return the span of some samples, whose instants are in order."""
    first, last = (
        from_us(int(instant.astype("datetime64[us]").astype(np.int64))).isoformat() for instant in at[[0, -1]]
    )
    return Span(series=series, first=first, last=last)


def looks(models: Path, span: Span) -> list[dict[str, Any]]:
    """Return the entries of the ledger that some of these outcomes were spent on, oldest first."""
    ledger = models / LEDGER
    if not ledger.exists():
        return []
    entries = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if span.overlaps(Span(**{name: entry[name] for name in asdict(span)}))]


def refuse_again(models: Path, spans: tuple[Span, ...]) -> None:
    """Raise where these outcomes were looked at before.

    Raises
    ------
    BadInput
        Says when, and by what.
    """
    for span in spans:
        if earlier := looks(models, span):
            entry = earlier[-1]
            raise BadInput(
                f"the final period {span.first} to {span.last} of {span.series} was spent at {entry['spent_at']} on "
                f"{entry['service']}: a score that was seen cannot be unseen; hold back newer samples, or say "
                "--second-look"
            )


def spend(models: Path, spans: tuple[Span, ...], *, service: str, now: datetime) -> int:
    """Write into the ledger that spans are about to be scored, a line for each, and return which look this is, from 1.

    It is written before the score is known: a run that breaks off after it may have shown it. Of several spans, the one
    that was looked at most counts.
    """
    look = max(len(looks(models, span)) for span in spans) + 1
    entries = [asdict(span) | {"service": service, "spent_at": now.isoformat(), "look": look} for span in spans]
    models.mkdir(parents=True, exist_ok=True)
    with (models / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write("".join(json.dumps(entry) + "\n" for entry in entries))
    return look


def score(
    spans: tuple[Span, ...],
    look: int,
    ways: list[tuple[str, TrainingSet, Held]],
    *,
    settings: Settings,
    seed: int,
    done: Callable[[str], None],
) -> FinalPeriod:
    """Return what the final period says of a model that learnt from all before it.

    Parameters
    ----------
    spans, look
        From `spend`, which comes first.
    ways : list of (str, TrainingSet, Held)
        Service, all its samples, and those held back: the service on trial first, then those it is compared with.
    settings, seed
        Of the network.
    done : callable
        Is told in words after each.
    """

    def judged(service: str, data: TrainingSet, held: Held) -> tuple[Walk, Losses]:
        walked = over(data, [held.part], settings=settings, seed=seed, done=lambda _: done(f"{service}: final period"))
        return walked, losses(data, walked, service=service)

    (walked, full), *others = [judged(*way) for way in ways]
    verdict = decide(full, [other for _, other in others])
    return FinalPeriod(spans=spans, look=look, samples=len(walked.samples), verdict=verdict)


def _ordinal(number: int) -> str:
    """Return a number of a look in words: second, third, 4th."""
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _known(at: TimeArray, label_at: TimeArray, by: np.datetime64) -> int:
    """Return how many samples, from the first on, had all their labels known by an instant; of each instant all."""
    late = np.flatnonzero(label_at > by)
    return int(np.searchsorted(at, at[late[0]])) if len(late) else len(label_at)
