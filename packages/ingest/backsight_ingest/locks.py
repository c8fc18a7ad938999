"""Locks: of the runs of one job on this machine, one goes on at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backsight_features.errors import Busy
from filelock import FileLock, Timeout


@contextmanager
def alone(locks: Path, name: str) -> Iterator[None]:
    """Hold the lock of a job.

    Parameters
    ----------
    locks : Path
        A folder.
    name : str
        The job.

    Raises
    ------
    Busy
        If another run holds it; nobody waits.
    """
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout:
        raise Busy(f"{name}: another run of this job is going on") from None
