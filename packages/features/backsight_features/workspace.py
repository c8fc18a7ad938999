"""Where a project keeps what it writes: one folder, ``./.backsight`` unless ``BACKSIGHT_HOME`` says otherwise."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folders under one root.

    Parameters
    ----------
    root : Path
        The folder that holds them; made when something is first written.
    """

    root: Path

    @property
    def lake(self) -> Path:
        """Raw facts: append-only Delta tables."""
        return self.root / "lake"

    @property
    def features(self) -> Path:
        """Feature tables: what was known when."""
        return self.root / "features"

    @property
    def online(self) -> Path:
        """The local feature registry and online store."""
        return self.root / "online"

    @property
    def models(self) -> Path:
        """Model bundles."""
        return self.root / "models"

    @property
    def reports(self) -> Path:
        """Reports of training runs."""
        return self.root / "reports"
