"""Which settings hold, where tables lie, and what is kept out of texts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from backsight_features.cli import cli
from backsight_features.errors import BadInput
from backsight_features.masking import masked
from backsight_features.store.repository import configuration
from backsight_features.store.settings import resolve
from backsight_features.workspace import Workspace
from click.testing import CliRunner

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
TEAM = {
    "FEAST_FS_YAML_FILE_PATH": str(REPO / "feature_store.team.yaml"),
    "BACKSIGHT_REGISTRY": "postgresql+psycopg://team:registryPassword@db/features",
    "BACKSIGHT_REDIS": "cache:6379,password=cachePassword",
    "BACKSIGHT_TABLES": "s3://bucket/team",
}


def test_the_variable_of_feast_chooses_the_profile() -> None:
    alone = configuration(REPO, {"BACKSIGHT_HOME": "/srv/home"})
    assert alone.online_store.type == "backsight_features.store.home.HomeSqliteOnlineStore"
    assert alone.offline_store.root == "/srv/home"
    team = configuration(REPO, TEAM)
    assert (team.registry.registry_type, team.registry.path) == ("sql", TEAM["BACKSIGHT_REGISTRY"])
    assert (team.online_store.type, team.online_store.connection_string) == ("redis", TEAM["BACKSIGHT_REDIS"])
    assert team.offline_store.root == "s3://bucket/team"
    assert alone.project == team.project, "what one publishes, the other reads"
    assert alone.repo_path == team.repo_path == REPO


def test_every_variable_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(BadInput, match=r"team.yaml needs BACKSIGHT_REDIS, BACKSIGHT_REGISTRY, BACKSIGHT_TABLES: not"):
        configuration(REPO, {"FEAST_FS_YAML_FILE_PATH": TEAM["FEAST_FS_YAML_FILE_PATH"], "BACKSIGHT_REDIS": ""})
    with pytest.raises(BadInput, match=r"no x\.yaml in elsewhere; FEAST_FS_YAML_FILE_PATH names it"):
        configuration(REPO, {"FEAST_FS_YAML_FILE_PATH": "elsewhere/x.yaml"})


def test_settings_that_feast_refuses_are_told_without_their_values(tmp_path: Path) -> None:
    text = (REPO / "feature_store.team.yaml").read_text()
    (tmp_path / "feature_store.yaml").write_text(text.replace("cache_ttl_seconds: 60", "cache_ttl_seconds: [soon]"))
    environment = {name: value for name, value in TEAM.items() if name.startswith("BACKSIGHT_")}
    with pytest.raises(BadInput, match="cache_ttl_seconds: Input should be a valid integer") as told:
        configuration(tmp_path, environment)
    assert told.value.__cause__ is None
    assert "registryPassword" not in str(told.value)
    (tmp_path / "feature_store.yaml").write_text(text + "  key_ttl_seconds: never\n")
    with pytest.raises(BadInput, match="key_ttl_seconds") as told:
        configuration(tmp_path, environment)
    assert "cachePassword" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "environment", "place"),
    [
        ("${BACKSIGHT_TABLES:-${BACKSIGHT_HOME:-../x}}", {}, "/repo/../x"),
        ("${BACKSIGHT_TABLES:-${BACKSIGHT_HOME:-../x}}", {"BACKSIGHT_HOME": "/h"}, "/h"),
        ("${BACKSIGHT_TABLES:-${BACKSIGHT_HOME:-../x}}", {"BACKSIGHT_TABLES": "s3://b/p"}, "s3://b/p"),
        ("${BACKSIGHT_TABLES}/features", {"BACKSIGHT_TABLES": "/t {x}"}, "/t {x}/features"),
    ],
)
def test_where_a_variable_of_the_settings_leads(
    text: str, environment: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BACKSIGHT_HOME", "BACKSIGHT_TABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve(text, Path("/repo")) == place


def test_a_path_below_a_url_keeps_its_slashes() -> None:
    assert resolve("features/market_1h", "s3://bucket/team/") == "s3://bucket/team/features/market_1h"
    assert resolve("features/market_1h", "/srv/home") == "/srv/home/features/market_1h"
    assert resolve("/elsewhere", "/srv/home") == "/elsewhere"


def test_a_variable_that_leads_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKSIGHT_TABLES", raising=False)
    with pytest.raises(BadInput, match="needs BACKSIGHT_TABLES, which is not set"):
        resolve("${BACKSIGHT_TABLES}", None)
    monkeypatch.setenv("BACKSIGHT_HOME", "nowhere")
    with pytest.raises(BadInput, match="BACKSIGHT_HOME is 'nowhere', a relative path"):
        resolve("${BACKSIGHT_TABLES:-${BACKSIGHT_HOME:-x}}", None)


def test_tables_lie_below_the_root_unless_elsewhere(tmp_path: Path) -> None:
    alone = Workspace(root=tmp_path)
    assert (alone.lake, alone.features) == (tmp_path / "lake", tmp_path / "features")
    assert alone.variables == {"BACKSIGHT_HOME": str(tmp_path), "BACKSIGHT_TABLES": str(tmp_path)}
    team = Workspace(root=tmp_path, tables="s3://bucket/team/")
    assert (team.lake, team.models) == ("s3://bucket/team/lake", tmp_path / "models")
    assert team.variables == {"BACKSIGHT_HOME": str(tmp_path), "BACKSIGHT_TABLES": "s3://bucket/team/"}
    assert Workspace(root=tmp_path, tables=tmp_path / "shared").lake == tmp_path / "shared" / "lake"


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ("gs://bucket/x", "neither a folder nor an address such as s3://bucket/prefix"),
        ("s3://bucket/a prefix", "neither a folder nor"),
        ("s3://bucket/a%20prefix", "neither a folder nor"),
        ("s3://", "neither a folder nor"),
        ("a [folder]", "Delta tables cannot lie in a folder with '\\['"),
    ],
)
def test_a_place_where_no_table_can_lie_is_refused(tables: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        CliRunner().invoke(cli, ["--tables", tables, "runs"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "environment", "shown"),
    [
        ("at redis:6379,password=hunter22,ssl=true", {}, "at redis:6379,password=***,ssl=true"),
        ("{'password': 'hunter22', 'db': 1}", {}, "{'password': '***', 'db': 1}"),
        ("no postgresql://a:b@c@host/db", {}, "no postgresql://a:***@host/db"),
        ("key hunter22!", {"AWS_SECRET_ACCESS_KEY": "hunter22"}, "key ***!"),
        ("decoded p@ss-word", {"BACKSIGHT_REGISTRY": "postgresql://a:p%40ss-word@h/d"}, "decoded ***"),
        ("password authentication failed", {}, "password authentication failed"),
        ("false alarm", {"TOKENIZERS_PARALLELISM": "false"}, "false alarm"),
        ("a plain s3://bucket/key", {"AWS_SECRET_ACCESS_KEY": "a"}, "a plain s3://bucket/key"),
    ],
)
def test_what_is_masked(text: str, environment: dict[str, str], shown: str) -> None:
    assert masked(text, environment) == shown


def test_an_error_that_nobody_foresaw_is_traced_and_masked(tmp_path: Path) -> None:
    script = (
        "import sys, click\n"
        "from backsight_features import cli\n"
        "@click.command()\n"
        "def break_(): raise RuntimeError('cannot log in with hunter22')\n"
        "cli.cli.get_command = lambda context, name: break_\n"
        "sys.argv = ['backsight', 'break']\n"
        "cli.main()\n"
    )
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": "hunter22"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("RuntimeError: cannot log in with ***\n")
