"""Rounds of the live loop: each runs the verbs one after the other and forecasts, and one loop writes to a home."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from backsight_features.errors import BacksightError, Busy
from backsight_features.workspace import Workspace
from filelock import FileLock, Timeout

from backsight_model.forecast_log import ForecastLog
from backsight_model.live.lastseen import keep
from backsight_model.live.plan import LivePlan, Step

_LAST_WORDS: Final = 400
"""Characters of what a failed step said last."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a step.

    Attributes
    ----------
    name : str
    code : int
        Exit code; 0 where all is well.
    failed : bool
        Whether that is a failure; a look that found something to be done is none.
    said : str
        The last line on stderr where the code is not 0, else nothing.
    document : object
        What it printed as JSON; None where it failed.
    """

    name: str
    code: int
    failed: bool
    said: str
    document: Any


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round did.

    Attributes
    ----------
    at : datetime
        When it began.
    outcomes : tuple of Outcome
        Of the steps that ran.
    logged : int
        Forecasts that came into the log.
    """

    at: datetime
    outcomes: tuple[Outcome, ...]
    logged: int

    @property
    def code(self) -> int:
        """Exit code of the last step that failed; 0 where none did."""
        return next((one.code for one in reversed(self.outcomes) if one.failed), 0)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        steps = [{"name": one.name, "code": one.code, "said": one.said} for one in self.outcomes]
        forecasts = [one.document for one in self.outcomes if one.name.startswith("forecast ") and one.document]
        return {
            "at": self.at.isoformat(),
            "code": self.code,
            "steps": steps,
            "forecasts": forecasts,
            "logged": self.logged,
        }


def rounds(
    plan: LivePlan,
    workspace: Workspace,
    *,
    clock: Callable[[], datetime],
    wait: Callable[[float], bool],
    perform: Callable[[Step], Outcome],
) -> Iterator[Round]:
    """Yield what each round did: one at once, which catches up after an outage, then one after each bar close.

    Parameters
    ----------
    plan : LivePlan
    workspace : Workspace
        The home; one loop runs in it.
    clock : callable
        Returns the instant.
    wait : callable
        Waits so many seconds and returns whether to stop, also asked between steps with 0 seconds.
    perform : callable
        Runs a step.

    Raises
    ------
    Busy
        If another loop runs in this home.
    """
    with _alone(workspace):
        while True:
            yield _round(plan, workspace, clock=clock, stop=lambda: wait(0.0), perform=perform)
            now = clock()
            if wait((plan.next_round(now) - now).total_seconds()):
                return


def run(step: Step, workspace: Workspace) -> Outcome:
    """Run a step in a process of its own, which the signal that stops the loop does not reach."""
    program = "from backsight_features.cli import main; main()"
    tables = [] if workspace.tables is None else ["--tables", str(workspace.tables)]
    done = subprocess.run(
        [sys.executable, "-c", program, "--home", str(workspace.root), *tables, *step.arguments, "--json"],
        capture_output=True,
        text=True,
        start_new_session=True,
        env=os.environ,
    )
    lines = done.stderr.strip().splitlines()
    said = lines[-1][-_LAST_WORDS:] if done.returncode and lines else ""
    failed = done.returncode not in (0, *step.fine)
    document = json.loads(done.stdout) if not failed and done.stdout.strip() else None
    return Outcome(name=step.name, code=done.returncode, failed=failed, said=said, document=document)


def _round(
    plan: LivePlan,
    workspace: Workspace,
    *,
    clock: Callable[[], datetime],
    stop: Callable[[], bool],
    perform: Callable[[Step], Outcome],
) -> Round:
    at, outcomes = clock(), []
    for step in plan.steps:
        if stop():
            break
        outcomes.append(perform(step))
        if outcomes[-1].failed and step.needed:
            break
    logged = 0
    try:
        logged = ForecastLog(workspace.forecasts).fold()
    except BacksightError as error:
        outcomes.append(_failure("log", error))
    for step in plan.looks:
        if stop():
            break
        outcomes.append(perform(step))
        if step.kept and outcomes[-1].document is not None:
            try:
                keep(workspace.live / step.kept, outcomes[-1].document)
            except BacksightError as error:
                outcomes.append(_failure(step.kept, error))
    return Round(at=at, outcomes=tuple(outcomes), logged=logged)


def _failure(name: str, error: BacksightError) -> Outcome:
    return Outcome(name=name, code=error.exit_code, failed=True, said=str(error), document=None)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    folder = Path(workspace.root) / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "live.lock", timeout=0):
            yield
    except Timeout:
        raise Busy(f"another loop runs in {workspace.root}") from None
