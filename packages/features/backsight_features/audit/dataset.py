"""``audit dataset``: a table that somebody trains on, checked for what saw the future."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from backsight_features.audit import backfills, baselines, copies, leads, periods, prices, scalers, splits, windows
from backsight_features.audit.baselines import Claim
from backsight_features.audit.findings import Audit, Finding, LookedFor
from backsight_features.audit.table import Roles, Table, read, table
from backsight_features.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

CHECKS: Final = {
    copies.CHECK: "the label, or one whose outcome was not known yet, in a feature",
    leads.CHECK: "features that know later rows",
    backfills.CHECK: "gaps that are filled with what came after them",
    periods.CHECK: "values of a whole period from its beginning on",
    prices.OPEN_STAMP: "bars that are stamped with their open",
    prices.HORIZON: "labels of another horizon than stated",
    splits.OVERLAP: "labels that are learnt from and reach into what is judged",
    splits.SHUFFLED: "judged rows in between those that are learnt from",
    splits.DUPLICATES: "rows that are learnt from and judged",
    scalers.CHECK: "statistics that were fitted on all rows",
    baselines.CLOCK: "a neighbour in time that knows the label without a feature",
    baselines.BASELINE: "claims that persistence reaches, and baselines that knew the answer",
}
"""Every check and what it looks for, in the order in which they are made."""

_NEEDS: Final = {
    prices.OPEN_STAMP: ("price",),
    prices.HORIZON: ("price",),
    splits.OVERLAP: ("split", "horizon"),
    splits.SHUFFLED: ("split",),
    splits.DUPLICATES: ("split",),
    scalers.CHECK: ("split",),
    baselines.CLOCK: ("split",),
}


_EXPLAIN: Final = frozenset({copies.CHECK, backfills.CHECK, periods.CHECK, prices.OPEN_STAMP})


def audit_dataset(
    data: "pl.DataFrame | pd.DataFrame | Path | str",
    roles: Roles,
    *,
    split: "pl.DataFrame | pd.DataFrame | Path | None" = None,
    claims: Sequence[Claim] = (),
    where: str | None = None,
) -> Audit:
    """Return what in a table saw the future.

    Parameters
    ----------
    data : data frame or path
        The table; a path names a CSV or Parquet file. Rows in any order.
    roles : Roles
        What its columns are. All numeric columns without a role are features.
    split : data frame or path, optional
        The parts, where they are not a column of the table: its time (and symbol), and one column more.
    claims : sequence of Claim
        What is said of a model, to be put beside persistence.
    where : str, optional
        What to call the table.

    Raises
    ------
    BadInput
        If a column is absent or cannot be what it is said to be.
    """
    if isinstance(data, str):
        data = Path(data)
    name = where or (data.name if isinstance(data, Path) else "the table")
    of = table(_frame(data), roles, where=name, split=None if split is None else _frame(split))
    if not of.features and not claims and roles.prediction is None:
        raise BadInput(
            f"{name} has no feature to look at: {roles.label!r} and {roles.time!r} are all that holds numbers"
        )
    # One thread: where others work too, those of the linear algebra would mostly wait for each other.
    with threadpool_limits(1, user_api="blas"):
        return _audited(of, tuple(claims))


def _frame(data: "pl.DataFrame | pd.DataFrame | Path") -> pl.DataFrame:
    if isinstance(data, Path):
        return read(data)
    return data if isinstance(data, pl.DataFrame) else pl.from_pandas(data)


def _audited(of: Table, claims: tuple[Claim, ...]) -> Audit:
    of = prices.priced(of)
    reached = prices.reach(of, of.price)
    known = reached[2] if reached else of.horizon
    horizon = known or 1
    scored = baselines.scores(of, claims, horizon)
    by_clock, clock_scores = baselines.nearest_in_time(of, claims, horizon)
    findings: list[Finding] = [
        *copies.copies(of, known),
        *leads.later_rows(of, leads.look(of, known)),
        *windows.centred_windows(of),
        *backfills.backfills(of),
        *periods.periods(of),
        *prices.open_stamps(of),
        *prices.horizons(of, reached),
        *splits.overlaps(of, known),
        *splits.shuffles(of),
        *splits.duplicates(of),
        *scalers.scalers(of),
        *by_clock,
        *baselines.beaten(of, scored, horizon),
        *baselines.known_means(of),
    ]
    return Audit(
        of=of.where,
        findings=tuple(_sharpest(findings)),
        looked_for=tuple(_looked_for(of, known)),
        scores=(*scored, *clock_scores) if claims or of.roles.prediction or by_clock else (),
        notes=of.notes,
    )


def _sharpest(findings: list[Finding]) -> list[Finding]:
    """Return a finding per check and name; that a feature knows later rows is left out where another says how."""
    explained = {one.name for one in findings if one.check in _EXPLAIN and one.severity == "error"}
    kept = {
        (one.check, one.name): one
        for one in reversed(findings)
        if one.check != leads.CHECK or one.name not in explained
    }
    return list(kept.values())[::-1]


def _looked_for(of: Table, horizon: int | None) -> list[LookedFor]:
    given = {"price": of.price is not None, "split": of.parts is not None, "horizon": horizon is not None}
    found = []
    for check, said in CHECKS.items():
        lacking = [need for need in _NEEDS.get(check, ()) if not given[need]]
        said = f"needs --{' and --'.join(lacking)}" if lacking else said
        found.append(LookedFor(check=check, said=said, skipped=bool(lacking)))
    return found
