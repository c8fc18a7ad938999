"""Files: finding, checking and decoding what was named, before a single row of it is believed.

Everything compressed is decoded into a temporary folder first. A file that breaks off or is damaged is thus refused
before anything of it is written, and one that unpacks without end is stopped.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Final

import zstandard
from backsight_features.errors import BadInput

LARGEST_DECODED: Final = 32 * 2**30
"""Bytes that one file may unpack to."""

_CHUNK: Final = 2**20
_ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
_DAMAGE: Final = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    tarfile.TarError,
    zipfile.BadZipFile,
    OSError,
    RuntimeError,
)
_LARGEST_WINDOW: Final = 2**31
"""Of zst, as the dumps of Reddit need it."""

_ZST_CHUNK: Final = 2**12
"""Each four bytes may become a block of 128 KiB: it takes a bomb as large as this to fill 128 MiB at once."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A file to read.

    Parameters
    ----------
    path : Path
        Absolute.
    origin : str
        As a person knows it.
    home : Path
        The folder that it was named in, where a sidecar lies.
    """

    path: Path
    origin: str
    home: Path


@dataclass(frozen=True, kw_only=True)
class Member:
    """One decoded text.

    Parameters
    ----------
    path : Path
        Where its bytes lie now.
    name : str
        Its path in the archive, or under the folder that was named.
    place : str
        Its absolute path, in an archive ``archive!member``.
    origin : str
        As a person knows it; in an archive ``archive!member``, with ``#2`` where that name comes a second time.
    """

    path: Path
    name: str
    place: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A file whose bytes are whole.

    Parameters
    ----------
    digest : str
        SHA-256 of the file as it was found.
    members : tuple of Member
        In the archive's order; one where the file is no archive.
    skipped : tuple of str
        Members that the layout does not claim, and those that are empty.
    """

    digest: str
    members: tuple[Member, ...]
    skipped: tuple[str, ...]


def find(paths: Iterable[Path], patterns: tuple[str, ...]) -> tuple[list[Named], list[str]]:
    """Return the files to read and those passed over.

    Parameters
    ----------
    paths : iterable of Path
        Files, read whatever they are called, and folders, of which the files that match are read, by name.
    patterns : tuple of str
        Of file names, without a compression's suffix.

    Returns
    -------
    named : list of Named
        In order.
    skipped : list of str
        Files in the folders that no pattern matches.

    Raises
    ------
    BadInput
        If a path does not exist, or a folder has no file that matches.
    """
    named: list[Named] = []
    skipped: list[str] = []
    for path in paths:
        whole = path.absolute()
        if whole.is_file():
            named.append(Named(path=whole, origin=_shown(path), home=whole.parent))
        elif whole.is_dir():
            inside = [each for each in sorted(whole.rglob("*")) if not each.is_dir()]
            mine = [each for each in inside if _claimed(each.name, patterns) and not _special(each)]
            if not mine:
                raise BadInput(f"{path} holds no file called {' or '.join(patterns)}")
            named += [Named(path=each, origin=_shown(path / each.relative_to(whole)), home=whole) for each in mine]
            skipped += [_shown(path / each.relative_to(whole)) for each in inside if each not in set(mine)]
        else:
            raise BadInput(
                f"{path}: {'no file that can be read twice' if whole.exists() else 'no such file or folder'}"
            )
    return named, skipped


def _shown(path: Path | str) -> str:
    """Return a path as text that can be written anywhere: names need not be UTF-8, and may hold line breaks."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _special(path: Path) -> bool:
    """Return whether this is a pipe, a socket or a device, which may never end; a link into nowhere is none of them."""
    return path.exists() and not path.is_file()


def _claimed(name: str, patterns: tuple[str, ...]) -> bool:
    if name.startswith("."):  # as in a shell: what is hidden has to be named
        return False
    if name.endswith(_ARCHIVES):
        return True
    for suffix in _DECODERS:
        name = name.removesuffix(suffix)
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@contextmanager
def decoded(file: Named, patterns: tuple[str, ...], *, largest: int = LARGEST_DECODED) -> Iterator[Decoded]:
    """Yield a file's texts, unpacked and whole.

    Parameters
    ----------
    file : Named
        Which.
    patterns : tuple of str
        Of the names of an archive's members to read.
    largest : int
        Bytes that it may unpack to.

    Raises
    ------
    BadInput
        If the file is empty, damaged, cut off, larger than allowed, or holds nothing to read.
    """
    with tempfile.TemporaryDirectory(prefix="backsight-") as folder:
        try:
            with file.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            members, skipped = _unpack(file, patterns, Path(folder), largest)
        except _DAMAGE as error:
            raise BadInput(f"{file.origin} is damaged or cannot be read: {error or type(error).__name__}") from None
        if not members:
            raise BadInput(f"{file.origin} holds no file called {' or '.join(patterns)}")
        filled = tuple(member for member in members if member.path.stat().st_size)
        if not filled:
            raise BadInput(f"{file.origin} is empty")
        skipped += [f"{member.origin} (empty)" for member in members if member not in filled]
        yield Decoded(digest=digest, members=filled, skipped=tuple(skipped))


def _unpack(file: Named, patterns: tuple[str, ...], folder: Path, largest: int) -> tuple[list[Member], list[str]]:
    name, place = file.path.name, _shown(file.path)
    if name.endswith(_ARCHIVES):
        budget = _Budget(file.origin, largest)
        members: list[Member] = []
        skipped: list[str] = []
        times: Counter[str] = Counter()
        for raw, stream in _archived(file.path):
            inside = _shown(raw)
            times[inside] += 1
            again = f"#{times[inside]}" if times[inside] > 1 else ""
            origin = f"{file.origin}!{inside}{again}"
            if not _claimed(Path(inside).name, patterns) or inside.endswith(_ARCHIVES):
                skipped.append(origin)
                continue
            target = folder / str(len(members))
            _copy(_decoded(inside, stream), target, budget)
            members.append(Member(path=target, name=inside, place=f"{place}!{inside}", origin=origin))
        return members, skipped
    relative = _shown(file.path.relative_to(file.home))
    if not name.endswith(tuple(_DECODERS)):
        return [Member(path=file.path, name=relative, place=place, origin=file.origin)], []
    target = folder / "0"
    with file.path.open("rb") as stream:
        _copy(_decoded(name, stream), target, _Budget(file.origin, largest))
    return [Member(path=target, name=relative, place=place, origin=file.origin)], []


def _archived(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield an archive's regular files. Nothing is extracted under the names it gives."""
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    with archive.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(path, "r|*") as tar:
        for member in tar:
            stream_or_none = tar.extractfile(member) if member.isreg() else None
            if stream_or_none is not None:
                yield member.name.removeprefix("./"), stream_or_none


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(_CHUNK), b"")


def _opened_by(opener: Callable[[IO[bytes]], IO[bytes]]) -> Callable[[IO[bytes]], Iterator[bytes]]:
    def decode(stream: IO[bytes]) -> Iterator[bytes]:
        with opener(stream) as text:
            yield from _chunks(text)

    return decode


def _zst(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield what a zst file of one or more frames holds; zstandard's own reader takes one that breaks off for whole."""
    frames = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    frame = frames.decompressobj()
    begun = False
    while chunk := stream.read(_ZST_CHUNK):
        while chunk:
            yield frame.decompress(chunk)
            begun, chunk = not frame.eof, frame.unused_data
            if frame.eof:
                frame = frames.decompressobj()
    if begun:
        raise EOFError("it ends before its last frame does")


_DECODERS: Final[Mapping[str, Callable[[IO[bytes]], Iterator[bytes]]]] = {
    ".gz": _opened_by(gzip.open),  # type: ignore[arg-type]
    ".xz": _opened_by(lzma.open),
    ".bz2": _opened_by(bz2.open),
    ".zst": _zst,
    ".zstd": _zst,
}


def _decoded(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    for suffix, decode in _DECODERS.items():
        if name.endswith(suffix):
            return decode(stream)
    return _chunks(stream)


class _Budget:
    """What is left of the bytes that a file may unpack to."""

    def __init__(self, origin: str, largest: int) -> None:
        self._origin = origin
        self._largest = largest
        self._left = largest

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise BadInput(f"{self._origin} unpacks to more than {self._largest} bytes; split it")


def _copy(source: Iterable[bytes], target: Path, budget: _Budget) -> None:
    with target.open("wb") as sink:
        for chunk in source:
            budget.spend(len(chunk))
            sink.write(chunk)
