"""What was seen to be deleted at its site is found, and nothing else."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features.cli import cli
from backsight_features.lake import Lake
from backsight_features.purge import deleted
from backsight_features.purged import Post
from backsight_features.schemas import POSTS
from click.testing import CliRunner

T0 = datetime(2024, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HERE = "https://www.reddit.com/r/bitcoin/comments/"

# id: text and address of each version, in the order in which they were known
VERSIONS: dict[str, list[tuple[str | None, str | None]]] = {
    "removed": [("a text", HERE), (None, None)],
    "removed-link": [(None, "https://example.com"), (None, None)],
    "edited-then-removed": [("a text", HERE), ("another", HERE), (None, None)],
    "edited": [("a text", HERE), ("another", HERE)],
    "link": [(None, "https://example.com")],
    "emptied": [("a text", HERE), (None, HERE)],
    "never-more-than-a-title": [(None, None)],
    "back-again": [("a text", HERE), (None, None), ("the text, once more", HERE)],
}
GONE = ["edited-then-removed", "removed", "removed-link"]


def fill(lake: Lake, site: str = "reddit", channel: str = "bitcoin") -> None:
    for number in range(3):
        rows = [
            {
                "site": site,
                "channel": channel,
                "id": id,
                "title": "a title",
                "text": versions[number][0],
                "url": versions[number][1],
                "observed_at": T0,
                "available_at": T0 + timedelta(days=number),
                "available_at_estimated": False,
                "source": "test",
            }
            for id, versions in VERSIONS.items()
            if number < len(versions)
        ]
        lake.append(POSTS, pl.DataFrame(rows, schema=dict(POSTS.columns)), now=NOW)


def test_the_newest_version_tells(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert deleted(lake, site="reddit") == []
    fill(lake)
    fill(lake, channel="ethereum")
    fill(lake, site="forum")
    both = [Post(site="reddit", id=id, channel=channel) for channel in ("bitcoin", "ethereum") for id in GONE]
    assert deleted(lake, site="reddit") == both
    assert deleted(lake, site="reddit", channel="ethereum") == both[len(GONE) :]


def test_the_verb_removes_them(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    fill(lake)
    run = CliRunner()
    asked = ["--home", str(tmp_path), "purge", "--site", "reddit", "--deleted"]
    told = run.invoke(cli, [*asked, "--dry-run"], catch_exceptions=False)
    assert "posts  7 rows to be removed" in told.stdout
    told = run.invoke(cli, [*asked, "--json"], catch_exceptions=False)
    assert {one["table"]: one["rows"] for one in json.loads(told.stdout)}["posts"] == 7
    assert not set(GONE) & set(lake.scan(POSTS).collect()["id"])
    told = run.invoke(cli, asked, catch_exceptions=False)
    assert told.stdout == "nothing was seen to be deleted\n"


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_the_verb_has_to_be_told_which_posts(options: list[str], tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["--home", str(tmp_path), "purge", "--site", "reddit", *options])
    assert told.exit_code == 2
    assert "say which posts: --id, or --deleted" in told.stderr
