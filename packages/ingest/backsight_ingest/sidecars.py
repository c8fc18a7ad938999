"""Sidecars: a table beside an archive, or in a folder, that tells when each file in it was seen."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.files import Member
from backsight_ingest.layout import Sidecar


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """When the members of one file were seen.

    Parameters
    ----------
    digest : str
        SHA-256 of the sidecar.
    times : mapping of str to str
        The text of the instant, by a member's origin.
    """

    digest: str
    times: dict[str, str] = field(repr=False)

    def __call__(self, rows: pl.DataFrame) -> pl.Series:
        """Return the text of the instant for each row, null where its member is not listed."""
        listed = pl.DataFrame(
            {"@origin": list(self.times), "@seen": list(self.times.values())},
            schema={"@origin": pl.String, "@seen": pl.String},
        )
        return rows.select("@origin").join(listed, on="@origin", how="left", maintain_order="left")["@seen"]


def sightings(sidecar: Sidecar, home: Path, members: Sequence[Member]) -> Sightings:
    """Return when each member was seen.

    A path that is listed several times was written several times: its last member in an archive takes the last
    listing, the one before it the listing before. A single file thus counts as seen when it was last written.

    Parameters
    ----------
    sidecar : Sidecar
        Its name and columns.
    home : Path
        The folder that it lies in.
    members : sequence of Member
        In the archive's order.

    Raises
    ------
    BadInput
        If there is no sidecar, or it cannot be read.
    Drifted
        If it lacks a column, or has it twice.
    """
    path = home / sidecar.file
    if not path.is_file():
        raise BadInput(f"no {sidecar.file} in {home}; it tells when each file was seen")
    text = path.read_bytes()
    try:
        header, *rows = csv.reader(text.decode("utf-8-sig").splitlines() or [""], strict=True)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no comma separated utf-8: {error}") from None
    for name in (sidecar.key, sidecar.time):
        if header.count(name) != 1:
            raise Drifted(f"{path} has {header.count(name)} columns {name!r}, should have one")
    key, time = header.index(sidecar.key), header.index(sidecar.time)
    listed: dict[str, list[str]] = {}
    for row in rows:
        if len(row) == len(header):
            listed.setdefault(row[key], []).append(row[time])
    times: dict[str, str] = {}
    for member in reversed(members):
        left = listed.get(member.name, [])
        if left:
            times[member.origin] = left[-1] if len(left) == 1 else left.pop()
    return Sightings(digest=hashlib.sha256(text).hexdigest(), times=times)
