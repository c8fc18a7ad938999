"""Pulls, upkeep and a watch with Dagster: an op is a command line, and its exit code says what Dagster does.

Secrets and BACKSIGHT_HOME come from the environment of the code location; the command lines hold none.
"""

import shlex
import subprocess

from dagster import Definitions, Failure, OpExecutionContext, RetryRequested, ScheduleDefinition, job, op

BUSY = 75
"""Another run of the job is going on: nothing is left to do."""

FINAL = {2, 3, 5, 6}
"""Nothing gets better before a person does something; what is left, such as 4, is tried again."""

HOURLY = {
    "prices": "backsight pull prices --exchange binance --symbol BTC/USDT --symbol ETH/USDT --timeframe 1h",
    "reddit": "backsight pull reddit --subreddit bitcoin",
    "news": "backsight pull news --feed https://news.example/feed.rss",
    "macro": "backsight pull macro --series CPIAUCSL --series DGS10",
}
WATCH = "backsight status --every 15m"
DAILY = "backsight maintain"


def run(context: OpExecutionContext, command: str) -> None:
    """Run a command line of backsight, again later where that may help."""
    done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    context.log.info(done.stdout)
    if done.returncode in (0, BUSY):
        return
    said = f"{command}: exit code {done.returncode}: {done.stdout.strip().rpartition(chr(10))[2]}"
    if done.returncode in FINAL:
        raise Failure(said, allow_retries=False)
    raise RetryRequested(max_retries=3, seconds_to_wait=300) from Failure(said)


def backsight(name: str, command: str):
    """Return an op that runs a command line."""

    @op(name=name)
    def running(context: OpExecutionContext) -> None:
        run(context, command)

    return running


@job
def backsight_hourly() -> None:
    """Pull everything."""
    for name, command in HOURLY.items():
        backsight(name, command)()


@job
def backsight_watch() -> None:
    """Fail where jobs need attention."""
    backsight("status", WATCH)()


@job
def backsight_daily() -> None:
    """Keep the lake fast."""
    backsight("maintain", DAILY)()


defs = Definitions(
    jobs=[backsight_hourly, backsight_watch, backsight_daily],
    schedules=[
        ScheduleDefinition(job=backsight_hourly, cron_schedule="1 * * * *"),
        ScheduleDefinition(job=backsight_watch, cron_schedule="*/10 * * * *"),
        ScheduleDefinition(job=backsight_daily, cron_schedule="40 3 * * *"),
    ],
)
