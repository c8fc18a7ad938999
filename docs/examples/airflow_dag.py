"""Pulls, upkeep and a watch with Airflow 3: a task is a command line, and its exit code says what Airflow does.

Secrets and BACKSIGHT_HOME come from the environment of the workers; the command lines hold none.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

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


class Backsight(BashOperator):
    """A command line of backsight, tried again only where that may help."""

    def __init__(self, *, command: str, retries: int = 3, **kwargs) -> None:
        super().__init__(
            bash_command=command,
            skip_on_exit_code=BUSY,
            retries=retries,
            retry_delay=timedelta(minutes=5),
            retry_exponential_backoff=True,
            **kwargs,
        )

    def execute(self, context):
        """Run it."""
        try:
            return super().execute(context)
        except AirflowSkipException:
            raise
        except AirflowException as error:
            if self.subprocess_hook.sub_process.returncode in FINAL:
                raise AirflowFailException(str(error)) from error
            raise


# No catchup: a job knows itself where it ended, and one run makes good all that were missed.
SETTINGS = {"start_date": datetime(2024, 1, 1, tzinfo=UTC), "catchup": False, "max_active_runs": 1}

with DAG("backsight_hourly", schedule="1 * * * *", **SETTINGS):
    watch = Backsight(task_id="status", command=WATCH, retries=0, trigger_rule="all_done")
    for name, command in HOURLY.items():
        Backsight(task_id=name, command=command) >> watch

with DAG("backsight_daily", schedule="40 3 * * *", **SETTINGS):
    Backsight(task_id="maintain", command=DAILY)
