"""What a feature is: its name, formula, unit, what it is made of, and how far back and for how long it holds."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of a feature table, always Float32, null where undefined.

    Parameters
    ----------
    name : str
        Says what was computed: ``rsi_14``, ``ret_log_24h``.
    description : str
        The formula, in one line.
    unit : str
        What a value of 1 means.
    reads : tuple of str
        The columns of its facts that it is made of, as `why.explain` shows them: ``close``; none where it is not told.
    lookback : timedelta or None
        Facts known or observed longer than this before an instant do not change the value at that instant; None
        where the whole past counts. What a partial build has to read before its first row.
    max_age : timedelta
        How long after its ``available_at`` a value may still be served.
    """

    name: str
    description: str
    unit: str
    reads: tuple[str, ...] = ()
    lookback: timedelta | None
    max_age: timedelta
