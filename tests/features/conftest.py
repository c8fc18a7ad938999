"""A feature repo of two tables and two services in a folder of its own, over facts that a test brings."""

import importlib.util
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import backsight_features.store  # noqa: F401  # Before a test imports Feast by itself, which is slow.
import numpy as np
import polars as pl
import pytest
from backsight_features.clocks import UTC_US
from backsight_features.workspace import Workspace
from deltalake import write_deltalake

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
assert _spec
assert _spec.loader
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)


@pytest.fixture(scope="session")
def oracle() -> Any:
    """What a point-in-time join must answer."""
    return _oracle


FEATURES = {"market_1h": ("ret", "vol"), "text_1h": ("sent_y",)}
T0 = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAG = timedelta(seconds=15)


@dataclass(frozen=True, kw_only=True)
class SmallRepo:
    """A feature repo, its workspace, and where its windows are: what `connect` takes."""

    folder: Path
    workspace: Workspace
    project: str
    where: str | Path

    def store(self) -> Any:
        """Return its store; the registry must have been written."""
        return importlib.import_module("backsight_features.store").Store(self.folder, self.workspace)

    def write(self, states: pl.DataFrame, mode: str = "overwrite") -> None:
        """Make these the states of both tables, or append them."""
        for table, features in FEATURES.items():
            rows = states.select("symbol", "observed_at", "available_at", *features)
            write_deltalake(str(self.workspace.root / "features" / table), rows, mode=mode)

    def states(self, *symbols: str, hours: int, seed: int = 0) -> pl.DataFrame:
        """Return states hour by hour: bars missing, nulls, and corrections of old closes that came later."""
        random = np.random.default_rng(seed)
        closes = np.arange(hours)
        parts = []
        for symbol in symbols:
            first = closes[random.random(hours) > 0.15]
            late = random.choice(first, size=max(1, hours // 10), replace=False)
            known = [*first * 3_600_000_000 + 15_000_000]
            known += [*late * 3_600_000_000 + random.integers(1, 8 * 3_599) * 1_000_000 + 7]
            parts.append(
                pl.DataFrame({"symbol": symbol, "close": [*first, *late], "known": known}).unique(["symbol", "known"])
            )
        frame = pl.concat(parts).select(
            "symbol",
            observed_at=pl.lit(T0, UTC_US) + pl.duration(hours="close"),
            available_at=pl.lit(T0, UTC_US) + pl.duration(microseconds="known"),
        )
        return frame.with_columns(
            pl.Series(name, random.normal(size=frame.height), pl.Float32).set(
                pl.Series(random.random(frame.height) < 0.1), None
            )
            for names in FEATURES.values()
            for name in names
        )

    def one(self, hours: float = 3, symbol: str = "BTC-USD", **values: float | None) -> None:
        """Make one state that of both tables, about the close this many hours after 2024."""
        stamps = {"symbol": symbol, "observed_at": T0 + hours * HOUR, "available_at": T0 + hours * HOUR + LAG}
        schema = {"symbol": pl.String, "observed_at": UTC_US, "available_at": UTC_US}
        features = dict.fromkeys(("ret", "vol", "sent_y"), 1.0) | values
        self.write(pl.DataFrame([stamps | features], schema | dict.fromkeys(features, pl.Float32)))


@pytest.fixture
def small_repo(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., SmallRepo]:
    """Return a function that makes a `SmallRepo`: ``make("sqlite")``, ``make("redis", key_ttl_seconds=60)``."""

    def make(kind: str, **settings: object) -> SmallRepo:
        project = f"p{uuid.uuid4().hex}"
        folder, root = tmp_path / project / "repo", tmp_path / project / "a home"
        folder.mkdir(parents=True)
        shared = Path(__file__).resolve().parents[2] / "feature_repo" / "entities.py"
        (folder / "entities.py").write_bytes(shared.read_bytes())
        (folder / "views.py").write_bytes((Path(__file__).parent / "small_repo" / "views.py").read_bytes())
        where: str | Path = root / "online" / "online.db"
        online = {"type": "backsight_features.store.home.HomeSqliteOnlineStore", "path": str(where)}
        if kind == "redis":
            where = f"{request.getfixturevalue('redis_server')},db=0"
            online = {"type": "redis", "connection_string": where}
        lines = [
            f"project: {project}",
            "provider: local",
            "entity_key_serialization_version: 3",
            "registry:",
            f"  path: {root / 'registry.db'}",
            "offline_store:",
            "  type: backsight_features.store.asof.AsofOfflineStore",
            f"  root: {root}",
            "online_store:",
            *(f"  {name}: {value}" for name, value in {**online, **settings}.items()),
        ]
        (folder / "feature_store.yaml").write_text("\n".join(lines))
        for made in (root, root / "online"):
            made.mkdir(parents=True)
        return SmallRepo(folder=folder, workspace=Workspace(root=root), project=project, where=where)

    return make
