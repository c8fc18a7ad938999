"""Compressed files: whole, or refused before a row of them is believed."""

from pathlib import Path

import pytest
import zstandard
from backsight_features.errors import BadInput
from backsight_ingest.files import Named, decoded

TEXT = b"".join(b"%d,a row\n" % i for i in range(200_000))


def unpacked(path: Path, *, largest: int = 2**30) -> bytes:
    """Return what a file holds."""
    with decoded(Named(path=path, origin=path.name, home=path.parent), ("*.csv",), largest=largest) as whole:
        (member,) = whole.members
        return member.path.read_bytes()


def frame(text: bytes) -> bytes:
    """Return one frame of zst."""
    return zstandard.ZstdCompressor().compress(text)


@pytest.mark.parametrize("suffix", [".zst", ".zstd"])
def test_zst_is_read_over_all_its_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.csv{suffix}"
    path.write_bytes(frame(TEXT) + frame(b"the end\n") + frame(b""))
    assert unpacked(path) == TEXT + b"the end\n"


@pytest.mark.parametrize("cut", [1, 5, 4096, -1])
def test_zst_that_breaks_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.csv.zst"
    whole = frame(TEXT) + frame(TEXT[::-1])
    path.write_bytes(whole[:-cut] if cut > 0 else whole[: len(frame(TEXT)) + 3])
    with pytest.raises(BadInput, match=r"x.csv.zst is damaged or cannot be read: it ends before its last frame does"):
        unpacked(path)


def test_what_is_no_zst_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.zst"
    path.write_bytes(b"t,open\n1,2\n")
    with pytest.raises(BadInput, match=r"is damaged or cannot be read: .*frame descriptor"):
        unpacked(path)


def test_zst_with_the_largest_window_is_read(tmp_path: Path) -> None:
    # A frame that asks for a window of 2**31 bytes and has one raw block, as in RFC 8878.
    text = b"t,open\n"
    block = ((len(text) << 3) | 1).to_bytes(3, "little") + text
    path = tmp_path / "x.csv.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3]) + block)
    assert unpacked(path) == text


def test_zst_that_unpacks_without_end_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.zst"
    path.write_bytes(frame(b"\0" * 300_000_000))
    with pytest.raises(BadInput, match=r"x.csv.zst unpacks to more than 1000000 bytes; split it"):
        unpacked(path, largest=1_000_000)
