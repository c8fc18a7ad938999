"""Which series are pulled where none is named, with what each is there for."""

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Final

from backsight_ingest.layout import duration
from backsight_ingest.layouts import load
from backsight_ingest.sources.macro_layouts import VINTAGES

A_MONTH: Final = timedelta(days=31)
"""How often something new is expected of a series that is not listed."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series that is pulled where none is named.

    Parameters
    ----------
    id : str
        FRED's name.
    cadence : timedelta
        How often something new comes.
    why : str
        What it is there for.
    """

    id: str
    cadence: timedelta
    why: str


@cache
def curated() -> dict[str, Series]:
    """Return the series that are pulled where none is named, by their ids."""
    text = (files("backsight_ingest") / "sources" / "macro_series.toml").read_text(encoding="utf-8")
    return {
        name: Series(id=name, cadence=duration(each["cadence"]), why=each["why"])
        for name, each in tomllib.loads(text).items()
    }


def known(series: str) -> str:
    """Return in words when a vintage of a series is known."""
    at_release = series in load(VINTAGES).published
    return "08:30 in New York" if at_release else "the end of the day in New York"
