"""The mutation score: leaks that people make are convicted by name, and clean tables never."""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
from backsight_features.audit import Audit
from backsight_features.audit.baselines import Claim
from backsight_features.audit.dataset import CHECKS, audit_dataset
from backsight_features.audit.table import Roles


def beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


worlds, leaks = beside("dataset_worlds"), beside("dataset_leaks")
LEAST_LEAKS, LEAST_CONTROLS, LEAST_CONVICTED = 60, 20, 0.95
TOGETHER = 12
SEEDS = range(1, 4)


def audited(world: Any) -> Audit:
    return audit_dataset(world.frame, Roles(**world.roles), claims=[Claim.parse(one) for one in world.claims])


def convicts(found: Audit, leak: Any, about: str | None = None) -> bool:
    """Return whether a leak is convicted by the right name, with an instant and a datum."""
    about = about or leak.about
    return any(
        one.check == leak.check and one.name == about and one.severity == "error" and one.datum and one.instant
        for one in found.findings
    )


def convicted(market: Any) -> Iterator[tuple[str, bool]]:
    """Yield each leak and whether it is convicted; those that only add a column to the table share audits."""
    columns = {}
    for name, leak in leaks.LEAKS.items():
        world = leak.make(market)
        if world.roles == market.roles and world.frame.drop("leaked", strict=False).equals(market.frame):
            columns[name] = world.frame["leaked"].alias(name)
        else:
            yield name, convicts(audited(world), leak)
    shared = list(columns)
    for start in range(0, len(shared), TOGETHER):
        names = shared[start : start + TOGETHER]
        found = audited(replace(market, frame=market.frame.with_columns(columns[name] for name in names)))
        for name in names:
            yield name, convicts(found, leaks.LEAKS[name], name)


@pytest.fixture(scope="module")
def market() -> Any:
    """With few honest columns, as all but the leak are the same in each audit."""
    world = worlds.market(0)
    return replace(world, frame=world.frame.drop("ret_1_lag_3", "vol_24", "z_120", "macro", "mood_mean_24"))


def test_leaks_are_convicted_by_name(market: Any) -> None:
    escaped = [name for name, caught in convicted(market) if not caught]
    assert len(leaks.LEAKS) >= LEAST_LEAKS
    assert 1 - len(escaped) / len(leaks.LEAKS) >= LEAST_CONVICTED, escaped
    assert {leak.check for leak in leaks.LEAKS.values()} == set(CHECKS), "every check has leaks of its own"


@pytest.mark.parametrize("name", worlds.CONTROLS)
def test_clean_tables_are_not_convicted(name: str) -> None:
    found = audited(worlds.CONTROLS[name](0))
    assert found.findings == (), found.text()
    assert found.exit_code == 0


def test_there_are_enough_clean_tables() -> None:
    assert len(worlds.CONTROLS) >= LEAST_CONTROLS


@pytest.mark.parametrize("ahead", ["return", "volatility"])
def test_honest_features_of_real_bars_are_not_convicted(shared_data: Path, ahead: str) -> None:
    bars = pl.read_csv(shared_data / "ohlcv" / "binance_BTCUSDT_1h_2017-2024.csv.gz", infer_schema_length=10_000)
    found = audited(worlds.real(bars.tail(8_000), ahead))
    assert found.findings == (), found.text()


@pytest.mark.prove
def test_other_seeds() -> None:
    caught = made = 0
    for seed in SEEDS:
        market = worlds.market(seed)
        for leak in leaks.LEAKS.values():
            caught, made = caught + convicts(audited(leak.make(market)), leak), made + 1
        for name, control in worlds.CONTROLS.items():
            found = audited(control(seed))
            assert not found.errors, f"{name}, seed {seed}: {found.text()}"
    print(f"{caught} of {made} leaks convicted by name, none of {len(SEEDS) * len(worlds.CONTROLS)} clean tables")
    assert caught / made >= LEAST_CONVICTED
