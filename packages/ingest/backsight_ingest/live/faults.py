"""What can go wrong with a live source, sorted by whether asking again may help.

::

    SourceError                 4
    ├── Transient                   ask again; after ``retry_after``, if the server said so
    ├── Refused                     asking again changes nothing: a key, an address, a size
    └── ClockSkew                   this machine's clock, or the server's, is wrong

    Interrupted            128 + n   signal n came
"""

from datetime import timedelta

from backsight_features.errors import BacksightError, SourceError


class Transient(SourceError):
    """The same request may succeed later.

    Parameters
    ----------
    message : str
        What went wrong.
    retry_after : timedelta, optional
        How long the server asks to wait.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(SourceError):
    """The source will not answer this request, however often it is asked."""


class ClockSkew(SourceError):
    """Two clocks disagree, so that nobody can say what was known when."""


class Interrupted(BacksightError):
    """A signal ended the job; what was committed stays, and the next run goes on from there.

    Parameters
    ----------
    signal : int
        Its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"interrupted by signal {signal}; the next run goes on from here")
        # What a shell reports for a process that the signal killed. An instance's own, so not declared as the class's.
        self.exit_code = 128 + signal  # type: ignore[misc]
