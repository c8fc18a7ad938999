"""The auditor: what saw the future, in a lake and in anybody's table, said with the smallest example first."""

from backsight_features.audit.findings import Audit, Finding, LookedFor

__all__ = ["Audit", "Finding", "LookedFor"]
