from datetime import timedelta
from pathlib import Path

import boto3
import polars as pl
import pytest
from backsight_features import delta
from backsight_features.errors import Busy, SourceError

ROWS = pl.DataFrame({"symbol": ["BTC", "ETH"], "n": [1, 2]})


@pytest.fixture(params=["folder", "folder with a blank", "object store", "object store, with a blank"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    root = request.getfixturevalue("s3_root") if "store" in request.param else tmp_path
    return delta.join(root, "a table" if "blank" in request.param else "table", "t")


def contents(uri: str) -> list[tuple[object, ...]]:
    table = delta.open(uri)
    assert table is not None
    return sorted(delta.scan(table).collect().rows())


def test_a_table_is_made_once_and_its_rows_are_added_replaced_and_read(uri: str) -> None:
    assert delta.open(uri) is None
    table = delta.ensure(uri, ROWS.to_arrow().schema)
    assert table.version() == delta.ensure(uri, ROWS.to_arrow().schema).version() == 0
    delta.append(table, ROWS, metadata={"by": "a test"})
    assert contents(uri) == [("BTC", 1), ("ETH", 2)]
    assert table.history(1)[0]["by"] == "a test"
    delta.replace(table, pl.DataFrame({"symbol": ["BTC"], "n": [3]}), where="symbol = 'BTC'")
    assert contents(uri) == [("BTC", 3), ("ETH", 2)]
    delta.replace(table, pl.DataFrame({"other": [1.5]}))
    assert contents(uri) == [(1.5,)]
    past = delta.open(uri, version=1)
    assert past is not None
    assert delta.scan(past).collect().height == 2


@pytest.mark.parametrize("change", [delta.append, delta.replace])
def test_a_commit_that_was_outrun_changes_nothing(uri: str, change: object) -> None:
    late = delta.ensure(uri, ROWS.to_arrow().schema)
    quick = delta.open(uri)
    assert quick is not None
    delta.append(quick, ROWS)
    with pytest.raises(delta.Outrun, match="version 0 to 1"):
        change(late, ROWS)
    assert contents(uri) == ROWS.rows()


def test_an_attempt_is_made_again_until_nobody_comes_in_between(uri: str) -> None:
    outrun = 3

    def attempt() -> int:
        nonlocal outrun
        table = delta.ensure(uri, ROWS.to_arrow().schema)
        held = delta.scan(table).collect().height
        if outrun:
            outrun -= 1
            other = delta.open(uri)
            assert other is not None
            delta.append(other, ROWS)
        delta.append(table, ROWS)
        return held

    assert delta.settle(uri, attempt) == 3 * ROWS.height
    assert contents(uri) == sorted(ROWS.rows() * 4)


def test_who_is_outrun_again_and_again_is_told_that_the_table_is_busy(tmp_path: Path) -> None:
    uri = delta.join(tmp_path, "t")

    def attempt() -> None:
        table, other = (delta.ensure(uri, ROWS.to_arrow().schema) for _ in range(2))
        delta.append(other, ROWS)
        delta.append(table, ROWS)

    with pytest.raises(Busy, match=r"other jobs kept writing .*t: outrun 10 times"):
        delta.settle(uri, attempt, patience=timedelta(0))
    assert contents(uri) == sorted(ROWS.rows() * 10)


def test_an_object_store_that_does_not_answer_is_named_without_decoration(s3_root: str) -> None:
    with pytest.raises(SourceError, match=r"no-such-bucket/t cannot be reached: .*404") as told:
        delta.open("s3://no-such-bucket/t")
    assert str(told.value).isascii()
    assert str(told.value).isprintable()


def test_the_object_store_refuses_to_write_what_is_there(s3_root: str) -> None:
    bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key=f"{prefix}/probe", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key=f"{prefix}/probe", IfNoneMatch="*")
