"""``backsight status`` and ``gaps``: how jobs are, for people and monitors, and what is missing of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from backsight_features.errors import BadInput, NeedsAttention
from backsight_features.options import JOB, JSON
from backsight_features.workspace import Workspace

from backsight_ingest.output import lasting, print_json, table

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from backsight_ingest.gaps import Gap, TimeLine
    from backsight_ingest.remedies import Remedy
    from backsight_ingest.status import Status

_FINDINGS: Final = ("failed", "stale", "late", "lost", "gaps", "quarantine")
_FEW: Final = 5
_LONGEST: Final = 300
_WITHOUT: Final = click.option("--without", multiple=True, metavar="NAME", help="Not these; repeatable.")


@click.command()
@JOB
@_WITHOUT
@click.option(
    "--every", default="0s", metavar="LENGTH", help="How far apart the runs are, where that is longer than the cadence."
)
@click.option(
    "--fail-on",
    default="failed,stale",
    show_default=True,
    metavar="FINDINGS",
    help=f"End with exit code 6 on these: {', '.join(_FINDINGS)}; or none.",
)
@JSON
@click.pass_context
def status(
    context: click.Context, jobs: tuple[str, ...], without: tuple[str, ...], every: str, fail_on: str, as_json: bool
) -> None:
    """Show how each job is, the worst first, and what to do about it.

    behind is how long ago a job's facts end. That is fine up to its cadence and one distance of runs; then it is late,
    and one distance later stale. whole is how much of its time line is there; holes were asked for and not there yet,
    what is lost cannot be had any more.

    \b
      backsight status
      backsight status --job 'prices:*' --every 15m
      backsight status --fail-on failed,stale,lost --json
    """
    import os
    from dataclasses import replace

    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake

    from backsight_ingest.gaps import chooser
    from backsight_ingest.layout import duration
    from backsight_ingest.remedies import remedies
    from backsight_ingest.status import survey

    alarms = _alarms(fail_on)
    workspace: Workspace = context.obj
    now = utc_now()
    found = survey(Lake(workspace.lake), now=now, every=duration(every), wanted=chooser(jobs, without))
    _known([each.job for each in found], jobs)
    program = _program(context)
    todo = {
        each.job: [
            replace(one, command=one.command.replace("backsight", program, 1)) for one in remedies(each, os.environ)
        ]
        for each in found
    }
    if as_json:
        print_json({"at": now, "jobs": [_status_document(each, todo[each.job]) for each in found]})
    else:
        _print_statuses(found, now)
        for each in found:
            # The worst is enough where many jobs are shown.
            for remedy in todo[each.job] if jobs else todo[each.job][:1]:
                click.echo(f"\n{each.job}: {_shown(remedy.why)}\n  {remedy.command}")
    wrong = [each for each in found if alarms & set(each.findings)]
    if not found:
        raise NeedsAttention("--without leaves no job" if without else f"nothing was ever pulled into {workspace.lake}")
    if wrong:
        named = ", ".join(f"{each.job} ({each.state})" for each in wrong[:_FEW])
        more = f" and {len(wrong) - _FEW} more" if len(wrong) > _FEW else ""
        raise NeedsAttention(f"{len(wrong)} of {len(found)} jobs need attention: {named}{more}")


@click.command()
@JOB
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Gaps of a table at most.")
@JSON
@click.pass_obj
def gaps(workspace: Workspace, jobs: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show every stretch of time that is not whole, the latest first, and how much that is of each job.

    A hole was asked for and not there; a run asks for it again once its time has come. What is lost, the source does
    not give any more. What is unasked lies between parts that were asked for: --since of the pull fills it in.

    \b
      backsight gaps
      backsight gaps --job 'prices:kraken:*' --json
    """
    from backsight_features.lake import Lake

    from backsight_ingest.gaps import chooser, time_lines

    found = time_lines(Lake(workspace.lake), chooser(jobs))
    _known(list(found), jobs)
    if as_json:
        print_json({"jobs": [_line_document(line) for line in found.values()]})
    elif found:
        _print_gaps(list(found.values()), limit)
    else:
        click.echo("no live source was ever pulled")


def _alarms(text: str) -> set[str]:
    names = set() if text == "none" else set(text.split(","))
    if unknown := sorted(names - set(_FINDINGS)):
        raise BadInput(f"--fail-on {unknown[0]!r} is no finding; write some of {','.join(_FINDINGS)}, or none")
    return names


def _known(names: Sequence[str], patterns: Sequence[str]) -> None:
    from fnmatch import fnmatchcase

    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BadInput(f"--job {pattern}: no such job; backsight status names them all")


def _program(context: click.Context) -> str:
    """Return how the command was called, with the places that were given by options."""
    import shlex

    root = context.find_root()
    given = [
        (f"--{name}", str(root.params[name]))
        for name in ("home", "tables")
        if root.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    return shlex.join(["backsight", *(word for pair in given for word in pair)])


def _shown(why: str) -> str:
    return why if len(why) <= _LONGEST else f"{why[:_LONGEST]}…"


def _print_statuses(found: Sequence["Status"], now: "datetime") -> None:
    from backsight_ingest.live.coverage import HOLE, LOST

    rows = [
        [
            each.job,
            each.state,
            "" if each.behind is None else lasting(each.behind),
            "" if each.line is None or each.line.share is None else f"{100 * each.line.share:.2f} %",
            _total(each.line, HOLE),
            _total(each.line, LOST),
            f"{sum(rows for _, rows in each.waiting):,}" if each.waiting else "",
            _last(each, now),
        ]
        for each in found
    ]
    table(["job", "state", "behind", "whole", "holes", "lost", "waiting", "last run"], rows)


def _total(line: "TimeLine | None", status: str) -> str:
    return lasting(line.total(status)) if line is not None and line.total(status) else ""


def _last(each: "Status", now: "datetime") -> str:
    """Return how the last run ended and how long ago, and how many in a row failed."""
    if not each.runs:
        return ""
    last = each.runs[0]
    alike = next((i for i, run in enumerate(each.runs) if run.outcome != last.outcome), len(each.runs))
    times = f" {alike}x" if last.outcome == "failed" and alike > 1 else ""
    return f"{last.outcome}{times} {lasting(now - last.finished_at)} ago"


def _print_gaps(lines: Sequence["TimeLine"], limit: int) -> None:
    from backsight_ingest.live.coverage import HOLE, LOST, UNASKED

    totals = [
        [
            line.job,
            line.first or "",
            line.reached or "",
            "" if line.share is None else f"{100 * line.share:.2f} %",
            *(_total(line, status) for status in (HOLE, LOST, UNASKED)),
        ]
        for line in lines
    ]
    table(["job", "since", "reached", "whole", "holes", "lost", "unasked"], totals)
    every = sorted((gap for line in lines for gap in line.gaps), key=lambda gap: gap.since, reverse=True)
    rows = [
        [
            gap.job,
            gap.status,
            gap.since,
            gap.until,
            lasting(gap.length),
            gap.asked_at or "",
            gap.due_at or "",
            gap.reason,
        ]
        for gap in every[:limit]
    ]
    if rows:
        click.echo()
        table(["job", "gap", "since", "until", "length", "asked at", "again from", "reason"], rows)
    if len(every) > limit:
        click.echo(f"and {len(every) - limit:,} more; see --limit, --job and --json")


def _status_document(each: "Status", todo: "Sequence[Remedy]") -> dict[str, Any]:
    return {
        "job": each.job,
        "state": each.state,
        "findings": each.findings,
        "behind_s": None if each.behind is None else each.behind.total_seconds(),
        "line": None if each.line is None else _totals_document(each.line),
        "waiting": [{"reason": reason, "rows": rows} for reason, rows in each.waiting],
        "runs": [
            {
                "started_at": run.started_at,
                "finished_at": run.finished_at,
                "outcome": run.outcome,
                "error": run.error or None,
            }
            for run in each.runs
        ],
        "todo": [{"why": remedy.why, "command": remedy.command} for remedy in todo],
    }


def _totals_document(line: "TimeLine") -> dict[str, Any]:
    from backsight_ingest.live.coverage import HOLE, LOST, UNASKED

    return {
        "cadence_s": _seconds(line.cadence),
        "since": line.first,
        "filled": line.filled,
        "reached": line.reached,
        "share": line.share,
        "hole_s": _seconds(line.total(HOLE)),
        "lost_s": _seconds(line.total(LOST)),
        "unasked_s": _seconds(line.total(UNASKED)),
    }


def _line_document(line: "TimeLine") -> dict[str, Any]:
    return {"job": line.job, **_totals_document(line), "gaps": [_gap_document(gap) for gap in line.gaps]}


def _gap_document(gap: "Gap") -> dict[str, Any]:
    return {
        "status": gap.status,
        "since": gap.since,
        "until": gap.until,
        "length_s": _seconds(gap.length),
        "reason": gap.reason or None,
        "asked_at": gap.asked_at,
        "due_at": gap.due_at,
    }


def _seconds(length: "timedelta") -> float:
    return length.total_seconds()
