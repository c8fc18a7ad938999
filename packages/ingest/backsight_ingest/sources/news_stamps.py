"""The stamps of feeds: an instant where one is named without doubt, else none.

feedparser takes a zone whose name it does not know for UTC, and so is hours off, with some zones into the future.
"""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}|(?:[A-Za-z]{3}, )?\d{1,2} [A-Za-z]{3} \d{4}")
_ZONE: Final = re.compile(r"(?:[+-]\d{4}|[+-]\d{2}:\d{2}|UTC?|GMT|Z|[ECMP][SD]T)", re.IGNORECASE)
"""Those of RFC 822, but for the letters of the military, which it had the wrong way round."""

_FIRST_YEAR: Final = 1990
"""A stamp before there were pages is the zero of somebody's clock."""


def instant(text: str | None) -> datetime | None:
    """Return the instant that the stamp of an article names.

    Parameters
    ----------
    text : str or None
        As in RFC 822 (``Fri, 17 May 2024 10:00:00 GMT``) or ISO 8601.

    Returns
    -------
    datetime or None
        UTC. Of a date alone the end of that day. None where there is no date, or a time in no zone or in one whose name
        several places use: IST is India, Israel and Ireland.

    Examples
    --------
    >>> instant("Fri, 17 May 2024 10:00:00 EDT").isoformat()
    '2024-05-17T14:00:00+00:00'
    >>> instant("2024-05-17").isoformat()
    '2024-05-18T00:00:00+00:00'
    >>> instant("Fri, 17 May 2024 10:00:00 IST") is None
    True
    """
    text = (text or "").strip()
    date = _DATE.fullmatch(text) is not None
    try:
        at = datetime.fromisoformat(text) if text[:4].isdecimal() else _rfc_822(f"{text} 00:00" if date else text)
        if date:
            at = at.replace(tzinfo=UTC) + timedelta(days=1)
        named = at.tzinfo is not None and at.year >= _FIRST_YEAR
        return at.astimezone(UTC) if named else None
    except (ValueError, OverflowError):
        return None


def _rfc_822(text: str) -> datetime:
    """Return the instant, without a zone where that is not known for certain."""
    zone = text.rpartition(" ")[2]
    if not _ZONE.fullmatch(zone):
        return parsedate_to_datetime(text).replace(tzinfo=None)
    text = re.sub(r"([+-]\d\d):(\d\d)$", r"\1\2", text)
    # -0000 says that nobody knows where that was, but the instant is UTC.
    return parsedate_to_datetime(re.sub(r"-0000$", "+0000", text))
