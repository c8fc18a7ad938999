"""FRED and its archive: observations with real-time periods, vintage dates, and the limits that go with them."""

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final
from xml.sax.saxutils import quoteattr

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.messages import Answer, Request, Row, text_document, text_page
from backsight_fakeworld.series import SERIES, Release, Series, series

_FIRST: Final = date(1776, 7, 4)
_FOREVER: Final = date(9999, 12, 31)
_XML: Final = "text/xml; charset=UTF-8"
_JSON: Final = "application/json; charset=UTF-8"
_DAY: Final = timedelta(days=1)


class _Refused(Exception):
    """A request that FRED does not answer."""


class Fred:
    """FRED, and the truth about its series.

    Attributes
    ----------
    max_vintages, max_observations, max_vintage_dates : int
        Most vintages that a real-time period may span, and rows in an answer.
    """

    def __init__(self, seed: int, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self.max_vintages = 2000
        self.max_observations = 100_000
        self.max_vintage_dates = 10_000

    def truth(self, series_id: str) -> list[Release]:
        """Return (date, realtime_start, value) of all that has been published by now, by date and publication."""
        return sorted(series(self._seed, series_id).known(self._clock.now))

    def known_at(self, series_id: str, day: date) -> dict[date, str]:
        """Return the last value of each period published up to the end of a day, and by now; ``"."`` for none."""
        return series(self._seed, series_id).known_at(day, self._clock.now)

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        as_json = request.query.get("file_type") == "json"
        try:
            self._check_key(request.query.get("api_key"))
            name = request.query.get("series_id", "")
            if name not in SERIES:
                raise _Refused("The series does not exist.")
            found = series(self._seed, name)
            match request.path:
                case "/series":
                    return _information(found, now, as_json)
                case "/series/observations":
                    return self._observations(found, request, now, as_json)
                case "/series/vintagedates":
                    return self._vintage_dates(found, request, now, as_json)
        except _Refused as refusal:
            return _error(400, f"Bad Request.  {refusal}", as_json)
        return _error(404, "Not Found", as_json)

    @staticmethod
    def _check_key(key: str | None) -> None:
        if not key:
            raise _Refused("Variable api_key is not set.  Read https://fred.stlouisfed.org/docs/api/api_key.html.")
        if len(key) != 32 or not key.isalnum() or key != key.lower():
            raise _Refused("The value for variable api_key is not a 32 character alpha-numeric lower-case string.")

    def _observations(self, found: Series, request: Request, now: datetime, as_json: bool) -> Answer:
        if request.query.get("units", "lin") != "lin" or request.query.get("output_type", "1") != "1":
            raise _Refused("The fake world has units=lin and output_type=1 only.")
        start, end = _realtime(request, now, (now.date(), now.date()))
        first, last = _day(request, "observation_start", _FIRST), _day(request, "observation_end", _FOREVER)
        limit, offset = _page(request, self.max_observations)
        if found.archived:
            vintages = sum(start <= vintage <= end for vintage in _vintages(found, now))
            if vintages > self.max_vintages:
                raise _Refused(
                    f"There are {vintages} vintage dates in the specified real-time period: {start} to {end}.  "
                    f"This exceeds the maximum number of vintage dates allowed ({self.max_vintages})."
                )
            rows = list(_clipped(found, start, end, now))
        else:
            _check_unarchived(start, end, now)
            rows = [_row(start, end, release) for release in sorted(found.known(now))]
        rows = [row for row in rows if str(first) <= row["date"] <= str(last)]
        if request.query.get("sort_order") == "desc":
            rows.reverse()
        return _listed(
            rows[offset : offset + limit],
            "observations",
            "observation",
            {
                "realtime_start": str(start),
                "realtime_end": str(end),
                "observation_start": str(first),
                "observation_end": str(last),
                "units": "lin",
                "output_type": 1,
                "file_type": "json" if as_json else "xml",
                "order_by": "observation_date",
                "sort_order": request.query.get("sort_order", "asc"),
                "count": len(rows),
                "offset": offset,
                "limit": limit,
            },
            as_json,
        )

    def _vintage_dates(self, found: Series, request: Request, now: datetime, as_json: bool) -> Answer:
        if not found.archived:
            raise _Refused("The series does not exist in ALFRED but may exist in FRED.")
        start, end = _realtime(request, now, (_FIRST, _FOREVER))
        limit, offset = _page(request, self.max_vintage_dates)
        rows = [str(vintage) for vintage in _vintages(found, now) if start <= vintage <= end]
        if request.query.get("sort_order") == "desc":
            rows.reverse()
        return _listed(
            rows[offset : offset + limit],
            "vintage_dates",
            "vintage_date",
            {
                "realtime_start": str(start),
                "realtime_end": str(end),
                "order_by": "vintage_date",
                "sort_order": request.query.get("sort_order", "asc"),
                "count": len(rows),
                "offset": offset,
                "limit": limit,
            },
            as_json,
        )


def _vintages(found: Series, now: datetime) -> list[date]:
    return sorted({release.realtime_start for release in found.known(now)})


def _clipped(found: Series, start: date, end: date, now: datetime) -> Iterator[dict[str, str]]:
    """Yield what was valid within a real-time period, by date, with validity cut to the period."""
    releases = sorted(found.known(now))
    for release, following in zip(releases, [*releases[1:], None], strict=True):
        replaced = following is not None and following.date == release.date
        until = following.realtime_start - _DAY if following is not None and replaced else _FOREVER
        if release.realtime_start <= end and until >= start:
            yield _row(max(release.realtime_start, start), min(until, end), release)


def _row(start: date, end: date, release: Release) -> dict[str, str]:
    return {
        "realtime_start": str(start),
        "realtime_end": str(end),
        "date": str(release.date),
        "value": release.value,
    }


def _check_unarchived(start: date, end: date, now: datetime) -> None:
    """Refuse the past of a series of which only the present is kept."""
    if not start <= now.date() <= end or start != end:
        raise _Refused("The series does not exist in ALFRED but may exist in FRED.")


def _realtime(request: Request, now: datetime, default: tuple[date, date]) -> tuple[date, date]:
    start = _day(request, "realtime_start", default[0])
    end = _day(request, "realtime_end", default[1])
    if start > end:
        raise _Refused(f"The value for variable realtime_end {end} is before realtime_start {start}.")
    if start > now.date():
        raise _Refused(f"Variable realtime_start can not be after today's date {now.date()}.")
    return start, end


def _day(request: Request, name: str, default: date) -> date:
    text = request.query.get(name)
    try:
        return default if text is None else date.fromisoformat(text)
    except ValueError:
        raise _Refused(f"The value for variable {name} is not a YYYY-MM-DD date.") from None


def _page(request: Request, most: int) -> tuple[int, int]:
    limit, offset = request.number("limit", most), request.number("offset", 0)
    if not 1 <= limit <= most:
        raise _Refused(f"The value for variable limit is not between 1 and {most}.")
    return limit, offset


def _listed(rows: list[Row], root: str, item: str, about: dict[str, object], as_json: bool) -> Answer:
    """Return rows, texts or attributes, below a root."""

    def xml(rows: list[Row]) -> str:
        head = f'<?xml version="1.0" encoding="utf-8" ?>\n<{root}{_attributes(about)}>\n'
        return head + "".join(map(element, rows)) + f"</{root}>\n"

    def element(row: Row) -> str:
        if isinstance(row, dict):
            return f"  <{item}{_attributes(row)}/>\n"
        return f"  <{item}>{'' if row is None else row}</{item}>\n"

    if as_json:
        return text_page(rows, lambda rows: json.dumps({**about, root: rows}), content_type=_JSON)
    return text_page(rows, xml, content_type=_XML)


def _attributes(values: dict[str, object]) -> str:
    return "".join(f" {name}={quoteattr(str(value))}" for name, value in values.items() if value is not None)


def _information(found: Series, now: datetime, as_json: bool) -> Answer:
    known = found.known(now)
    periods = [release.date for release in known]
    about = {
        "id": found.id,
        "realtime_start": str(now.date()),
        "realtime_end": str(now.date()),
        "title": found.title,
        "observation_start": str(min(periods)),
        "observation_end": str(max(periods)),
        "frequency": found.frequency,
        "frequency_short": found.frequency[0],
        "units": found.units,
        "units_short": found.units,
        "seasonal_adjustment": found.seasonal,
        "seasonal_adjustment_short": "".join(word[0] for word in found.seasonal.split()),
        "last_updated": f"{known[-1].realtime_start} 07:46:02-06",
        "popularity": "50",
        "notes": "Made up.",
    }
    about_all: dict[str, object] = {"realtime_start": str(now.date()), "realtime_end": str(now.date())}
    return _listed([about], "seriess", "series", about_all, as_json)


def _error(status: int, message: str, as_json: bool) -> Answer:
    if as_json:
        text = json.dumps({"error_code": status, "error_message": message})
    else:
        text = f'<?xml version="1.0" encoding="utf-8" ?>\n<error code="{status}" message={quoteattr(message)} />\n'
    return text_document(text, status=status, content_type=_JSON if as_json else _XML)
