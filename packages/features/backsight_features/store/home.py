"""Feast's file registry and SQLite online store at a path with a default: ``${BACKSIGHT_HOME:-../.backsight}/…``.

Relative paths start at the feature repo. Name them in ``feature_store.yaml`` only where the path needs a default;
Redis, a SQL registry and so on are Feast's own.
"""

import os
import sqlite3
import uuid
from pathlib import Path

from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.registry.file import FileRegistryStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.repo_config import RegistryConfig, RepoConfig
from feast.utils import _utc_now
from google.protobuf.message import DecodeError
from pydantic import StrictStr

from backsight_features.errors import BadInput
from backsight_features.store.settings import resolve


class HomeRegistryStore(FileRegistryStore):  # type: ignore[misc]
    """A registry file whose folder is made when needed, and which a reader never sees half written."""

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        self._filepath = Path(resolve(registry_config.path, repo_path))

    def get_registry_proto(self) -> Registry:
        """Return what the file holds.

        Raises
        ------
        BadInput
            If it holds no registry.
        """
        try:
            held: Registry = super().get_registry_proto()
        except DecodeError as error:
            raise BadInput(f"{self._filepath} is no registry ({error}); remove it and run `backsight apply`") from error
        return held

    def _write_registry(self, registry_proto: Registry) -> None:
        registry_proto.version_id = str(uuid.uuid4())
        registry_proto.last_updated.FromDatetime(_utc_now())
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._filepath.with_name(f".{self._filepath.name}.{uuid.uuid4().hex}")
        with unfinished.open("wb") as file:
            file.write(registry_proto.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._filepath)


class HomeSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):  # type: ignore[misc]
    """Settings of the online store.

    Attributes
    ----------
    path : str
        The database file.
    """

    type: StrictStr = "backsight_features.store.home.HomeSqliteOnlineStore"
    path: StrictStr = "${BACKSIGHT_HOME:-../.backsight}/online/online.db"


class HomeSqliteOnlineStore(SqliteOnlineStore):  # type: ignore[misc]
    """Feast's SQLite online store at the path of `HomeSqliteOnlineStoreConfig`."""

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if self._conn is None:
            Path(self._get_db_path(config)).parent.mkdir(parents=True, exist_ok=True)
            # A writer in this mode keeps no reader waiting, nor the other way round; the file remembers it.
            super()._get_conn(config).execute("PRAGMA journal_mode = WAL")
        connection: sqlite3.Connection = super()._get_conn(config)
        return connection

    @staticmethod
    def _get_db_path(config: RepoConfig) -> str:
        return resolve(config.online_store.path, config.repo_path)
