"""Options that several verbs share, so that they read the same everywhere."""

from pathlib import Path
from typing import Final

import click

REPO: Final = click.option(
    "--repo",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("feature_repo"),
    show_default=True,
    help="Folder of feature_store.yaml.",
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
JOB: Final = click.option(
    "--job",
    "jobs",
    multiple=True,
    metavar="NAME",
    help="Only these jobs, as in 'prices:kraken:*'; repeatable.",
)
