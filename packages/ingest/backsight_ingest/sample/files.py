"""The raw files of the world, as their publishers' users have them, with the faults of real ones."""

import csv
import gzip
import io
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl

from backsight_ingest.sample.dirt import Dirty, gaps, spoil
from backsight_ingest.sample.draws import draws
from backsight_ingest.sample.macro import Macro
from backsight_ingest.sample.phrases import FOREIGN
from backsight_ingest.sample.prices import Bars
from backsight_ingest.sample.writing import Written

_GAPS: Final = (3, 5, 2, 30, 4, 2)


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of the world.

    Parameters
    ----------
    name : str
        Its path below the world's folder.
    content : bytes
        As written, gzip where the name ends in .gz.
    lines : int
        Lines of data, sound or not.
    layout : str
        Name of the layout that reads it.
    rejected, repeated : int
        Lines that are no facts, and lines that say nothing new.
    faults : dict of str to int
        What is wrong or peculiar in how many of them.
    """

    name: str
    content: bytes
    layout: str
    lines: int
    rejected: int
    repeated: int
    faults: dict[str, int]


def bars(seed: int, made: Bars, zero: datetime, first: int) -> File:
    """Return the hourly bars from hour ``first`` on as comma separated text, stamped at their open.

    Parameters
    ----------
    seed : int
        Of the world.
    made : Bars
        Of the hours from ``zero`` on.
    zero : datetime
        Start of hour 0.
    first : int
        Index of the first hour that is written.
    """
    rng = draws(seed, "faults of bars")
    hours = len(made.close) - first
    kept = gaps(rng, hours, _GAPS)
    at = np.datetime64(zero.replace(tzinfo=None), "us") + np.arange(first, first + hours) * np.timedelta64(1, "h")
    table = pl.DataFrame(
        {
            "datetime": pl.Series(at).dt.strftime("%Y-%m-%d %H:%M:%S"),
            "open": made.open[first:],
            "high": made.high[first:],
            "low": made.low[first:],
            "close": made.close[first:],
            "volume": made.volume[first:],
        }
    ).filter(kept)
    header, *lines = table.write_csv().splitlines()
    dirty = spoil(
        rng,
        lines,
        {
            "price is nan": (2, lambda line: _cell(line, 1, "nan")),
            "high below low": (2, lambda line: _cell(line, 2, "1.0")),
            "price is no number": (2, lambda line: _cell(line, 4, "n/a")),
            "line cut short": (2, lambda line: line[: line.index(",", 25)]),
        },
        repeats=6,
    )
    faults = {"missing hours": int((~kept).sum()), "gaps": len(_GAPS)}
    return _file("bars/BTCUSDT_1h.csv.gz", "binance-1h", dirty, faults, header=header)


def news(seed: int, written: Written) -> File:
    """Return the articles as semicolon separated text, newest first."""
    header, *lines = written.rows.reverse().write_csv(separator=";").splitlines()
    dirty = spoil(
        draws(seed, "faults of news"),
        lines,
        {
            "line cut short": (3, lambda line: line[: line.index(";", 20)]),
            "date is no date": (5, lambda line: _cell(line, 0, "yesterday", ";")),
            "neither title nor text": (2, lambda line: _cell(_cell(line, 4, "", ";"), 5, "", ";")),
        },
        repeats=len(lines) // 120,
    )
    return _file("news/cryptonews.csv.gz", "cryptonews", dirty, written.counts, header=header)


def posts(seed: int, written: pl.DataFrame) -> list[File]:
    """Return the posts as JSON lines, a file per channel."""
    made = []
    for (channel,), rows in written.group_by("subreddit", maintain_order=True):
        lines = rows.write_ndjson().splitlines()
        dirty = spoil(
            draws(seed, f"faults of {channel}"),
            lines,
            {
                "line cut short": (2, lambda line: line[:40]),
                "created is nan": (2, lambda line: re.sub(r'("created_utc":)[0-9.]+', r'\1"nan"', line)),
            },
            repeats=len(lines) // 100,
        )
        text, title = pl.col("selftext"), pl.col("title")
        delay = pl.col("first_seen_utc").str.to_datetime("%Y-%m-%dT%H:%M:%SZ").dt.epoch("s") - pl.col("created_utc")
        peculiar = {
            "removed": text == "[removed]",
            "link only": text == "",
            "late": delay > 3600,
            "in another language": title.str.contains_any([each.split("{n}")[0] for each in FOREIGN]),
        }
        counts = {name: rows.filter(which).height for name, which in peculiar.items()}
        made.append(_file(f"posts/{str(channel).lower()}_posts.jsonl.gz", "reddit-first-seen", dirty, counts))
    return made


def macro(series: Macro) -> list[File]:
    """Return the monthly series with their vintages in one file, and each daily one in its own."""
    header, *lines = series.vintages.write_csv().splitlines()
    revisions = {"revisions": series.revisions}
    made = [
        _file("macro/vintages/alfred_intervals.csv.gz", "alfred-intervals", _clean(lines), revisions, header=header)
    ]
    for name, table in series.daily.items():
        header, *lines = table.write_csv().splitlines()
        empty = {"empty": table["value"].null_count()}
        made.append(_file(f"macro/daily/{name}.csv", "fred-date-value", _clean(lines), empty, header=header))
    return made


def fear_and_greed(table: pl.DataFrame) -> File:
    """Return the index as comma separated text with a nameless first column."""
    header, *lines = table.write_csv().splitlines()
    return _file("index/fear_and_greed.csv", "fear-greed", _clean(lines), {}, header=header.replace('""', ""))


def _cell(line: str, at: int, value: str, separator: str = ",") -> str:
    """Return a line with one cell replaced."""
    cells = next(csv.reader([line], delimiter=separator))
    cells[at] = value
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(cells)
    return out.getvalue()


def _clean(lines: list[str]) -> Dirty:
    return Dirty(lines=lines, counts={}, rejected=0, repeated=0)


def _file(name: str, layout: str, dirty: Dirty, peculiar: dict[str, int], *, header: str | None = None) -> File:
    lines = dirty.lines if header is None else [header, *dirty.lines]
    content = ("\n".join(lines) + "\n").encode()
    return File(
        name=name,
        # The time in the header of gzip would make each run's bytes differ.
        content=gzip.compress(content, mtime=0) if name.endswith(".gz") else content,
        layout=layout,
        lines=len(dirty.lines),
        rejected=dirty.rejected,
        repeated=dirty.repeated,
        faults=peculiar | dirty.counts,
    )
