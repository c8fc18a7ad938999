"""Texts that nobody meant to be scored: each is scored or left out, alone and beside others, and none stops a run."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from backsight_features.lake import Lake
from backsight_features.schemas import NEWS, SCORES
from backsight_ingest.scoring.engine import score
from backsight_ingest.scoring.models import from_folder

NOW = datetime(2024, 6, 1, tzinfo=UTC)

HOSTILE = {
    "empty": "",
    "blank": " \n\t ",
    "a megabyte of one word": "up" * 500_000,
    "a megabyte of words": "up down " * 125_000,
    "a megabyte of sentences": "up down. " * 111_111,
    "only emoji": "\U0001f680" * 50,
    "only marks": "?!" * 1000,
    "NULs": "\x00up\x00 down\x00",
    "controls": "".join(map(chr, range(32))) + "up",
    "half a surrogate pair in JSON": "\ufffd up \ufffd",
    "right to left": "\u202eup \u0645\u0631\u062d\u0628\u0627\u202c",
    "a zero width wall": "\u200b" * 10_000 + "flat",
    "combining marks": "u\u0301" * 5_000,
    "removed": "[removed]",
    "markup": "<script>alert(1)</script> up",
    "not a template": "{0} %s ${HOME} up",
}
LEFT_OUT = {"empty", "blank", "only marks", "removed", "right to left", "combining marks"}


def _news(names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": names,
            "publisher": None,
            "title": "flat",
            "text": [HOSTILE[name] for name in names],
            "url": None,
            "observed_at": NOW,
            "available_at": NOW,
            "available_at_estimated": False,
            "source": "test",
        },
        schema=NEWS.columns,
    )


@pytest.fixture
def scores(tmp_path: Path, tiny_model):
    """Return what becomes of news when they are scored."""
    scorer = from_folder(tiny_model.write(tmp_path / "tiny"), cache=tmp_path)

    def scored(names: list[str], where: str) -> pl.DataFrame:
        lake = Lake(tmp_path / where)
        lake.append(NEWS, _news(names), now=NOW)
        score(lake, scorer, now=NOW)
        return lake.scan(SCORES).sort("text_id").collect()

    return scored


def test_hostile_texts_are_scored_or_left_out_whatever_is_beside_them(scores) -> None:
    found = scores(list(HOSTILE), "all")
    # The title is said again behind the wall.
    assert found.height == len(HOSTILE) - len(LEFT_OUT)
    assert np.isfinite(found.select("p_positive", "p_negative", "p_neutral").to_numpy()).all()
    assert found["unread"].max() == 111_111 - 128
    alone = pl.concat([scores([name], name) for name in HOSTILE.keys() - LEFT_OUT]).unique("text_id").sort("text_id")
    assert found.equals(alone)
