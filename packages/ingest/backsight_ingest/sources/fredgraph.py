"""The files behind FRED's charts: a series as it is now, without a key and without its vintages."""

from datetime import timedelta
from io import BytesIO
from typing import Final

import polars as pl
import requests
from backsight_features.errors import BadInput, Drifted

from backsight_ingest.live.faults import Refused
from backsight_ingest.live.web import Web

INTERVAL: Final = timedelta(seconds=1)
"""Nothing is said of how many requests are allowed."""

_PLACE: Final = "https://fred.stlouisfed.org/graph"
_HEADERS: Final = (b"observation_date,", b"DATE,")


class Fredgraph:
    """Where the files are.

    Parameters
    ----------
    web : Web
        The way to it.
    """

    def __init__(self, web: Web) -> None:
        self._place = _PLACE if web.endpoint is None else f"{web.endpoint}/fredgraph"
        self._session = web.session(interval=INTERVAL, check=csv_body)
        self._retry = web.retry

    def values(self, series: str) -> pl.DataFrame:
        """Return what holds now.

        Returns
        -------
        pl.DataFrame
            A row per period: ``date`` (its start) and ``value``, as text.

        Raises
        ------
        BadInput
            If there is no such series.
        SourceError
            If the site does not answer, or not to us.
        Drifted
            If the file is of another shape.
        """
        answer = self._retry(lambda: self._session.get(f"{self._place}/fredgraph.csv", params={"id": series}))
        if answer.status_code == requests.codes.not_found:
            raise BadInput(f"FRED has no series {series}")
        if not answer.ok:
            raise Refused(f"FRED's chart of {series}: status {answer.status_code} {answer.reason or ''}".rstrip())
        try:
            rows = pl.read_csv(BytesIO(answer.content), infer_schema=False)
        except pl.exceptions.PolarsError as error:
            raise Drifted(f"FRED's chart of {series}: {str(error).splitlines()[0]}") from None
        if rows.columns[1:] != [series]:
            raise Drifted(f"FRED's chart of {series} has the columns {', '.join(rows.columns)}")
        return rows.select(pl.nth(0).alias("date"), pl.nth(1).alias("value"))


def csv_body(body: bytes) -> None:
    """Raise ValueError where a body is no chart's file, or one that ends within a line."""
    if not body.startswith(_HEADERS):
        raise ValueError("it does not begin like the file of a chart")
    if not body.endswith(b"\n"):
        raise ValueError("its last line has no end")
