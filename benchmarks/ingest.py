"""A dump into the lake, beside the barest reading of the same file: in turn, in processes of their own, in one run.

`csv`: minute bars of one symbol; polars reads the file and writes it as Parquet. A pull also checks every row, keeps
what is bad, compares with what is stored and commits; a second pull of the same file has nothing to do. `posts`: Reddit
submissions of 45 fields, JSON lines in zst; msgspec decodes the seven fields that are read, and nothing is written.

`lake`: appends, replays and a commit a minute beside bare `write_deltalake`; see lake.py.

Usage: python benchmarks/ingest.py [csv|posts|lake ...] [--rows 5000000] [--posts 500000] [--rounds 3]
"""

import argparse
import io
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START = datetime(2015, 1, 1, tzinfo=UTC)
LAYOUT = """
about = "Minute bars of a benchmark"
kind = "bars"
files = ["*.csv"]

[columns]
observed_at = "datetime"
open = "open"
high = "high"
low = "low"
close = "close"
volume = "volume"

[constants]
venue = "bench"
symbol = "BTC-USD"
timeframe = "1m"

[observed]
stamp = "open"
formats = ["%Y-%m-%d %H:%M:%S"]

[available]
lag = "15s"
"""
READ = ("id", "subreddit", "created_utc", "edited", "title", "selftext", "url")
WORDS = [*(Path(__file__).read_text().partition("import")[0].split()), "\u20ac", "it\u2019s", "\U0001f680"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Engines that do with one file what each can, the barest first.

    Parameters
    ----------
    file : str
        The name of what is read.
    write : callable
        Writes it, of so many rows.
    engines : mapping of str to callable
        From the folder to how many rows were read.
    """

    file: str
    write: Callable[[Path, int], None]
    engines: Mapping[str, Callable[[Path], int]]


def pulled(folder: Path, layout: str, file: str) -> int:
    """Return how many rows a pull of a file has read."""
    from backsight_features.clocks import utc_now
    from backsight_features.lake import Lake
    from backsight_ingest.layouts import load
    from backsight_ingest.pull import pull

    accounts, _ = pull(
        Lake(folder / "lake"), load(layout), [folder / file], settings={}, now=utc_now(), tell=lambda account: None
    )
    assert accounts[0].error is None, accounts[0].error
    return sum(account.read for account in accounts)


def write_bars(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(7)
    close = 10_000 * np.exp(np.cumsum(rng.normal(scale=1e-4, size=rows)))
    opened = np.append(close[:1], close[:-1])
    pl.DataFrame(
        {
            "datetime": pl.datetime_range(START, START + timedelta(minutes=rows - 1), "1m", eager=True).dt.strftime(
                "%Y-%m-%d %H:%M:%S"
            ),
            "open": opened,
            "high": np.maximum(opened, close) * 1.0001,
            "low": np.minimum(opened, close) * 0.9999,
            "close": close,
            "volume": rng.lognormal(size=rows),
        }
    ).write_csv(folder / "bars.csv", float_precision=4)
    (folder / "bench.toml").write_text(LAYOUT)


def bare_csv(folder: Path) -> int:
    frame = pl.scan_csv(folder / "bars.csv", try_parse_dates=True)
    frame.sink_parquet(folder / "bars.parquet")
    return pl.scan_parquet(folder / "bars.parquet").select(pl.len()).collect().item()


def pull_csv(folder: Path) -> int:
    return pulled(folder, str(folder / "bench.toml"), "bars.csv")


def post(number: int, rng: random.Random) -> dict[str, object]:
    """Return a submission with the fields of those of Pushshift; six in ten have a text, one in ten was edited."""
    created = 1_500_000_000 + 3 * number
    key = np.base_repr(10**8 + number, 36).lower()
    link = f"/r/Bitcoin/comments/{key}/a_title/"
    text = " ".join(rng.choices(WORDS, k=rng.randrange(10, 150))) if rng.random() < 0.6 else ""
    return {
        "archived": False, "author": f"someone{number % 9999}", "author_flair_css_class": None,
        "author_flair_text": None, "brand_safe": True, "can_gild": True, "contest_mode": False, "created_utc": created,
        "distinguished": None, "domain": "self.Bitcoin", "edited": created + 600.0 if rng.random() < 0.1 else False,
        "gilded": 0, "hidden": False, "hide_score": False, "id": key, "is_crosspostable": True,
        "is_reddit_media_domain": False, "is_self": bool(text), "is_video": False, "link_flair_css_class": None,
        "link_flair_text": None, "locked": False, "media": None, "media_embed": {}, "name": f"t3_{key}",
        "num_comments": rng.randrange(500), "num_crossposts": 0, "over_18": False, "parent_whitelist_status": "all_ads",
        "permalink": link, "pinned": False, "retrieved_on": created + 86_400, "score": rng.randrange(3000),
        "secure_media": None, "secure_media_embed": {}, "selftext": text, "send_replies": True, "spoiler": False,
        "stickied": False, "subreddit": "Bitcoin", "subreddit_id": "t5_2s3qj", "suggested_sort": None,
        "thumbnail": "self", "title": " ".join(rng.choices(WORDS, k=rng.randrange(4, 15))),
        "url": f"https://www.reddit.com{link}", "whitelist_status": "all_ads",
    }  # fmt: skip


def write_posts(folder: Path, rows: int) -> None:
    import zstandard

    rng = random.Random(7)
    with zstandard.open(folder / "RS_2017-07.zst", "wt", encoding="utf-8") as sink:
        for number in range(rows):
            sink.write(json.dumps(post(number, rng), ensure_ascii=False, separators=(",", ":")) + "\n")


def bare_posts(folder: Path) -> int:
    import msgspec
    import zstandard

    record = msgspec.defstruct("Record", [(name, Any) for name in READ], gc=False)
    decoder = msgspec.json.Decoder(record)
    found = 0
    with io.BufferedReader(zstandard.open(folder / "RS_2017-07.zst", "rb")) as text:
        while lines := text.read(2**20) + text.readline():
            found += len(decoder.decode_lines(lines))
    return found


def pull_posts(folder: Path) -> int:
    return pulled(folder, "pushshift-posts", "RS_2017-07.zst")


SECTIONS = {
    "csv": Section(
        file="bars.csv",
        write=write_bars,
        engines={"polars to Parquet": bare_csv, "first pull": pull_csv, "second pull": pull_csv},
    ),
    "posts": Section(
        file="RS_2017-07.zst",
        write=write_posts,
        engines={"msgspec, decoding only": bare_posts, "first pull": pull_posts, "second pull": pull_posts},
    ),
}


def one(section: str, engine: str, folder: Path) -> None:
    """Print what an engine takes in this process, loading its libraries included."""
    begin, spent = time.perf_counter(), time.process_time()
    rows = SECTIONS[section].engines[engine](folder)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gb": peak, "rows": rows}))


def compare(name: str, folder: Path, rows: int, rounds: int) -> None:
    """Print what the engines take, the best of some rounds, and how that compares with the first of them."""
    section = SECTIONS[name]
    section.write(folder, rows)
    print(f"\n{name}: {rows:,} rows, {(folder / section.file).stat().st_size / 2**20:.0f} MB")
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in section.engines}
    for number in range(rounds):
        here = folder / str(number)
        here.mkdir()
        for file in folder.glob("*.*"):
            (here / file.name).symlink_to(file)
        for engine in section.engines:
            command = [sys.executable, __file__, "--one", name, engine, str(here)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[engine].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'engine':<24} {'seconds':>8} {'x first':>8} {'CPU s':>8} {'GB':>6} {'rows read':>10} {'rows / CPU s':>13}")
    first = min(each["seconds"] for each in found[next(iter(found))])
    for engine, each in found.items():
        best = min(each, key=lambda got: got["seconds"])
        cpu = min(got["cpu"] for got in each)
        print(
            f"{engine:<24} {best['seconds']:>8.2f} {best['seconds'] / first:>8.2f} {cpu:>8.2f} {best['gb']:>6.2f}"
            f" {best['rows']:>10,} {best['rows'] / cpu:>13,.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", metavar="SECTION", help="csv, posts or lake; all if none is named")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--posts", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("SECTION", "ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one[0], chosen.one[1], Path(chosen.one[2]))
        return
    names = (*SECTIONS, "lake")
    if unknown := [name for name in chosen.what if name not in names]:
        parser.error(f"no section {unknown[0]}; there is {', '.join(names)}")
    for name in chosen.what or names:
        if name == "lake":
            subprocess.run([sys.executable, str(Path(__file__).with_name("lake.py"))], check=True)
            continue
        with tempfile.TemporaryDirectory() as folder:
            compare(name, Path(folder), chosen.posts if name == "posts" else chosen.rows, chosen.rounds)


if __name__ == "__main__":
    main()
