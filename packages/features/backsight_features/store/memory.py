"""How much memory a retrieval may work in, and where results wait that would not fit."""

import mmap
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from backsight_features.errors import BadInput
from backsight_features.store import sources
from backsight_features.store.settings import expand

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.IGNORECASE)
_CGROUPS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_BLOCK: Final = 2**20


def limit(text: object) -> int:
    """Return a size in bytes; half of what the machine or its container has, unless given.

    >>> limit("1.5 GB"), limit("2KiB")
    (1500000000, 2048)

    Raises
    ------
    BadInput
        If the text is no size, or no memory at all.
    """
    if text is None:
        return _machine() // 2
    match = _SIZE.fullmatch(expand(text, os.environ).strip()) if isinstance(text, str) else None
    power = "KMGT".find(match[2].upper()) + 1 if match and match[2] else 0
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power) if match else 0
    if not size:
        raise BadInput(f"memory_limit is {text!r}; it must be a size with its unit, such as 4GB or 512MiB")
    return size


def spilled(table: pa.Table) -> pa.Table:
    """Return the table from a temporary file that is mapped into memory.

    The file has no name from the beginning, so that nothing is left of it whatever ends the process; its room on the
    disk is freed with the last table that needs it.

    Raises
    ------
    BadInput
        If it cannot be written.
    """
    try:
        with tempfile.TemporaryFile() as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(
            f"results that pass the memory_limit cannot be written to the temporary folder: {error}; "
            "TMPDIR names another one"
        ) from error
    return pa.ipc.open_file(pa.py_buffer(held)).read_all()


def arranged(parts: Sequence[pa.Table], order: pl.Series) -> pa.Table:
    """Return the rows of spilled tables, one after the other, each at the place that `order` gives it; spilled too.

    No more than one column is in memory at a time.
    """
    place = np.empty(len(order), dtype=np.uint32)
    place[order.to_numpy()] = np.arange(len(order), dtype=np.uint32)
    whole = pa.concat_tables(parts)
    blocks = [place[start : start + _BLOCK] for start in range(0, len(place), _BLOCK)]
    columns = []
    for name in whole.column_names:
        column = pl.Series(pl.from_arrow(whole[name])).alias(name).rechunk()
        pieces = [spilled(sources.plain(column.gather(block).to_frame())) for block in blocks]
        columns.append(pa.concat_tables(pieces)[name])
    return pa.table(columns, names=whole.column_names)


def _machine() -> int:
    """Return the memory of the machine, or of its container if that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CGROUPS):
        said = path.read_text().strip() if path.exists() else "max"
        if said.isdigit():
            sizes.append(int(said))
    return min(sizes)
