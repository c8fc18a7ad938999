"""The offline store works within the memory it is given, and leaves nothing behind."""

import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import feast
import polars as pl
import pyarrow as pa
import pytest
from backsight_features.errors import BadInput
from backsight_features.store import memory
from hypothesis import given
from hypothesis import strategies as st

T0 = datetime(2024, 1, 1, tzinfo=UTC)

PROJECT = r"""
    import re, sys
    from datetime import timedelta
    from pathlib import Path
    import backsight_features.store  # by which Feast is imported faster
    import feast, polars as pl

    def project(folder, limit, names):
        offline = {"type": "backsight_features.store.asof.AsofOfflineStore", "root": str(folder)}
        store = feast.FeatureStore(config=feast.RepoConfig(
            project="wide", provider="local", registry=str(folder / f"{limit}.db"), repo_path=folder,
            entity_key_serialization_version=3, offline_store=offline | ({"memory_limit": limit} if limit else {}),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
        ))
        key = feast.Entity(name="key", join_keys=["key"], value_type=feast.ValueType.INT64)
        view = feast.FeatureView(
            name="wide", entities=[key], ttl=timedelta(0),
            schema=[feast.Field(name=name, dtype=feast.types.Float64) for name in names],
            source=feast.FileSource(name="facts", path="facts.parquet", timestamp_field="at"),
        )
        store.apply([key, view])
        return store

    def peak():
        return int(re.search("VmHWM: *\t *([0-9]+) kB", Path("/proc/self/status").read_text())[1]) // 1024

    folder = Path(sys.argv[1])
    limit = sys.argv[2] or None
    rows = pl.read_parquet(folder / "rows.parquet")
    names = [f"x{i}" for i in range(20)]
    store = project(folder, limit, names)
    job = store.get_historical_features(rows.to_pandas(), [f"wide:{name}" for name in names])
"""


def facts(folder: Path, count: int, columns: int = 20) -> None:
    pl.select(
        key=pl.int_range(count) % 3,
        at=pl.lit(T0, pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.int_range(count)),
        **{f"x{i}": pl.int_range(count).cast(pl.Float64) + i for i in range(columns)},
    ).write_parquet(folder / "facts.parquet", row_group_size=20_000)


def rows(folder: Path, count: int, span: int) -> None:
    pl.select(
        key=pl.int_range(count) % 3,
        event_timestamp=pl.lit(T0, pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.int_range(count) * 7919 % span),
    ).write_parquet(folder / "rows.parquet")


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(PROJECT) + textwrap.dedent(script)
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.slow
def test_peak_memory_stays_near_the_limit(tmp_path: Path) -> None:
    facts(tmp_path, 1_000_000)  # 160 MB of values
    rows(tmp_path, 5_000, 1_000_000)
    script = """
        got = pl.from_arrow(job.to_arrow())
        print(peak(), got.hash_rows().sum())
    """
    free, bound = (run(script, str(tmp_path), limit) for limit in ("4GB", "30MB"))
    assert free.returncode == bound.returncode == 0, free.stderr + bound.stderr
    [most, all_at_once], [least, in_slices] = (done.stdout.split() for done in (free, bound))
    assert in_slices == all_at_once
    assert int(least) < int(most) - 100


@pytest.mark.parametrize("end", ["", "import os; os.kill(os.getpid(), 9)"])
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, end: str) -> None:
    facts(tmp_path, 1_000)
    rows(tmp_path, 1_000, 1_000)
    (tmp_path / "tmp").mkdir()
    script = f"""
        def mapped():
            maps = Path("/proc/self/maps").read_text()
            return maps.count(sys.argv[3])
        got = job.to_arrow()
        assert mapped() > 10
        assert list(Path(sys.argv[3]).iterdir()) == []
        {end}
        del got
        assert mapped() == 0  # the room on the disk is given back with the table
        print("done")
    """
    folder = str(tmp_path / "tmp")
    done = run(script, str(tmp_path), "50KB", folder, TMPDIR=folder)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (done.stdout == "done\n") == (not end), done.stderr
    assert "AssertionError" not in done.stderr


def test_no_room_for_temporary_files_is_said(tmp_path: Path) -> None:
    facts(tmp_path, 1_000)
    rows(tmp_path, 1_000, 1_000)
    script = """
        import resource
        from backsight_features.errors import BadInput
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            job.to_arrow()
        except BadInput as error:
            print(error)
    """
    done = run(script, str(tmp_path), "200KB")
    assert "'wide': results that pass the memory_limit cannot be written to the temporary folder" in done.stdout
    assert "TMPDIR" in done.stdout


@pytest.mark.parametrize("text", ["4", "", "GB", "0GB", "-1GB", "4 gigs", "1e9B", 4_000_000_000])
def test_a_limit_that_is_no_size_is_named(tmp_path: Path, text: Any) -> None:
    with pytest.raises(BadInput, match=f"memory_limit is {text!r}; it must be a size with its unit, such as 4GB"):
        project(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("512MiB", 2**29), ("1.5 kb", 1500), ("${UNSET_LIMIT:-1TB}", 10**12)]
)
def test_limits_are_read(text: str, size: int) -> None:
    assert memory.limit(text) == size


def test_the_limit_is_half_of_the_machine_unless_said_otherwise() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.limit(None) <= machine // 2


def project(folder: Path, limit: Any) -> feast.FeatureStore:
    offline = {"type": "backsight_features.store.asof.AsofOfflineStore", "root": str(folder), "memory_limit": limit}
    return feast.FeatureStore(
        config=feast.RepoConfig(
            project="small",
            provider="local",
            registry=str(folder / "registry.db"),
            entity_key_serialization_version=3,
            offline_store=offline,
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            repo_path=folder,
        )
    )


def test_slices_are_joined_saved_and_returned_through_feast(tmp_path: Path) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    count = 500
    pl.select(
        key=pl.int_range(count) % 7,
        at=pl.lit(T0, pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.int_range(count) // 2),
        value=pl.int_range(count),
        name=pl.int_range(count).cast(pl.String),
    ).sample(fraction=1, shuffle=True, seed=1).write_parquet(tmp_path / "facts.parquet", row_group_size=50)
    key = feast.Entity(name="key", join_keys=["key"], value_type=feast.ValueType.INT64)
    view = feast.FeatureView(
        name="view",
        entities=[key],
        schema=[feast.Field(name="value", dtype=feast.types.Int64), feast.Field(name="name", dtype=feast.types.String)],
        source=feast.FileSource(name="facts", path="facts.parquet", timestamp_field="at"),
        ttl=timedelta(minutes=3),
    )
    asked = pl.select(
        key=pl.int_range(300) % 8,
        event_timestamp=pl.lit(T0, pl.Datetime("us", "UTC")) + pl.duration(minutes=pl.int_range(300) * 31 % 280),
    ).to_pandas()
    answers = []
    for number, limit in enumerate(["1GB", "5KB"]):
        store = project(tmp_path, limit)
        store.apply([key, view])
        job = store.get_historical_features(asked, ["view:value", "view:name"])
        job.persist(SavedDatasetFileStorage(path=f"saved{number}.parquet"))
        answers += [job.to_arrow(), pa.table(pl.read_parquet(tmp_path / f"saved{number}.parquet").to_arrow())]
    assert answers[0].schema == answers[2].schema
    assert answers[0]["value"].null_count not in {0, 300}
    assert answers[0].to_pylist() == answers[1].to_pylist() == answers[2].to_pylist() == answers[3].to_pylist()


@given(st.permutations(range(20)), st.integers(1, 20))
def test_spilled_parts_are_put_in_order(order: list[int], size: int) -> None:
    table = pa.table({"place": order, "text": [f"{place}" if place % 3 else None for place in order]})
    parts = [memory.spilled(table.slice(start, size)) for start in range(0, 20, size)]
    got = memory.arranged(parts, pl.Series(order))
    assert got.schema == table.schema
    assert got["place"].to_pylist() == list(range(20))
    assert got["text"].to_pylist() == [f"{place}" if place % 3 else None for place in range(20)]
