"""Where a project keeps what it writes: one folder, ``./.backsight`` unless ``BACKSIGHT_HOME`` says otherwise.

The Delta tables may lie elsewhere, on an object store that a team shares: ``BACKSIGHT_TABLES``.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The places of what is written.

    Parameters
    ----------
    root : Path
        The folder that holds them; made when something is first written.
    tables : Path or str, optional
        Where lake and features are instead: a folder, or a URL as in ``s3://bucket/team``.
    """

    root: Path
    tables: Path | str | None = None

    @property
    def lake(self) -> Path | str:
        """Raw facts: append-only Delta tables."""
        return self._table_folder("lake")

    @property
    def features(self) -> Path | str:
        """Feature tables: what was known when."""
        return self._table_folder("features")

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

    @property
    def forecasts(self) -> Path:
        """The log of the forecasts that were handed out."""
        return self.root / "forecasts"

    @property
    def live(self) -> Path:
        """What the live loop last saw, as files for the page of the service."""
        return self.root / "live"

    @property
    def variables(self) -> dict[str, str]:
        """What stands for these places in the settings of a feature repo."""
        root = self.root.absolute()
        tables = self.tables.absolute() if isinstance(self.tables, Path) else self.tables or root
        return {"BACKSIGHT_HOME": str(root), "BACKSIGHT_TABLES": str(tables)}

    def _table_folder(self, name: str) -> Path | str:
        tables = self.root if self.tables is None else self.tables
        return tables / name if isinstance(tables, Path) else f"{tables.rstrip('/')}/{name}"
