"""All that the page shows, as one document: forecasts, models, and what the live loop last saw, read from its files."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar

from backsight_features.errors import Busy, SourceError
from backsight_features.masking import masked
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, FiniteFloat, ValidationError

from backsight_model.live.lastseen import STATUS, WATCHED
from backsight_model.serving import problems
from backsight_model.serving.answers import Answers
from backsight_model.serving.problems import Problem

LARGEST: Final = 4 << 20
"""Bytes of a file."""
MOST: Final = 500
"""Symbols and jobs that are shown."""
PATH: Final = "/v1/overview"

_LONGEST: Final = 300


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_Text = Annotated[str, AfterValidator(_short)]
_Error = Annotated[str, AfterValidator(lambda text: _short(masked(text)))]


class Interval(BaseModel):
    """A mean with an interval that holds at all instants at once."""

    what: _Text
    mean: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    blocks: int


class Alert(BaseModel):
    """Something that a person has to act on."""

    rule: _Text
    symbol: _Text
    said: _Text


class Recent(BaseModel):
    """Volatility per year as it was forecast and as it came, column by column."""

    observed_at: list[AwareDatetime]
    said: list[FiniteFloat]
    came: list[FiniteFloat | None]
    step_seconds: FiniteFloat


class Inputs(BaseModel):
    """Whether what the model reads moved away from what it learnt from."""

    drifted: bool
    words: _Text


class Challenger(BaseModel):
    """How the bundle in shadow compares with the one in use."""

    bundle: _Text
    word: _Text
    words: _Text


class WatchedSymbol(BaseModel):
    """What was last seen of the forecasts of a symbol, and when."""

    symbol: _Text
    at: AwareDatetime
    bundle: _Text | None
    last_at: AwareDatetime | None
    known: int
    open: int
    intervals: list[Interval]
    inputs: Inputs | None
    challenger: Challenger | None
    alerts: list[Alert]
    recent: Recent | None


class Watched(BaseModel):
    """What `backsight watch` last saw, and when."""

    at: AwareDatetime
    symbols: list[WatchedSymbol]


class Line(BaseModel):
    """How much of a job's time line is there."""

    share: FiniteFloat | None


class Waiting(BaseModel):
    """Rows in quarantine for one reason."""

    reason: _Text
    rows: int


class Run(BaseModel):
    """How a run of a job ended."""

    finished_at: AwareDatetime
    outcome: _Text
    error: _Error | None


class Job(BaseModel):
    """How a job is."""

    job: _Text
    state: _Text
    findings: list[_Text]
    behind_s: FiniteFloat | None
    line: Line | None
    waiting: list[Waiting]
    runs: list[Run]


class Status(BaseModel):
    """What `backsight status` last said, and when."""

    at: AwareDatetime
    jobs: list[Job]


class Trouble(BaseModel):
    """Why something cannot be shown."""

    problem: Problem


class Overview(BaseModel):
    """What the page shows; of the longest lists the first 500 entries."""

    at: AwareDatetime
    forecasts: list[dict[str, Any]] | Trouble = Field(description="A forecast or a problem for each symbol in use.")
    models: list[dict[str, Any]]
    promotion: Trouble | None = Field(description="Why the newest promotion is not in use; null where it is.")
    watched: Watched | Trouble | None = Field(description="Null where nobody ever watched.")
    status: Status | Trouble | None = Field(description="Null where no round ever ended.")
    left_out: int = Field(description="Symbols and jobs that are not in the lists.")


_Seen = TypeVar("_Seen", bound=BaseModel)


@dataclass
class _File(Generic[_Seen]):
    """A document that others replace, parsed once for each time that they do."""

    path: Path
    kind: type[_Seen]
    _stamp: tuple[int, int, int] = (0, 0, 0)
    _held: _Seen | Trouble | None = field(default=None)

    def read(self) -> _Seen | Trouble | None:
        """Return it, or why it cannot be read; None where there is none."""
        try:
            found = os.stat(self.path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                if found.st_size > LARGEST:
                    raise ValueError(f"has {found.st_size} bytes; {LARGEST} are read at most")
                self._held, self._stamp = self.kind.model_validate_json(self.path.read_bytes()), stamp
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            return self._trouble(f"is not as it should be: {where + ': ' if where else ''}{first['msg']}")
        except (OSError, ValueError) as error:
            return self._trouble(str(error))
        return self._held

    def _trouble(self, why: str) -> Trouble:
        detail = f"{self.path.name} {why}; the next round of `backsight run` writes it again"
        return _trouble(problems.problem(503, "Unreadable", _short(detail), PATH))


class Overviews:
    """Makes the document.

    Parameters
    ----------
    answers : Answers
    folder : Path
        `Workspace.live`.
    """

    def __init__(self, answers: Answers, folder: Path) -> None:
        self._answers = answers
        self._watched = _File(folder / WATCHED, Watched)
        self._status = _File(folder / STATUS, Status)

    def now(self) -> Overview:
        """Return what there is to see; what cannot be read is a problem in its place, and no error."""
        at, in_use = self._answers.clock(), self._answers.in_use()
        symbols = [one["symbol"] for one in in_use][:MOST]
        broken = self._answers.models.broken
        watched, status = self._watched.read(), self._status.read()
        left_out = len(in_use) - len(symbols)
        if isinstance(watched, Watched):
            left_out += max(0, len(watched.symbols) - MOST)
            watched = watched.model_copy(update={"symbols": watched.symbols[:MOST]})
        if isinstance(status, Status):
            left_out += max(0, len(status.jobs) - MOST)
            status = status.model_copy(update={"jobs": status.jobs[:MOST]})
        return Overview(
            at=at,
            forecasts=self._forecasts(symbols),
            models=in_use[:MOST],
            promotion=None if broken is None else _trouble(problems.problem(503, "NotReady", broken, "/ready")),
            watched=watched,
            status=status,
            left_out=left_out,
        )

    def _forecasts(self, symbols: list[str]) -> list[dict[str, Any]] | Trouble:
        try:
            return [answer.either() for answer in self._answers.forecasts(symbols)] if symbols else []
        except (SourceError, Busy) as error:
            return _trouble(problems.of_error(error, PATH))


def _trouble(problem: dict[str, Any]) -> Trouble:
    return Trouble(problem=Problem(**problem))
