"""The fixture ``backsight_audit``, in a project of its own."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import numpy as np
import polars as pl
import pytest
from datetime import datetime, timedelta

@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    price = np.exp(np.cumsum(rng.normal(0, 0.01, 400)))
    at = [datetime(2024, 1, 1) + timedelta(hours=i) for i in range(400)]
    frame = pl.DataFrame({"time": at, "price": price, "mood": rng.normal(size=400)})
    return frame.with_columns(label=pl.col("price").shift(-1) / pl.col("price") - 1)

def test_clean(backsight_audit, table):
    found = backsight_audit.dataset(table, time="time", label="label", horizon="1h", price="price")
    assert found.findings == ()

def test_leak(backsight_audit, table):
    leaked = table.with_columns(leak=3 * pl.col("label")).to_pandas()
    backsight_audit.dataset(leaked, time="time", label="label", claim="R2=0.1")
"""


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_leak_fails_the_test_with_the_findings(tmp_path: Path) -> None:
    (tmp_path / "test_table.py").write_text(TESTS)
    done = run(tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "error: target: leak" in done.stdout
    assert "leak is a copy of the label label of the same row" in done.stdout


def test_nothing_is_imported_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_light():\n"
        "    assert 'backsight_features.audit.pytest_plugin' in sys.modules\n"
        "    assert not {'numpy', 'polars', 'pandas', 'jinja2', 'feast'} & set(sys.modules)\n"
    )
    done = run(tmp_path)
    assert "1 passed" in done.stdout, done.stdout
