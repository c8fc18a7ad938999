"""A feature repo: its settings and its definitions, read without changing the process they are read in."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, Project, RepoConfig
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY
from feast.repo_contents import RepoContents

from backsight_features.errors import BadInput
from backsight_features.store.settings import expand

_SETTINGS = "feature_store.yaml"


def configuration(repo: Path, environment: Mapping[str, str]) -> RepoConfig:
    """Return the settings of a feature repo with its variables replaced.

    Parameters
    ----------
    repo : Path
        The folder of ``feature_store.yaml``.
    environment : mapping of str to str
        The variables; ``${NAME:-default}`` works.

    Raises
    ------
    BadInput
        If there is no such file or Feast refuses it.
    """
    path = repo / _SETTINGS
    if not path.is_file():
        raise BadInput(f"no {_SETTINGS} in {repo}; name the folder of the feature repo with --repo")
    try:
        config = RepoConfig(**_expanded(yaml.safe_load(path.read_text()), environment))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise BadInput(f"{path} cannot be used: {error}") from error
    config.repo_path = repo.absolute()
    return config


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
