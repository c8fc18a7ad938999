"""fredgraph.csv: series without a key, as they are or as they were."""

from collections.abc import Sequence
from datetime import date, datetime

from backsight_fakeworld.messages import Answer, Request, Row, text_document, text_page
from backsight_fakeworld.series import SERIES, series


class Fredgraph:
    """``/fredgraph.csv?id=CPIAUCSL`` with ``vintage_date``, ``cosd`` and ``coed``.

    The column of an old version is named with its day; a missing value is empty.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def answer(self, request: Request, now: datetime) -> Answer:
        """Answer a request, its path without the prefix, as at an instant."""
        name, vintage = request.query.get("id", ""), request.query.get("vintage_date")
        if request.path != "/fredgraph.csv" or name not in SERIES:
            page = "<!doctype html><html><head><title>Error - St. Louis Fed</title></head><body>Not found</body></html>"
            return text_document(page, status=404, content_type="text/html; charset=utf-8")
        day = now.date() if vintage is None else date.fromisoformat(vintage)
        values = series(self._seed, name).known_at(day, now)
        first, last = request.query.get("cosd", "0"), request.query.get("coed", "9")
        rows = [
            {"date": str(period), "value": "" if value == "." else value}
            for period, value in sorted(values.items())
            if first <= str(period) <= last
        ]
        column = name if vintage is None else f"{name}_{day:%Y%m%d}"

        def render(rows: Sequence[Row]) -> str:
            lines = [f"observation_date,{column}", *(f"{row['date']},{row['value']}" if row else "" for row in rows)]
            return "\n".join(lines) + "\n"

        return text_page(rows, render, content_type="application/csv")
