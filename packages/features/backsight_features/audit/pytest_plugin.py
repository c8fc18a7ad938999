"""The fixture ``backsight_audit``, for tests of other projects. Nothing is imported until it is used."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from backsight_features.audit.findings import Audit


class BacksightAudit:
    """Audits that fail a test with what they found."""

    def dataset(self, data: Any, *, time: str, label: str, horizon: str | None = None, **roles: Any) -> "Audit":
        """Fail unless nothing in a table saw the future; return the audit.

        Parameters
        ----------
        data : data frame of polars or pandas, or path
            The table, as for ``backsight audit dataset``.
        time, label : str
            Columns with the instant of a row and with what is learnt.
        horizon : str, optional
            How far a label reaches: ``24h``.
        **roles : str or sequence of str
            ``split`` (a column), ``claim`` (``MAPE=2.49%``, one or several), ``prediction``, ``price``, ``symbol``,
            ``ignore``.

        Raises
        ------
        AssertionError
            With the findings, the smallest example first.
        BadInput
            If a column is absent or cannot be what it is said to be.
        """
        __tracebackhide__ = True
        from backsight_features.audit.baselines import Claim
        from backsight_features.audit.dataset import audit_dataset
        from backsight_features.audit.table import Roles
        from backsight_features.clocks import timeframe

        claims = roles.pop("claim", ())
        if isinstance(claims, str):
            claims = (claims,)
        of = Roles(time=time, label=label, horizon=None if horizon is None else timeframe(horizon), **roles)
        found = audit_dataset(data, of, claims=[Claim.parse(one) for one in claims])
        if found.errors:
            raise AssertionError(found.text())
        return found

    def pipeline(self, home: "Path", repo: "Path", *, bars: str | None = None, **asked: Any) -> "Audit":
        """Fail unless nothing between a lake and what is served sees the future; return the audit.

        Parameters
        ----------
        home, repo : Path
            The folder of lake and features, and that of ``feature_store.yaml``.
        bars : str, optional
            ``VENUE:SYMBOL:TIMEFRAME``, if several series are built.
        **asked : str or int
            ``service`` and ``most``, as `audit.pipeline.audit` takes them.

        Raises
        ------
        AssertionError
            With the findings, the smallest example first.
        """
        __tracebackhide__ = True
        from backsight_features.audit.pipeline import audit
        from backsight_features.bars import BarSeries
        from backsight_features.workspace import Workspace

        series = None if bars is None else BarSeries.parse(bars)
        found = audit(Workspace(root=home), repo, series=series, **asked)
        if found.errors:
            raise AssertionError(found.text())
        return found


@pytest.fixture(scope="session")
def backsight_audit() -> BacksightAudit:
    """Return audits that fail a test with what they found: ``backsight_audit.dataset(frame, time="t", label="y")``."""
    return BacksightAudit()
