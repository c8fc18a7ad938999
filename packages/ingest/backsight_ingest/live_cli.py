"""What the verbs that pull live sources share: their options, and how a run of theirs looks."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
from backsight_features.errors import BadInput
from backsight_features.masking import masked
from backsight_features.options import JSON
from backsight_features.workspace import Workspace

if TYPE_CHECKING:
    from backsight_ingest.live.job import Job, Plan
    from backsight_ingest.live.pull import Step
    from backsight_ingest.live.web import Web

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the shared options say."""

    since: str | None
    until: str | None
    dry_run: bool
    rate: float | None
    deadline: float
    endpoint: str | None
    as_json: bool


def live(command: F) -> F:
    """Give a verb the shared options, as one argument ``run``."""

    def gathered(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in Run.__dataclass_fields__}
        return command(*args, run=Run(**given), **kwargs)

    wrapped: Any = gathered
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = getattr(command, "__click_params__", [])
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


_OPTIONS = (
    click.option("--since", metavar="INSTANT", help="Fill in what was never asked for from here on: 2024-01-01."),
    click.option("--until", metavar="INSTANT", help="Ask for nothing from here on."),
    click.option("--dry-run", is_flag=True, help="Say what would be asked for; ask nobody and write nothing."),
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="Requests a second to one host, instead of what the source is known to allow.",
    ),
    click.option(
        "--deadline",
        type=click.FloatRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Of one call to a source with all its retries.",
    ),
    click.option(
        "--endpoint",
        metavar="URL",
        envvar="BACKSIGHT_ENDPOINT",
        help="Ask this address instead of the sources' own; also BACKSIGHT_ENDPOINT.",
    ),
    JSON,
)


def execute(workspace: Workspace, run: Run, make: Callable[["Web"], Sequence["Job"]]) -> None:
    """Make the jobs and run them; the exit code is that of the last one that failed.

    Parameters
    ----------
    workspace : Workspace
        Where to.
    run : Run
        What the options say.
    make : callable
        Given the way to the sources, returns the jobs.
    """
    from backsight_features.clocks import parse_instant
    from backsight_features.lake import Lake

    from backsight_ingest.live.clock import Clock, signals
    from backsight_ingest.live.limiter import Limiter
    from backsight_ingest.live.pull import plan, pull
    from backsight_ingest.live.retry import Retry
    from backsight_ingest.live.web import Web
    from backsight_ingest.output import fail, print_accounts, print_json

    since = None if run.since is None else parse_instant(run.since)
    until = None if run.until is None else parse_instant(run.until)
    if since is not None and until is not None and since >= until:
        raise BadInput(f"--since {run.since} does not lie before --until {run.until}")
    clock, lake = Clock(), Lake(workspace.lake)
    with _progress() as (tell, say):
        web = Web(
            clock=clock,
            retry=Retry(clock, deadline=timedelta(seconds=run.deadline), tell=lambda line: say(masked(line))),
            limiter=Limiter(clock),
            interval=None if run.rate is None else timedelta(seconds=1 / run.rate),
            endpoint=_address(run.endpoint),
        )
        jobs = make(web)
        if run.dry_run:
            plans = [plan(lake, job, since=since, until=until, now=clock.now()) for job in jobs]
        else:
            with signals(clock):
                accounts = pull(
                    lake, jobs, locks=workspace.root / "locks", clock=clock, since=since, until=until, tell=tell
                )
    if run.dry_run:
        _print_plans(jobs, plans, run.as_json)
        return
    if run.as_json:
        print_json({"jobs": [account.as_dict() for account in accounts]})
    else:
        print_accounts(accounts, "job")
    fail(accounts)


def _address(endpoint: str | None) -> str | None:
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise BadInput(f"--endpoint {endpoint!r} is no address; write http://127.0.0.1:8080")
    return None if endpoint is None else endpoint.rstrip("/")


@contextmanager
def _progress() -> Iterator[tuple[Callable[["Step"], None], Callable[[str], None]]]:
    """Yield what is told of each page, and of each wait; it is shown while a person watches."""
    if not sys.stderr.isatty():
        yield lambda step: None, lambda line: click.echo(line, err=True)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    with console.status("asking") as shown:

        def tell(step: "Step") -> None:
            account, at = step.account, ""
            if step.reached is not None and step.goal is not None:
                at = f" {step.reached:%Y-%m-%d %H:%M} of {step.goal:%Y-%m-%d %H:%M},"
            shown.update(
                f"{escape(account.origin)}:{at} {account.read:,} rows, {account.accepted:,} new, "
                f"{account.quarantined:,} in quarantine"
            )

        yield tell, lambda line: console.print(line, markup=False, highlight=False)


def _print_plans(jobs: Sequence["Job"], plans: Sequence["Plan"], as_json: bool) -> None:
    from backsight_features.clocks import from_us

    from backsight_ingest.output import print_json, table

    rows: list[tuple[str, str, datetime, datetime]] = []
    for job, each in zip(jobs, plans, strict=True):
        spans = [("go on", each.forward)] if each.forward is not None else []
        spans += [("ask again", span) for span in each.again] + [("fill in", span) for span in each.backfill]
        rows += [(job.name, why, from_us(span.start), from_us(span.stop)) for why, span in spans]
    names = ["job", "why", "since", "until"]
    if as_json:
        print_json({"asked": [dict(zip(names, row, strict=True)) for row in rows]})
    elif rows:
        table(names, rows)
    else:
        click.echo("nothing to ask for")
