"""Windows in the file of Feast's SQLite online store."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backsight_features.errors import BadInput, Busy, Missing, SourceError
from backsight_features.masking import masked
from backsight_features.online import contract, packed
from backsight_features.online.contract import CONTRACT, PACKED
from backsight_features.online.feast_format import entity_key

_TIMEOUT_SECONDS: Final = 2.0
_MOST_BYTES: Final = max(packed.LARGEST, contract.LARGEST) + 8


class SqliteShelf:
    """The windows of a Feast project in one database file; safe to share between threads.

    Parameters
    ----------
    path : Path
        The file.
    project : str
        The project of the feature repo.

    Raises
    ------
    BadInput
        If there is no such file, or it cannot be opened.
    """

    def __init__(self, path: Path, project: str) -> None:
        self._path = path
        self._project = project
        # While one reading goes on, others on the same connection see what was there when it began.
        self._alone = threading.Lock()
        try:
            # Not read-only: a reader that finds the journal of a killed writer has to be able to roll it back.
            self._database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=_TIMEOUT_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._database.execute("PRAGMA query_only = 1")
        except sqlite3.Error as error:
            # It may be a connection string that names no server.
            where = masked(str(path))
            raise BadInput(f"no online store at {where}: {error}; run `backsight apply`") from error

    def __repr__(self) -> str:
        return f"<SQLite at {self._path}, project {self._project}>"

    def read(self, view: str, symbols: Sequence[str]) -> list[bytes | None]:
        """Return the ``Value`` of the packed window of every symbol, or None, by one query.

        Raises
        ------
        Missing
            If there is no table for the view.
        Busy
            If a writer holds the file for 2 seconds.
        SourceError
            If the file cannot be read.
        """
        found = self._rows(view, symbols, [PACKED])
        return [found.get((entity_key(symbol), PACKED)) for symbol in symbols]

    def read_both(self, view: str, symbols: Sequence[str]) -> list[tuple[bytes | None, bytes | None]]:
        """Return the ``Value`` of the packed window and of the contract of every symbol; errors as in `read`."""
        found = self._rows(view, symbols, [PACKED, CONTRACT])
        keys = [entity_key(symbol) for symbol in symbols]
        return [(found.get((key, PACKED)), found.get((key, CONTRACT))) for key in keys]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _rows(self, view: str, symbols: Sequence[str], fields: Sequence[str]) -> dict[tuple[bytes, str], bytes]:
        table = f"{self._project}_{view}".replace('"', '""')
        keys, names = (", ".join("?" * len(of)) for of in (symbols, fields))
        # The size is asked of the row's header, before the value is read.
        query = (
            f"SELECT entity_key, feature_name, CASE WHEN length(value) <= {_MOST_BYTES} THEN value ELSE x'00' END "
            f'FROM "{table}" WHERE entity_key IN ({keys}) AND feature_name IN ({names})'
        )
        with self._named(view), self._alone:
            rows = self._database.execute(query, [*map(entity_key, symbols), *fields]).fetchall()
        return {(key, name): value for key, name, value in rows}

    @contextmanager
    def _named(self, view: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise Missing(f"{self._path} has no place for {view}; run `backsight apply`") from error
            if "locked" in str(error):
                raise Busy(f"{self._path} is held by another process: {error}") from error
            raise SourceError(f"{self._path} cannot be read: {error}") from error
