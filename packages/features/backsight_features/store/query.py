"""Queries for entity rows, run by DuckDB in memory: one database for each process, one connection for each query.

Nothing is downloaded for a query, and nothing of it is there for the next one.
"""

import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import duckdb
import pyarrow as pa

from backsight_features.errors import BadInput


def run(query: str, tables: Mapping[str, pa.Table], memory: int) -> pa.Table:
    """Return the rows of a query.

    Parameters
    ----------
    query : str
        One SELECT statement. It may read files (``read_parquet('…')``) and the tables named here.
    tables : mapping of str to pa.Table
        What it may name.
    memory : int
        Bytes that DuckDB may work in; beyond them it uses the temporary folder.

    Raises
    ------
    BadInput
        If it is anything else than one SELECT, or fails.
    """
    # A connection of its own sees no table of another one, and threads can use theirs at the same time.
    with _database(os.getpid(), memory).cursor() as connection:
        try:
            statements = connection.extract_statements(query)
            kinds = [statement.type for statement in statements]
            # Anything but a SELECT could leave something behind in the database that all queries share.
            if kinds != [duckdb.StatementType.SELECT]:
                said = ", ".join(kind.name for kind in kinds) or "nothing"
                raise BadInput(f"the query for the entity rows must be one SELECT statement, not {said}")
            connection.execute("SET TimeZone = 'UTC'")
            for name, table in tables.items():
                connection.register(name, table)
            return connection.sql(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise BadInput(f"the query for the entity rows failed: {' '.join(str(error).split())}") from error


@cache
def _database(process: int, memory: int) -> duckdb.DuckDBPyConnection:
    """Return the database of a process; a process that was forked off must not use that of its parent."""
    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # a name in a query is never that of a variable here
            "memory_limit": f"{memory}B",
            "temp_directory": str(Path(tempfile.gettempdir()) / f"duckdb-{process}"),
        },
    )
