"""Checksums: that the files of a model are those that they were. The format is that of ``sha256sum --check``."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from backsight_features.errors import BadInput

MANIFEST: Final = "SHA256SUMS"
"""The name of a manifest that comes with a folder."""

_SLICE: Final = 1 << 20


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_SLICE):
            digest.update(part)
    return digest.hexdigest()


def sums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files in a folder by their names."""
    return {name: sha256(folder / name) for name in sorted(names)}


def check(found: Mapping[str, str], manifest: Path) -> None:
    """Make sure that files are those that a manifest lists; others it may list are not looked at.

    Parameters
    ----------
    found : mapping of str to str
        From `sums`.
    manifest : Path
        Lines of hex digits and a name.

    Raises
    ------
    BadInput
        If a file is another one, or is not listed. The message names it.
    """
    listed = {}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        digits, _, name = line.partition(" ")
        listed[name.lstrip(" *")] = digits.lower()
    for name, digits in found.items():
        if name not in listed:
            raise BadInput(f"{manifest} does not list {name}: it is no file of this model")
        if listed[name] != digits:
            raise BadInput(f"{name} has SHA-256 {digits}, and {manifest} says {listed[name]}: the file was changed")


def write(found: Mapping[str, str], manifest: Path) -> None:
    """Write a manifest, whole or not at all."""
    draft = manifest.with_name(f"{manifest.name}.{os.getpid()}.part")
    draft.write_text("".join(f"{digits}  {name}\n" for name, digits in found.items()), encoding="utf-8")
    draft.replace(manifest)
