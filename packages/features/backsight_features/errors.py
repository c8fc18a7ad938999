"""Errors, sorted by what the caller should do about them.

::

    BacksightError              1
    ├── BadInput                2   fix what was given: a path, a name, an option
    ├── Drifted                 3   a source has another shape than declared: fix the layout
    ├── SourceError             4   a source cannot be read now: try again later
    ├── Busy                   75   other jobs are writing the same: try again later
    ├── NeedsAttention          6   jobs are stale or failing: see what `backsight status` says of them
    └── NotServable             5   a forecast cannot honestly be made
        ├── Missing                 nothing is stored for the symbol
        ├── Stale                   what is stored is too old
        ├── FutureStamped           what is stored is stamped after the instant asked for
        ├── NonFinite               a stored value is not a finite number
        └── HeaderMismatch          what is stored was made for another model

The number is the exit code of the command line; 75 is ``EX_TEMPFAIL``, which schedulers retry.
A message is one line that names the thing, its value and what would be right.
"""

from typing import ClassVar


class BacksightError(Exception):
    """An error with a message for a person; everything that backsight raises on purpose derives from it."""

    exit_code: ClassVar[int] = 1


class BadInput(BacksightError):
    """What was given cannot be used as it is."""

    exit_code = 2


class Drifted(BacksightError):
    """A source no longer has the declared shape; nothing of the batch was written."""

    exit_code = 3


class SourceError(BacksightError):
    """A source could not be read now."""

    exit_code = 4


class Busy(BacksightError):
    """Other jobs are writing the same."""

    exit_code = 75


class NeedsAttention(BacksightError):
    """Jobs are not as they should be."""

    exit_code = 6


class NotServable(BacksightError):
    """A forecast cannot honestly be made from what is online."""

    exit_code = 5


class Missing(NotServable):
    """Nothing is online for the symbol."""


class Stale(NotServable):
    """What is online is older than the maximum age."""


class FutureStamped(NotServable):
    """What is online is stamped after the instant asked for."""


class NonFinite(NotServable):
    """A value online is infinite."""


class HeaderMismatch(NotServable):
    """What is online was written for another feature list, length or format."""
