"""What came in since a version is what is there now and was not then, whoever put files together in between."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from backsight_features import changes, delta
from backsight_features.maintenance import maintain
from deltalake import DeltaTable

AT_ONCE = timedelta(0)


def grow(root: str, numbers: range) -> DeltaTable:
    """Add a row per commit; version v has the numbers below v."""
    uri = delta.join(root, "t")
    for number in numbers:
        rows = pl.DataFrame({"n": [number], "folder": ["x"]})
        delta.append(delta.ensure(uri, rows.to_arrow().schema, partition_by="folder"), rows)
    table = delta.open(uri)
    assert table is not None
    return table


def at(root: str, version: int) -> DeltaTable:
    table = delta.open(delta.join(root, "t"), version=version)
    assert table is not None
    return table


def numbers(rows: pl.LazyFrame | None) -> list[int]:
    assert rows is not None
    return sorted(rows.select("n").collect()["n"])


@pytest.mark.parametrize("where", ["a lake", "object store"])
def test_only_what_came_in_is_there(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = str(tmp_path / where) if where == "a lake" else request.getfixturevalue("s3_root")
    table = grow(root, range(5))
    assert numbers(changes.added(table, at(root, 3))) == [3, 4]
    assert numbers(changes.added(table, table)) == []
    table.optimize.compact()
    assert numbers(changes.added(at(root, 6), at(root, 3))) == [3, 4]


def test_rows_that_were_put_together_came_in_once(tmp_path: Path) -> None:
    root = str(tmp_path)
    grow(root, range(10))
    list(maintain(root))
    table = grow(root, range(10, 12))
    assert len(delta.paths(table)) == 3
    assert numbers(changes.added(table, at(root, 4))) == list(range(4, 12))
    assert numbers(changes.added(table, at(root, 10))) == [10, 11]
    # The next compaction takes up what the first one made.
    grow(root, range(12, 20))
    list(maintain(root))
    table = grow(root, range(20, 21))
    assert numbers(changes.added(table, at(root, 4))) == list(range(4, 21))


def test_what_was_put_together_and_cleaned_up_since_cannot_be_told_apart(tmp_path: Path) -> None:
    root = str(tmp_path)
    grow(root, range(10))
    then = at(root, 4)
    list(maintain(root))
    now = grow(root, range(10, 11))
    assert numbers(changes.added(now, then)) == list(range(4, 11))
    now.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    assert changes.added(now, then) is None
    with pytest.raises(delta.Gone, match=r"at version 1\d and cannot be read as of version 4 any more: 4 of its files"):
        at(root, 4)


def test_a_log_that_does_not_go_back_so_far_cannot_tell(tmp_path: Path) -> None:
    root = str(tmp_path)
    grow(root, range(10))
    then = at(root, 4)
    list(maintain(root))
    now = grow(root, range(10, 11))
    (tmp_path / "t" / "_delta_log" / f"{6:020d}.json").unlink()
    assert changes.added(now, then) is None


def test_rows_that_went_make_it_untold(tmp_path: Path) -> None:
    root = str(tmp_path)
    then = grow(root, range(10))
    now = grow(root, range(10, 12))
    now.delete("n = 11")
    assert numbers(changes.added(at(root, 13), then)) == [10], "it came and went"
    now.delete("n = 3")
    assert changes.added(at(root, 14), then) is None
    assert numbers(changes.added(grow(root, range(14, 15)), now)) == [14]


def test_a_version_that_is_still_to_come_is_no_version(tmp_path: Path) -> None:
    grow(str(tmp_path), range(3))
    with pytest.raises(delta.Gone, match="is at version 3 and cannot be read as of version 7, which is still to come"):
        at(str(tmp_path), 7)
