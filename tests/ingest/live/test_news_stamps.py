"""A stamp of a feed is an instant where it names one without doubt, and none elsewhere."""

from datetime import UTC, datetime

import pytest
from backsight_ingest.sources.news_stamps import instant

TEN = datetime(2024, 5, 17, 10, tzinfo=UTC)
END_OF_DAY = datetime(2024, 5, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("Fri, 17 May 2024 10:00:00 GMT", TEN),
        ("Fri, 17 May 2024 10:00:00 UTC", TEN),
        ("Fri, 17 May 2024 10:00:00 UT", TEN),
        ("Fri, 17 May 2024 10:00:00 Z", TEN),
        ("Fri, 17 May 2024 15:30:00 +0530", TEN),
        ("Fri, 17 May 2024 15:30:00 +05:30", TEN),
        ("Fri, 17 May 2024 10:00:00 -0000", TEN),
        ("17 May 24 10:00 GMT", TEN),
        ("Fri, 17 May 2024 05:00:00 EST", TEN),
        ("Fri, 17 May 2024 06:00:00 EDT", TEN),
        ("Fri, 17 May 2024 02:00:00 PST", TEN),
        ("  Fri, 17 May 2024 10:00:00 gmt\n", TEN),
        ("2024-05-17T10:00:00Z", TEN),
        ("2024-05-17T12:00:00.000+02:00", TEN),
        ("2024-05-17 10:00:00+00:00", TEN),
        ("2024-05-17", END_OF_DAY),
        ("Fri, 17 May 2024", END_OF_DAY),
    ],
)
def test_an_instant_without_doubt(stamp: str, at: datetime) -> None:
    assert instant(stamp) == at


@pytest.mark.parametrize(
    ("why", "stamp"),
    [
        ("no date", None),
        ("no date", ""),
        ("no date", "yesterday"),
        ("a zone of three countries", "Fri, 17 May 2024 10:00:00 IST"),
        ("a zone that feedparser takes for UTC", "Fri, 17 May 2024 10:00:00 CET"),
        ("a zone that feedparser takes for UTC", "Fri, 17 May 2024 10:00:00 JST"),
        ("the Atlantic's or Arabia's", "Fri, 17 May 2024 10:00:00 AST"),
        ("a letter of the military", "Fri, 17 May 2024 10:00:00 A"),
        ("a clock of JavaScript", "Fri May 17 2024 10:00:00 GMT+0200 (CEST)"),
        ("no zone", "Fri, 17 May 2024 10:00:00"),
        ("no zone", "2024-05-17T10:00:00"),
        ("an epoch in seconds", "1715940000"),
        ("an epoch in milliseconds", "1612120112345"),
        ("no such hour", "Fri, 17 May 2024 25:00:00 GMT"),
        ("no such day", "2024-02-30"),
        ("no such zone", "Fri, 17 May 2024 10:00:00 +9900"),
        ("beyond all calendars", "9999-12-31"),
        ("the zero of a clock", "0001-01-01T00:00:00Z"),
        ("the zero of another", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
)
def test_no_instant(why: str, stamp: str | None) -> None:
    assert instant(stamp) is None, why
