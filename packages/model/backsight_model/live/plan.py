"""What the live loop does at each bar close, as a TOML file says it."""

import shlex
import tomllib
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from backsight_features.clocks import from_us, timeframe, to_us
from backsight_features.errors import BadInput, NeedsAttention

from backsight_model.live.lastseen import STATUS

_REQUIRED: Final = ("bars", "service", "length", "pull")
_OPTIONAL: Final[dict[str, Any]] = {"scorer": "", "retrain": "", "delay_seconds": 20, "repo": "feature_repo"}
_KINDS: Final[dict[str, type]] = {"bars": list, "pull": list, "length": int, "delay_seconds": int}
_WORDS: Final = {list: "list", int: "whole number", str: "text"}
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One verb of the command line.

    Attributes
    ----------
    name : str
        For people and logs.
    arguments : tuple of str
        What follows ``backsight``.
    needed : bool
        Whether the round ends where it fails. A source that is away does not end it: what is online grows stale, and
        the gate says so.
    fine : tuple of int
        Exit codes, besides 0, that are no failure: what was to be looked at was seen, and is not as it should be.
    kept : str
        Name of the file of `Workspace.live` that holds what it printed; none if empty.
    """

    name: str
    arguments: tuple[str, ...]
    needed: bool
    fine: tuple[int, ...] = ()
    kept: str = ""


@dataclass(frozen=True, kw_only=True)
class LivePlan:
    """A round of the loop, and when there is one.

    Attributes
    ----------
    steps : tuple of Step
    looks : tuple of Step
        What looks at it all when they are done, however they ended.
    timeframe : timedelta
        Of the bars.
    delay : timedelta
        From a bar's close to its round: exchanges need some seconds.
    """

    steps: tuple[Step, ...]
    looks: tuple[Step, ...]
    timeframe: timedelta
    delay: timedelta

    def next_round(self, now: datetime) -> datetime:
        """Return when the next round is due: a delay after a bar's close.

        >>> plan = LivePlan(steps=(), looks=(), timeframe=timedelta(hours=1), delay=timedelta(seconds=20))
        >>> plan.next_round(datetime.fromisoformat("2024-03-01T12:00:20+00:00")).isoformat()
        '2024-03-01T13:00:20+00:00'
        """
        step, delay = self.timeframe // _MICROSECOND, self.delay // _MICROSECOND
        return from_us((to_us(now) - delay) // step * step + step + delay)


def read(path: Path) -> LivePlan:
    """Return the plan in a file.

    Raises
    ------
    BadInput
        If the file cannot be read, a name in it is absent, unknown or of another kind, or the bars are of several
        timeframes.
    """
    try:
        said: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error
    if absent := [name for name in _REQUIRED if name not in said]:
        raise BadInput(f"{path}: {', '.join(absent)} is not given; docs/live.md has an example")
    if unknown := sorted(set(said) - {*_REQUIRED, *_OPTIONAL}):
        raise BadInput(f"{path}: {', '.join(unknown)} is unknown; known are {', '.join((*_REQUIRED, *_OPTIONAL))}")
    said = _OPTIONAL | said
    for name, value in said.items():
        kind = _KINDS.get(name, str)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadInput(f"{path}: {name} is {value!r}, it must be a {_WORDS[kind]}")
    series = [str(name).split(":") for name in said["bars"]]
    if not series or any(len(parts) != 3 for parts in series):
        raise BadInput(f"{path}: bars is {said['bars']}, it must be a list of VENUE:SYMBOL:TIMEFRAME")
    if len(lengths := {parts[2] for parts in series}) != 1:
        raise BadInput(f"{path}: bars of {', '.join(sorted(lengths))}; a loop has one timeframe")
    return LivePlan(
        steps=tuple(_steps(said)),
        looks=_looks(said),
        timeframe=timeframe(lengths.pop()),
        delay=timedelta(seconds=said["delay_seconds"]),
    )


def _steps(said: dict[str, Any]) -> list[Step]:
    steps = [Step(name=f"pull {line}", arguments=("pull", *shlex.split(line)), needed=False) for line in said["pull"]]
    bars, repo = [part for name in said["bars"] for part in ("--bars", name)], ("--repo", said["repo"])
    if said["scorer"]:
        steps.append(Step(name="score", arguments=("score", "--scorer", said["scorer"]), needed=False))
    steps.append(Step(name="build", arguments=("build", *bars), needed=True))
    publish = ("publish", "--service", said["service"], "--length", str(said["length"]), *repo)
    steps.append(Step(name="publish", arguments=publish, needed=True))
    symbols = dict.fromkeys(name.split(":")[1] for name in said["bars"])
    steps += [
        Step(name=f"forecast {symbol}", arguments=("forecast", symbol, *repo), needed=False) for symbol in symbols
    ]
    steps.append(Step(name="shadow", arguments=("forecast", "--shadow", *repo), needed=False))
    if said["retrain"]:
        # Last, since it takes minutes where it is due.
        for name in said["bars"]:
            arguments = ("retrain", "--bars", name, "--policy", said["retrain"], *repo)
            steps.append(Step(name=f"retrain {name}", arguments=arguments, needed=False))
    return steps


def _looks(said: dict[str, Any]) -> tuple[Step, ...]:
    bars, fine = [part for name in said["bars"] for part in ("--bars", name)], (NeedsAttention.exit_code,)
    return (
        Step(name="status", arguments=("status",), needed=False, fine=fine, kept=STATUS),
        Step(name="watch", arguments=("watch", *bars), needed=False, fine=fine),
    )
