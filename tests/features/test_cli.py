import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKSIGHT = Path(sys.executable).parent / "backsight"

HEAVY = {"feast", "tensorflow", "polars", "pandas", "transformers", "deltalake", "duckdb", "matplotlib", "sklearn"}

VERBS = ("sample", "pull", "score", "build", "apply", "publish", "train", "forecast", "why", "snapshot")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BACKSIGHT), *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def test_help_lists_the_verbs_and_shows_an_example() -> None:
    done = run("--help")
    assert done.returncode == 0
    for verb in (*VERBS, "audit"):
        assert f"\n  {verb} " in done.stdout
    assert "backsight sample" in done.stdout


@pytest.mark.parametrize("verb", [*VERBS, "quarantine", "runs"])
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0
    assert f"Usage: backsight {verb}" in done.stdout
    assert f"\n    backsight {verb}" in done.stdout, "on a line of its own"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['backsight', '--help']\n"
        "from backsight_features.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"sys.exit(', '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""
    assert done.returncode == 0


def test_an_unknown_verb_is_a_usage_error() -> None:
    done = run("fortune")
    assert done.returncode == 2
    assert "fortune" in done.stderr


def test_an_error_is_one_line_and_its_exit_code_and_the_trace_is_there_on_demand(tmp_path: Path) -> None:
    arguments = ("pull", "dump", "--layout", "no-such-layout", str(tmp_path / "missing.csv"))
    done = run(*arguments, BACKSIGHT_HOME=str(tmp_path / "home"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "no-such-layout" in done.stderr
    traced = run("--debug", *arguments, BACKSIGHT_HOME=str(tmp_path / "home"))
    assert "Traceback" in traced.stderr


@pytest.mark.parametrize("name", ["a [folder]", "50%20off", "a|b"])
def test_a_home_where_no_delta_table_can_lie_is_refused(tmp_path: Path, name: str) -> None:
    done = run("--home", str(tmp_path / name), "build", "--bars", "v:BTC-USD:1h")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --home {tmp_path / name}: Delta tables cannot lie in a folder with ")
    assert done.stderr.count("\n") == 1


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    repo = Path(__file__).resolve().parents[2] / "feature_repo"
    done = run("--home", str(tmp_path / "file" / "home"), "apply", "--repo", str(repo))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "file") in done.stderr
