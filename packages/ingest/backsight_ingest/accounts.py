"""Accounts: what became of each file, closed and kept in the lake."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl
from backsight_features.clocks import UTC_US, utc_now
from backsight_features.errors import BacksightError, Busy
from backsight_features.masking import masked


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of one file, or of one run of a job.

    Parameters
    ----------
    origin : str
        The file, or the job's name.
    status : {"reading", "ok", "unchanged", "failed"}
        ``unchanged``: this very file was read before with this layout and these settings.
    read, accepted, duplicate, quarantined : int
        Facts; the first is the sum of the others.
    skipped : tuple of str
        Members of an archive that the layout does not claim, or that are empty.
    error : BacksightError, optional
        Why it failed.
    """

    origin: str
    status: Literal["reading", "ok", "unchanged", "failed"]
    read: int = 0
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    skipped: tuple[str, ...] = ()
    error: BacksightError | None = None

    @property
    def reason(self) -> str | None:
        """Why it failed, in one line without secrets; None where it did not."""
        return None if self.error is None else masked(" ".join(str(self.error).split()))

    def as_dict(self) -> dict[str, object]:
        """Return what a script reads."""
        return {
            "origin": self.origin,
            "status": self.status,
            "read": self.read,
            "accepted": self.accepted,
            "duplicate": self.duplicate,
            "quarantined": self.quarantined,
            "error": self.reason,
        }


def account_row(account: Account, verb: str, source: str, run: str, started: datetime) -> pl.DataFrame:
    """Return the row of `RUNS` for an account that closes now.

    Its ``status`` is ``ok``, or ``failed: `` or ``busy: `` and why; busy is one that others were at already.

    Parameters
    ----------
    account : Account
        Of one file.
    verb, source : str
        What was done, and through which layout.
    run : str
        The same for all files of one command.
    started : datetime
        When the file was begun.
    """
    status: str = account.status
    if account.error is not None:
        outcome = "busy" if isinstance(account.error, Busy) else "failed"
        status = f"{outcome}: {account.reason}"
    return pl.DataFrame(
        {
            "run": run,
            "origin": account.origin,
            "verb": verb,
            "source": source,
            "started_at": started,
            "finished_at": utc_now(),
            "status": status,
            "read": account.read,
            "accepted": account.accepted,
            "duplicate": account.duplicate,
            "quarantined": account.quarantined,
        },
        schema_overrides={"started_at": UTC_US, "finished_at": UTC_US},
    )
