"""Remedies: for what was found of a job the next thing to do, as a command that a person can paste."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from backsight_ingest.gaps import TimeLine
from backsight_ingest.live.coverage import HOLE, LOST
from backsight_ingest.output import lasting
from backsight_ingest.quarantine import DUMPS
from backsight_ingest.status import FAILED, GAPS, LATE, LOOKBACK, QUARANTINE, STALE, Status

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "reddit:*": ("REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET"),
    "news:newsapi:*": ("NEWSAPI_KEY",),
    "macro:*:keyless": (),
    "macro:*": ("FRED_API_KEY",),
}
"""What has to be set in the environment for jobs of such names; the first that fits counts."""

_FROM_TRADES: Final = "--from-trades"


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What to do.

    Parameters
    ----------
    why : str
        What is the matter, in a line.
    command : str
        What helps, or shows more.
    """

    why: str
    command: str


def remedies(status: Status, environment: Mapping[str, str]) -> list[Remedy]:
    """Return what to do about what was found of a job, the worst first.

    Parameters
    ----------
    status : Status
        Of the job.
    environment : mapping of str to str
        In which the commands are to be run.
    """
    found: list[Remedy] = []
    for finding in status.findings:
        if finding == FAILED:
            error = next(run.error for run in status.runs if run.outcome == FAILED)
            found.append(Remedy(why=error, command=_again(status, environment)))
        elif finding in (STALE, LATE) and FAILED not in status.findings:
            found.append(_freshen(status, environment))
        elif finding == LOST and status.line is not None:
            found.append(_regain(status.line))
        elif finding == GAPS and status.line is not None:
            found.append(_await(status.line))
        elif finding == QUARANTINE:
            why = f"in quarantine: {sum(rows for _, rows in status.waiting):,}, most of them: {status.waiting[0][0]}"
            found.append(Remedy(why=why, command=_line("quarantine", "show", "--job", status.job)))
    return found


def pull_command(job: str, line: TimeLine | None = None) -> str:
    """Return the command that runs a live job, given its name, and its time line where it has one."""
    kind, _, of = job.partition(":")
    match kind:
        case "prices":
            venue, symbol, length = of.split(":")
            return _line("pull", "prices", *_market(venue, symbol), "--timeframe", length)
        case "books":
            venue, symbol = of.split(":")
            every = [] if line is None else ["--every", f"{line.cadence // timedelta(seconds=1)}s"]
            return _line("pull", "books", *_market(venue, symbol), *every)
        case "reddit":
            return _line("pull", "reddit", "--subreddit", of)
        case "macro":
            series, _, keyless = of.partition(":")
            return _line("pull", "macro", "--series", series, *(["--keyless"] if keyless else []))
        case "news":
            archive, _, query = of.partition(":")
            if archive in ("gdelt", "newsapi"):
                return _line("pull", "news", f"--{archive}", query)
            # The query of a feed's address may hold a key, so the name has only a digest of it.
            address, asks, _ = of.partition("?")
            return _line("pull", "news", "--feed", f"https://{address}{'?…' if asks else ''}")
    raise ValueError(f"no verb pulls {job}")


def _market(venue: str, symbol: str) -> list[str]:
    exchange, _, contract = venue.partition("-")
    name = symbol.replace("-", "/") + (f":{contract.upper()}" if contract else "")
    return ["--exchange", exchange, "--symbol", name]


def _again(status: Status, environment: Mapping[str, str]) -> str:
    """Return the command that runs a job again, or what has to be set before."""
    if status.job.startswith(DUMPS):
        return _line("runs", "--job", status.job)
    needed = next((names for pattern, names in VARIABLES.items() if fnmatchcase(status.job, pattern)), ())
    if lacking := [name for name in needed if not environment.get(name)]:
        return " ".join(["export", *(f"{name}=…" for name in lacking)])
    return pull_command(status.job, status.line)


def _freshen(status: Status, environment: Mapping[str, str]) -> Remedy:
    line, again = status.line, _again(status, environment)
    # More is missing because it was not there than because nobody asked.
    if line and line.filled and line.reached and status.behind and 2 * (line.reached - line.filled) > status.behind:
        why = f"nothing is there since {_at(line.filled)}, though asked for until {_at(line.reached)}"
        return Remedy(why=why, command=_line("gaps", "--job", status.job))
    if not status.runs:
        return Remedy(why=f"no run in the last {LOOKBACK.days} days", command=again)
    if line is None:
        return Remedy(why="it ran and never got anything", command=again)
    last = status.runs[0]
    return Remedy(why=f"the last run, of {_at(last.started_at)}, ended {last.outcome}", command=again)


def _regain(line: TimeLine) -> Remedy:
    lost = [gap for gap in line.gaps if gap.status == LOST]
    first = lost[0]
    why = f"lost from {_at(first.since)} to {_at(first.until)}: {first.reason}"
    if _FROM_TRADES not in first.reason:
        return Remedy(why=why, command=_line("gaps", "--job", line.job))
    since = f"{first.since:%Y-%m-%dT%H:%M:%SZ}"
    return Remedy(why=why, command=f"{pull_command(line.job)} --since {since} {_FROM_TRADES}")


def _await(line: TimeLine) -> Remedy:
    due = min(gap.due_at for gap in line.gaps if gap.due_at)
    why = f"not there yet: {lasting(line.total(HOLE))}; runs ask for it again, from {_at(due)} on"
    return Remedy(why=why, command=_line("gaps", "--job", line.job))


def _line(*words: str) -> str:
    return shlex.join(["backsight", *words])


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"
