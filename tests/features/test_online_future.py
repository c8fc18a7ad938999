"""No window, offline or online, changes with facts that became known later: from the lake to what a service reads."""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.clocks import UTC_US
from backsight_features.lake import Lake
from backsight_features.online import connect
from backsight_features.schemas import FACTS
from backsight_features.snapshot import Snapshot
from backsight_features.workspace import Workspace

Frames = Mapping[str, pl.DataFrame]
HOUR = timedelta(hours=1)
SERVICE, SYMBOL, LENGTH = "forecast_1h", "BTC-USD", 36
FACTS_END = datetime(2026, 1, 1, tzinfo=UTC)


class Desk:
    """Everything from facts in a lake to windows in an online store, in a folder of its own."""

    def __init__(self, root: Path, facts: Frames) -> None:
        from backsight_features.store import Store

        self.workspace = Workspace(root=root)
        lake = Lake(self.workspace.lake)
        for name, frame in facts.items():
            lake.append(FACTS[name], frame.drop("ingested_at"), now=FACTS_END)
        build(Snapshot.take(lake), self.workspace.features, [BarSeries.parse(f"v:{SYMBOL}:1h")])
        repo = root / "feature_repo"
        project = Path(__file__).resolve().parents[2] / "feature_repo"
        shutil.copytree(project, repo, ignore=shutil.ignore_patterns("__pycache__"))
        self.store = Store(repo, self.workspace)
        self.store.apply()

    def published(self, at: datetime) -> dict[str, bytes]:
        """Publish as of an instant; return what a service reads then."""
        self.store.publish(SERVICE, length=LENGTH, at=at)
        with connect(self.workspace.online / "online.db", project="backsight") as reader:
            window = reader.window(SERVICE, SYMBOL, at=at, max_age=timedelta(days=99), unfit="null")
        assert np.isfinite(window.values).any()
        return {
            "values": window.values.tobytes(),
            "mask": window.mask.tobytes(),
            "ages": window.ages.tobytes(),
            "stamps": f"{window.observed_at} {window.available_at}".encode(),
        }

    def offline(self, instants: list[datetime]) -> dict[str, bytes]:
        """Return windows as of instants, with masks and ages."""
        asked = pl.DataFrame({"symbol": [SYMBOL] * len(instants), "at": instants}).cast({"at": UTC_US})
        cut = self.store.windows(SERVICE, [SYMBOL], asked, length=LENGTH)
        return {
            "values": cut.gather().tobytes(),
            "mask": cut.mask.tobytes(),
            "ages": cut.ages().tobytes(),
            "stamps": cut.observed_at.tobytes() + cut.available_at.tobytes(),
        }


@pytest.mark.slow
def test_no_window_changes_with_what_became_known_later(tmp_path: Path, world: Any, tamper: Callable) -> None:
    facts = world(3)
    bars = facts["bars"].sort("available_at")["available_at"]
    honest = Desk(tmp_path / "honest", facts)
    random = np.random.default_rng(3)
    seen_to_change = 0
    # From the first to the last: what is online never goes back.
    for number, share in enumerate(sorted(random.uniform(0.3, 0.9, 3))):
        at = bars[int(share * len(bars))]
        other = Desk(tmp_path / f"tampered {number}", tamper(facts, at, number))
        before = [at - timedelta(minutes=int(minutes)) for minutes in random.integers(0, 200 * 60, 40)] + [at]
        assert other.offline(before) == honest.offline(before)
        assert other.published(at) == honest.published(at)
        # The check has teeth: right after the instant, the worlds are different.
        after = [at + 30 * HOUR]
        seen_to_change += other.offline(after) != honest.offline(after)
    assert seen_to_change == 3
