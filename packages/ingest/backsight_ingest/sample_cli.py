"""``backsight sample``: a made-up world as raw files."""

from datetime import datetime
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), required=True, help="The same seed gives the same bytes.")
@click.option("--days", type=click.IntRange(min=40), default=540, show_default=True, help="Days of hourly bars.")
@click.option(
    "--end",
    type=click.DateTime(["%Y-%m-%d"]),
    default="2024-06-30",
    show_default=True,
    help="The last bar closes at this midnight UTC.",
)
@click.option("--no-signal", is_flag=True, help="Texts and macro series move nothing; all else stays the same.")
def sample(folder: Path, seed: int, days: int, end: datetime, no_signal: bool) -> None:
    """Write a made-up world into FOLDER, new or empty: raw files of bars, news, posts and macro series.

    FOLDER/manifest.json says which relation is planted in it, how well it can be foreseen at best, and which faults
    the files have.

    \b
      backsight sample world --seed 7
      backsight sample noise --seed 7 --no-signal
    """
    from backsight_ingest.sample.world import world

    made = world(seed=seed, days=days, end=end.date(), signal=not no_signal)
    made.write(folder)
    direction = made.manifest["best_reachable"]["direction"]["bayes_accuracy"]
    click.echo(
        f"{folder}: {len(made.files)} files of {days} days; at best {direction:.1%} of daily moves can be foreseen"
    )
