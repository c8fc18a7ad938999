"""The bundles that are in use, read again when another is promoted, without a request that waits for it or is lost."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backsight_features.errors import BacksightError, Missing

from backsight_model.bundle import POINTER, Bundle, pointers, read


@dataclass
class Models:
    """Which bundle forecasts which symbol, as of the newest promotion that could be read.

    Parameters
    ----------
    folder : Path
        The folder of bundles.
    """

    folder: Path
    _held: Mapping[str, Bundle] = field(default_factory=dict)
    _seen: tuple[int, int, int] | None = None
    _broken: str | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def of(self, symbol: str) -> Bundle:
        """Return the bundle that forecasts a symbol.

        Raises
        ------
        Missing
            If none was promoted.
        """
        held = self.in_use()
        if symbol not in held:
            there = f"there are models for {', '.join(sorted(held))}" if held else "no model is in use yet"
            raise Missing(f"no model forecasts {symbol!r}: {there}")
        return held[symbol]

    def in_use(self) -> Mapping[str, Bundle]:
        """Return the bundle of each symbol.

        Whoever finds that something was promoted reads it; meanwhile others get what was in use before.
        """
        stamp = _stamp(self.folder / POINTER)
        # The first to ask has nothing to go on with.
        if stamp != self._seen and self._reading.acquire(blocking=self._seen is None):
            try:
                if stamp != self._seen:
                    self._read(stamp)
            finally:
                self._reading.release()
        return self._held

    @property
    def broken(self) -> str | None:
        """Why the newest promotion could not be read, so that what was in use before still is; None if it could."""
        return self._broken

    def _read(self, stamp: tuple[int, int, int]) -> None:
        try:
            wanted = {symbol: pointer["bundle"] for symbol, pointer in pointers(self.folder).items()}
            bundles = {name: read(self.folder / name) for name in set(wanted.values())}
        except BacksightError as error:
            self._broken = str(error)
        else:
            self._held, self._broken = {symbol: bundles[name] for symbol, name in wanted.items()}, None
        self._seen = stamp


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino
