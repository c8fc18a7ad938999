"""Queries for entity rows share one database and leave nothing behind in it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from backsight_features.errors import BadInput
from backsight_features.store.query import run

MEMORY = 10**8


def test_a_table_is_known_to_its_own_query_only() -> None:
    table = pa.table({"x": [1, 2]})
    assert run("SELECT sum(x)::INT AS y FROM known", {"known": table}, MEMORY).to_pylist() == [{"y": 3}]
    with pytest.raises(BadInput, match=r"query for the entity rows failed: .*known"):
        run("SELECT * FROM known", {}, MEMORY)


def test_threads_do_not_see_the_tables_of_each_other() -> None:
    def total(number: int) -> int:
        table = pa.table({"x": [number] * 1000})
        return run("SELECT sum(x)::BIGINT AS y FROM known", {"known": table}, MEMORY)["y"][0].as_py()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(total, range(200))) == [number * 1000 for number in range(200)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("CREATE TABLE held (x INT)", "not CREATE"),
        ("COPY (SELECT 1) TO 'out.csv'", "not COPY"),
        ("SELECT 1; DROP TABLE known", "not SELECT, DROP"),
        ("SET threads = 1", "not SET"),
        ("", "not nothing"),
    ],
)
def test_only_a_select_is_run(query: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=f"must be one SELECT statement, {said}"):
        run(query, {"known": pa.table({"x": [1]})}, MEMORY)
    assert list(tmp_path.iterdir()) == []


def test_a_query_keeps_to_its_memory_and_out_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ordered = (
        "SELECT min(n) AS least FROM (SELECT range AS n FROM range(5_000_000) ORDER BY hash(range) LIMIT 4_000_000)"
    )
    assert run(ordered, {}, MEMORY)["least"][0].as_py() < 100
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match=r"failed: Out of Memory Error"):
        run("SELECT list(range) AS all FROM range(50_000_000)", {}, MEMORY)


def test_a_name_in_a_query_is_never_a_variable_of_python() -> None:
    with pytest.raises(BadInput, match="tables"):
        run("SELECT * FROM tables", {}, MEMORY)


def test_an_instant_without_a_zone_is_utc() -> None:
    got = run("SELECT (TIMESTAMP '2024-07-01 00:00:00')::TIMESTAMPTZ AS event", {}, MEMORY)
    assert got["event"][0].value == 1_719_792_000_000_000
