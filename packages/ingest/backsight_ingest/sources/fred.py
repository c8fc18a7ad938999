"""FRED through fredapi, on our transport: each request ends, each listing is whole, and each error is one of ours.

fredapi has no timeout, takes a page for people as an empty series, and puts its key into what it raises. All of its
methods ask through one that is overridden here. What it lists row by row is listed here as a frame, page by page.
"""

import logging
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, ParseError, fromstring

import fredapi  # type: ignore[import-untyped]
import polars as pl
from backsight_features.errors import BadInput, Drifted
from backsight_features.masking import masked
from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.web import Web

VARIABLE: Final = "FRED_API_KEY"
"""The environment variable that holds the key."""

FIRST_DAY: Final = date.fromisoformat(fredapi.Fred.earliest_realtime_start)
"""Where FRED's calendar of vintages begins."""

INTERVAL: Final = timedelta(seconds=0.5)
"""FRED allows 120 requests a minute."""

OBSERVATIONS: Final = 100_000
VINTAGES: Final = 10_000
"""Most rows of a page, as FRED allows."""

_OBSERVATION: Final = ("date", "realtime_start", "realtime_end", "value")
_KEY: Final = re.compile(r"[0-9a-z]{32}")
_PASSING: Final = frozenset({"429", "500", "502", "503", "504"})
_NOT_ARCHIVED: Final = "does not exist in ALFRED"
_NO_SERIES: Final = "series does not exist"


class NotArchived(Refused):
    """Of this series FRED keeps what holds now, and nothing of what held before."""


class Fred(fredapi.Fred):  # type: ignore[misc]
    """fredapi's client on our transport.

    Parameters
    ----------
    api_key : str
        32 letters and digits.
    web : Web
        The way to it.
    page : int
        Rows that are asked for at once.

    Raises
    ------
    BadInput
        If the key is none.
    """

    def __init__(self, api_key: str, web: Web, *, page: int = OBSERVATIONS) -> None:
        if not _KEY.fullmatch(api_key):
            raise BadInput(f"{VARIABLE} is no key of FRED: it has to be 32 small letters and digits")
        super().__init__(api_key=api_key)
        if web.endpoint is not None:
            self.root_url = f"{web.endpoint}/fred"
        self._session = web.session(interval=INTERVAL, check=xml_body)
        self._retry = web.retry
        self._page = page
        _WIRE.addFilter(_without_keys)

    def vintage_dates(self, series: str) -> list[date]:
        """Return the days on which something of a series was published or revised, in order.

        Raises
        ------
        NotArchived
            If FRED does not keep them.
        SourceError
            If it does not answer.
        """
        pages = self._pages("series/vintagedates", VINTAGES, series_id=series)
        texts = {item.text or "" for page in pages for item in page}
        try:
            return sorted(map(date.fromisoformat, texts))
        except ValueError as error:
            raise Drifted(f"{series}: a vintage of FRED is no day: {error}") from None

    def observations(self, series: str, *, since: date | None = None, until: date | None = None) -> pl.DataFrame:
        """Return what held at any time between two days, or what holds now.

        Parameters
        ----------
        series : str
            Its id.
        since, until : date, optional
            Of publication, both included, with at most 2000 vintages between them.

        Returns
        -------
        pl.DataFrame
            A row per value of a period: ``date`` (start of the period), ``realtime_start`` and ``realtime_end`` (the
            first and the last day on which it held, **clipped** to the days asked for) and ``value``, as text.

        Raises
        ------
        NotArchived
            If FRED does not know what held before now.
        SourceError
            If it does not answer.
        """
        period = {} if since is None else {"realtime_start": since, "realtime_end": until}
        pages = self._pages("series/observations", OBSERVATIONS, series_id=series, units="lin", **period)
        rows = [item for page in pages for item in page]
        columns = {name: pl.Series([row.get(name) for row in rows], dtype=pl.String) for name in _OBSERVATION}
        return pl.DataFrame(columns)

    def _pages(self, path: str, most: int, **query: object) -> Iterator[Element]:
        """Yield the pages of a listing; rows above the limit are on the next one, and FRED does not say so."""
        offset, count, limit = 0, 1, min(self._page, most)
        full = False
        while offset < count or full:  # it counts; whether rows or periods is nowhere said
            asked = urlencode({**query, "limit": limit, "offset": offset})
            page = self._Fred__fetch_data(f"{self.root_url}/{path}?{asked}")
            counted = page.get("count", "")
            if not counted.isdecimal():
                raise Drifted(f"FRED/{path} does not say how many rows there are, but {page.tag} {page.attrib}")
            if offset and int(counted) != count:
                raise Transient(f"FRED/{path} had {count} rows, and {counted} while they were read")
            count = int(counted)
            if len(page) < min(limit, count - offset):
                raise Transient(f"FRED/{path} gave {len(page)} rows from {offset} on, of {count} that there are")
            yield page
            offset, full = offset + limit, len(page) >= limit

    def _Fred__fetch_data(self, url: str) -> Element:
        """Return the root of an answer; in place of the method through which all of fredapi asks."""
        return self._retry(lambda: self._ask(url))

    def _ask(self, url: str) -> Element:
        path = url.partition("?")[0].removeprefix(self.root_url)
        answer = self._session.get(url, params={"api_key": self.api_key})
        root = _root(answer.content)
        if root is not None and root.tag == "error":
            raise _error(root.get("code", ""), root.get("message", "").replace(self.api_key, "***"), path)
        if not answer.ok:
            raise Refused(f"FRED{path}: status {answer.status_code} {answer.reason or ''}".rstrip())
        if root is None or root.tag.rpartition("}")[2].lower() == "html":
            raise Transient(f"FRED{path}: status 200, but a page for people")
        return root


def xml_body(body: bytes) -> None:
    """Raise ValueError where a body is no whole XML document, or one with a document type, as pages for people have."""
    parser = DefusedXMLParser(target=_Nothing(), forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
    except DefusedXmlException:
        raise ValueError("it declares a document type, which data does not have") from None
    except ParseError as error:
        raise ValueError(f"no whole XML document ({error})") from None


class _Nothing:
    """What is made of a document that is only checked."""

    def close(self) -> None:
        """End."""


def _root(body: bytes) -> Element | None:
    """Return the root of an XML document, None where a body is none."""
    try:
        xml_body(body)
    except ValueError:
        return None
    return fromstring(body)  # expat alone is twice as fast; what it must not meet, the line above has refused


def _error(code: str, message: str, path: str) -> Exception:
    """Return the error that an error of FRED is."""
    words = " ".join(message.split())
    if code in _PASSING:
        return Transient(f"FRED{path}: {words}")
    if _NOT_ARCHIVED in words:
        return NotArchived(f"FRED{path}: {words}")
    if _NO_SERIES in words:
        return BadInput(f"FRED has no such series: {words}")
    if "api_key" in words:
        return BadInput(f"{VARIABLE}: {words}")
    return Refused(f"FRED{path}: {words or f'error {code}'}")


_WIRE: Final = logging.getLogger("urllib3.connectionpool")
"""Writes the address of each request into the debug log, and FRED wants the key there."""


def _without_keys(record: logging.LogRecord) -> bool:
    record.msg, record.args = re.sub(r"(?<=api_key=)\w+", "***", masked(record.getMessage())), ()
    return True
