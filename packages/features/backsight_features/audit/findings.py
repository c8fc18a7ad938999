"""What an audit found: findings that each name a feature, an instant and a datum, as text, JSON and one HTML page."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

Severity = Literal["error", "warning"]
"""An ``error`` convicts, and sets the exit code; a ``warning`` is worth a look and sets none."""

CONVICTED: Final = 1
"""Exit code of an audit that convicts, so that a job of continuous integration fails."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that saw what it could not have known.

    Attributes
    ----------
    check : str
        Name of the check that found it: ``target``, ``later-rows``.
    name : str
        The feature, label, claim or split that it is about.
    where : str
        What was audited: a file, a feature table.
    instant : datetime or None
        When it is seen, UTC; None where it is about all instants.
    datum : str
        The value or fact that shows it, and the one that it must have been made from.
    said : str
        What was seen, in one sentence.
    right : str
        What would be right, in one sentence.
    severity : "error" or "warning"
    rows : int
        How many rows or facts one has to look at to see it. The smallest example is told first.
    """

    check: str
    name: str
    where: str
    instant: datetime | None
    datum: str
    said: str
    right: str
    severity: Severity = "error"
    rows: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the instant as ISO 8601."""
        return asdict(self) | {"instant": None if self.instant is None else stamp(self.instant)}


@dataclass(frozen=True, kw_only=True)
class LookedFor:
    """A check that was made, or why it was not.

    Attributes
    ----------
    check : str
    said : str
        What it looks for, and what it was given to look at.
    skipped : bool
        Whether it could not be made with what was given.
    """

    check: str
    said: str
    skipped: bool = False


@dataclass(frozen=True, kw_only=True)
class Score:
    """How good a forecaster is on the rows that are judged, beside the others.

    Attributes
    ----------
    forecaster : str
        The claim, the predictions of the table, or a baseline: ``persistence``.
    values : dict of str to float
        By metric, as in ``{"rmse": 1989.0, "r2": 0.98}``.
    """

    forecaster: str
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit.

    Attributes
    ----------
    of : str
        What was audited.
    findings : tuple of Finding
        In any order; `told` has the order in which they are said.
    looked_for : tuple of LookedFor
        Every check, made or skipped.
    scores : tuple of Score
        Where forecasts or claims were judged: baselines beside them.
    notes : tuple of str
        What else a reader must know: rows that were left out, columns that were not read.
    """

    of: str
    findings: tuple[Finding, ...]
    looked_for: tuple[LookedFor, ...]
    scores: tuple[Score, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[Finding, ...]:
        """Findings in the order in which they are said: errors first, the smallest example first."""
        return tuple(sorted(self.findings, key=lambda one: (one.severity != "error", one.rows, one.check, one.name)))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that convict, as told."""
        return tuple(one for one in self.told if one.severity == "error")

    @property
    def exit_code(self) -> int:
        """0, or `CONVICTED` if a finding convicts."""
        return CONVICTED if self.errors else 0

    @property
    def verdict(self) -> str:
        """One sentence: what was found.

        >>> Audit(of="prices.csv", findings=(), looked_for=()).verdict
        'prices.csv: nothing saw the future, as far as 0 checks can see.'
        """
        made = sum(not one.skipped for one in self.looked_for)
        warnings = len(self.findings) - len(self.errors)
        aside = f", and {_count(warnings, 'warning')}" if warnings else ""
        if not self.errors:
            return f"{self.of}: nothing saw the future, as far as {_count(made, 'check')} can see{aside}."
        names = len({one.name for one in self.errors})
        found = f"{_count(len(self.errors), 'finding')} about {_count(names, 'name')}"
        return f"{self.of}: convicted, with {found}{aside}."

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "of": self.of,
            "convicted": bool(self.errors),
            "verdict": self.verdict,
            "findings": [one.to_json() for one in self.told],
            "scores": [asdict(one) for one in self.scores],
            "looked_for": [asdict(one) for one in self.looked_for],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return what a terminal shows: the findings, the scores, and what was looked for."""
        return "\n".join(self._lines())

    def html(self) -> str:
        """Return one page that needs nothing beside it; what stands in the data is escaped."""
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("backsight_features.audit", "templates"), autoescape=True, undefined=StrictUndefined
        )
        return environment.get_template("audit.html.j2").render(audit=self.to_json(), metrics=self.metrics)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics of the scores, in their order."""
        return tuple(dict.fromkeys(name for one in self.scores for name in one.values))

    def _lines(self) -> Iterator[str]:
        for one in self.told:
            yield f"{one.severity}: {one.check}: {one.name}"
            yield f"  {one.said}"
            yield f"  {stamp(one.instant) if one.instant else 'everywhere'}: {one.datum}"
            yield f"  right would be: {one.right}"
            yield ""
        if self.scores:
            yield from self._table()
            yield ""
        for note in self.notes:
            yield f"note: {note}"
        skipped = [f"{one.check} ({one.said})" for one in self.looked_for if one.skipped]
        if skipped:
            yield f"not looked for: {'; '.join(skipped)}"
        yield self.verdict

    def _table(self) -> Iterator[str]:
        wide = max(len(one.forecaster) for one in self.scores)
        yield f"{'':<{wide}}" + "".join(f"{name:>12}" for name in self.metrics)
        for one in self.scores:
            cells = (f"{one.values[name]:>12.5g}" if name in one.values else f"{'':>12}" for name in self.metrics)
            yield (f"{one.forecaster:<{wide}}" + "".join(cells)).rstrip()


def stamp(at: datetime) -> str:
    """Return an instant as ISO 8601 with Z.

    >>> from datetime import UTC
    >>> stamp(datetime(2024, 3, 1, 12, tzinfo=UTC))
    '2024-03-01T12:00:00Z'
    """
    return at.isoformat().replace("+00:00", "Z")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
