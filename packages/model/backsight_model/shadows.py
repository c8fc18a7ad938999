"""Challengers in shadow: bundles that forecast beside the one in use, to be compared with it, and are never served.

::

    models/shadow.json     which bundle forecasts which symbol in shadow
    forecasts/shadow/      the log of what they forecast, apart from what was handed out
"""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import filelock
from backsight_features.errors import BacksightError, BadInput
from backsight_features.workspace import Workspace

from backsight_model import bundle
from backsight_model.bundle import Bundle
from backsight_model.forecast import forecast
from backsight_model.forecast_log import ForecastLog
from backsight_model.live.lastseen import keep

if TYPE_CHECKING:
    from backsight_features.store import Store

POINTER: Final = "shadow.json"
LOG: Final = "shadow"
"""Folder of `Workspace.forecasts`."""


def named(models: Path) -> dict[str, str]:
    """Return the bundle in shadow of each symbol that has one.

    Raises
    ------
    BadInput
        Where the file that says so is damaged.
    """
    path = models / POINTER
    if not path.exists():
        return {}
    try:
        held: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON ({error}); remove it, and name the bundles in shadow again") from error
    return held


def put(models: Path, name: str) -> Bundle:
    """Let a bundle forecast in the shadow of those in use for its symbols, in the place of any before; return it.

    Raises
    ------
    BadInput
        Where there is no such bundle, it cannot be read, is in use, or forecasts another horizon than what is.
    Missing
        Where no model is in use for one of its symbols.
    """
    if not (models / name / bundle.DOCUMENT).is_file():
        raise BadInput(f"there is no bundle {name} in {models}; `backsight train` says the name of what it made")
    challenger = bundle.read(models / name)
    for symbol in challenger.symbols:
        champion = bundle.current(models, symbol)
        if champion.name == name:
            raise BadInput(f"{name} is in use for {symbol}; a shadow is another bundle")
        mine, theirs = (one.horizon * one.timeframe for one in (challenger, champion))
        if mine != theirs or challenger.timeframe != champion.timeframe:
            raise BadInput(
                f"{name} forecasts {mine} of bars of {challenger.timeframe}, {champion.name} {theirs} of bars of "
                f"{champion.timeframe}; only what forecasts the same can be compared"
            )
    _change(models, dict.fromkeys(challenger.symbols, name))
    return challenger


def end(models: Path, symbols: Sequence[str]) -> None:
    """Let nothing forecast in the shadow of symbols any more."""
    _change(models, dict.fromkeys(symbols))


def stand_by(models: Path, name: str, *, losers: Collection[str]) -> bool:
    """Put a challenger that lost in shadow, and return whether it is: one that is no loser itself keeps its place."""
    held = named(models)
    symbols = bundle.read(models / name).symbols
    if not {held[symbol] for symbol in symbols if symbol in held} <= {name, *losers}:
        return False
    put(models, name)
    return True


def log(workspace: Workspace) -> ForecastLog:
    """Return the log of what was forecast in shadow."""
    return ForecastLog(workspace.forecasts / LOG)


def forecast_all(
    workspace: Workspace, store: "Store", *, at: datetime
) -> tuple[list[dict[str, Any]], list[BacksightError]]:
    """Log what each bundle in shadow says of what is online, and return it by symbol, and why others say nothing."""
    made: list[dict[str, Any]] = []
    failed: list[BacksightError] = []
    read = cache(lambda name: bundle.read(workspace.models / name))
    for symbol, name in named(workspace.models).items():
        try:
            challenger = read(name)
            window = store.online(challenger.service, symbol, at=at)
            said = forecast(challenger, window)
            made.append({"id": log(workspace).add(said, window)} | said.to_json())
        except BacksightError as error:
            failed.append(error)
    return made, failed


def _change(models: Path, wanted: dict[str, str] | dict[str, None]) -> None:
    # Else what is named for another symbol at the same time is lost.
    with filelock.FileLock(models / f".{POINTER}.lock"):
        held = named(models) | wanted
        kept = {symbol: name for symbol, name in held.items() if name is not None}
        keep(models / POINTER, kept)
