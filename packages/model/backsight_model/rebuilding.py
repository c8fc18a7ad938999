"""A training set again from its manifest: features built anew from the facts that were there then."""

import tempfile
from pathlib import Path

from backsight_features.bars import BarSeries
from backsight_features.building.build import build
from backsight_features.clocks import parse_instant
from backsight_features.lake import Lake
from backsight_features.snapshot import Snapshot
from backsight_features.store import Store
from backsight_features.text import Scorer
from backsight_features.workspace import Workspace

from backsight_model.manifest import Manifest
from backsight_model.training import TrainingSet, rebuild


def from_facts(manifest: Manifest, lake: Lake, repo: Path) -> TrainingSet:
    """Return the training set that a manifest describes, from the lake as it is now.

    Feature tables are built in a folder of their own from what was ingested until then, and thrown away; those in use
    are neither read nor changed. What came in since has no part.

    Parameters
    ----------
    manifest : Manifest
    lake : Lake
        Holds at least the facts of then; what was purged since is missing.
    repo : Path
        Folder of ``feature_store.yaml``.

    Raises
    ------
    BadInput
        Where another SHA-256 comes out.
    """
    facts = Snapshot.take(lake, ingested_until=parse_instant(manifest.ingested_until))
    scorer = Scorer.parse(manifest.scorer) if manifest.scorer else None
    with tempfile.TemporaryDirectory(prefix="backsight-rebuild-") as scratch:
        workspace = Workspace(root=Path(scratch))
        build(facts, workspace.features, [BarSeries.parse(name) for name in manifest.series], scorer=scorer)
        store = Store(repo, workspace)
        store.apply()
        return rebuild(manifest, store, facts)
