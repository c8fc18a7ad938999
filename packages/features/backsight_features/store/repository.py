"""A feature repo: its settings and its definitions, read without changing the process they are read in."""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import sqlalchemy
import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, OnDemandFeatureView, Project, RepoConfig
from feast.data_source import DataSource
from feast.errors import FeastError
from feast.feature_view import DUMMY_ENTITY
from feast.repo_contents import RepoContents
from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from backsight_features.errors import BadInput, SourceError
from backsight_features.masking import masked
from backsight_features.store.settings import expand, unset

_SETTINGS: Final = "feature_store.yaml"
_ELSEWHERE: Final = "FEAST_FS_YAML_FILE_PATH"
"""Feast's variable for other settings than those in the feature repo."""

_SERVER: Final = re.compile(r"[\w.-]+:\d+")

_APPLYING: Final = 0x6261636B73696768
"""Key of the lock in PostgreSQL under which a registry is made and changed."""


def configuration(repo: Path, environment: Mapping[str, str]) -> RepoConfig:
    """Return the settings of a feature repo with its variables replaced.

    Parameters
    ----------
    repo : Path
        The folder of the definitions; ``feature_store.yaml`` there is read, unless ``FEAST_FS_YAML_FILE_PATH`` names
        another file.
    environment : mapping of str to str
        The variables; ``${NAME:-default}`` works.

    Raises
    ------
    BadInput
        If there is no such file, it needs a variable that is not set, or Feast refuses it.
    """
    elsewhere = environment.get(_ELSEWHERE)
    path = Path(elsewhere) if elsewhere else repo / _SETTINGS
    if not path.is_file():
        hint = f"{_ELSEWHERE} names it" if elsewhere else "name the folder of the feature repo with --repo"
        raise BadInput(f"no {path.name} in {path.parent}; {hint}")
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if missing := sorted(set(_unset(settings, environment))):
        raise BadInput(f"{path} needs {', '.join(missing)}: not set")
    try:
        config = RepoConfig(**_expanded(settings, environment))
        # Feast looks at it when it is first used only.
        registry = config.registry
    except ValidationError as error:
        # Its own text, and the error itself, quote the settings: passwords too.
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
        raise BadInput(masked(f"{path} cannot be used: {'; '.join(wrong)}", environment)) from None
    except (FeastError, ValueError, TypeError) as error:
        raise BadInput(masked(f"{path} cannot be used: {error}", environment)) from None
    if registry.registry_type == "sql":
        _check_registry(registry.path, path)
    if config.online_store is not None and config.online_store.type == "redis":
        _check_redis(config.online_store.connection_string, path)
    config.repo_path = repo.absolute()
    return config


def connect(config: RepoConfig) -> FeatureStore:
    """Return Feast with these settings, its registry open.

    Raises
    ------
    SourceError
        If the database of the registry does not answer, or not to us.
    """
    if config.registry.registry_type == "sql":
        # A service reads the registry once; connections would lie idle as long as it runs.
        given = config.registry.sqlalchemy_config_kwargs
        unpooled = {name: value for name, value in given.items() if not name.startswith(("pool", "max_overflow"))}
        config.registry.sqlalchemy_config_kwargs = {**unpooled, "poolclass": sqlalchemy.NullPool}
    feast = FeatureStore(repo_path=str(config.repo_path), config=config)
    with changing(config):
        # Opened by its first use, and then its tables are made if need be.
        _ = feast.registry
    return feast


@contextmanager
def changing(config: RepoConfig) -> Iterator[None]:
    """Let one process at a time change a registry in PostgreSQL: Feast compares and then writes.

    Raises
    ------
    SourceError
        If the database does not answer, or not to us.
    """
    if config.registry.registry_type != "sql":
        yield
        return
    url = make_url(config.registry.path)
    try:
        engine = sqlalchemy.create_engine(url, **config.registry.sqlalchemy_config_kwargs)
    except ModuleNotFoundError as error:
        raise BadInput(f"the registry needs {error.name}; install backsight-features[team]") from error
    except ArgumentError as error:
        raise BadInput(masked(f"the registry at {url} cannot be used: {error}")) from error
    try:
        if url.get_backend_name() != "postgresql":
            yield
            return
        with engine.connect() as connection:
            # It goes with the connection, whatever becomes of this process.
            connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": _APPLYING})
            yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error)
        raise SourceError(masked(f"the registry at {url} cannot be used: {' '.join(cause.split())}")) from error
    finally:
        engine.dispose()


def definitions(repo: Path, project: str) -> RepoContents:
    """Return the Feast objects that the modules of a feature repo hold at top level.

    Parameters
    ----------
    repo : Path
        The folder; its modules import each other by their names.
    project : str
        The project they belong to.
    """
    held = [value for module in _modules(repo) for value in vars(module).values()]
    views = _each(held, FeatureView)
    sources = _each([*held, *(view.batch_source for view in views)], DataSource)
    return RepoContents(
        projects=[Project(name=project)],
        data_sources=sources,
        entities=[*_each(held, Entity), DUMMY_ENTITY],
        feature_views=views,
        feature_services=_each(held, FeatureService),
        on_demand_feature_views=_each(held, OnDemandFeatureView),
        stream_feature_views=[],
        label_views=[],
        permissions=[],
    )


def _check_registry(url: str, path: Path) -> None:
    """Refuse the address of a registry where a part of the password would be taken for the host, and be shown."""
    try:
        host = make_url(url).host or ""
    except (ArgumentError, ValueError):
        right = "postgresql+psycopg://<user>:<password>@<host>/<database>"
        raise BadInput(f"{path}: the registry is not at an address such as {right}") from None
    if "@" in host:
        raise BadInput(f"{path}: the address of the registry has a second @; in a password it is written %40")


def _check_redis(servers: str, path: Path) -> None:
    """Refuse the address of Redis where Feast would take something else for a host, and perhaps show it."""
    for part in servers.split(","):
        if "=" not in part and not _SERVER.fullmatch(part):
            right = "<host>:6379,password=<password>,ssl=true"
            raise BadInput(f"{path}: Redis is not at an address such as {right}; a password has no comma there")


def _unset(settings: Any, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that parsed settings need and that are not there."""
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _unset(value, environment)
    elif isinstance(settings, str):
        yield from unset(settings, environment)


def _expanded(settings: Any, environment: Mapping[str, str]) -> Any:
    """Return parsed settings with the variables in every text replaced.

    After parsing, so that no value can change the structure of the file; a text that becomes a number is one, as in
    the file that Feast reads.
    """
    if isinstance(settings, dict):
        return {name: _expanded(value, environment) for name, value in settings.items()}
    if isinstance(settings, list):
        return [_expanded(value, environment) for value in settings]
    if not isinstance(settings, str) or (text := expand(settings, environment)) == settings:
        return settings
    return int(text) if text.isdecimal() else {"true": True, "false": False}.get(text, text)


def _each(held: list[Any], kind: type) -> list[Any]:
    """Return the objects of a kind, each once, whatever the number of names it has."""
    return list({id(value): value for value in held if isinstance(value, kind)}.values())


def _modules(repo: Path) -> list[ModuleType]:
    names = sorted(path.stem for path in repo.glob("*.py") if path.stem != "__init__")
    with _imports_from(repo, names):
        return [importlib.import_module(name) for name in names]


@contextmanager
def _imports_from(folder: Path, names: list[str]) -> Iterator[None]:
    """Let the modules of a folder import each other, and leave no trace: another repo may use the same names."""
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    path = str(folder.absolute())
    sys.path.insert(0, path)
    # A cached module goes by size and second, and would hide an edit of the same length.
    cached, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(path)
        sys.dont_write_bytecode = cached
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
