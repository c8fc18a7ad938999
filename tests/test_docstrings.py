"""The examples in docstrings are true."""

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import backsight_features
import backsight_ingest
import backsight_model
import pytest

WITH_EXAMPLES = sorted(
    module.name
    for package in (backsight_features, backsight_ingest, backsight_model)
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}.")
    if ">>>" in Path(module.module_finder.find_spec(module.name, None).origin).read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name: str) -> None:
    done = doctest.testmod(import_module(name))
    assert done.attempted > 0
    assert done.failed == 0
