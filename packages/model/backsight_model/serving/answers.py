"""What is answered: forecasts and features, each made of what is online at the instant of the request."""

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from backsight_features.errors import Busy, NotServable, SourceError
from backsight_features.online import OnlineWindow, Reader

from backsight_model.attribution import occlusion
from backsight_model.forecast import Forecast, forecast
from backsight_model.forecast_log import ForecastLog, forecast_id
from backsight_model.serving import metrics, problems
from backsight_model.serving.models import Models

_KEPT: Final = 2_000
"""Forecasts that are not made again while their window is the newest."""


@dataclass
class Answers:
    """Makes answers; shared by the threads of a worker.

    Parameters
    ----------
    reader : Reader
        Of what is online.
    models : Models
    log : ForecastLog
        A forecast is in it before it is handed out.
    clock : callable
        Returns the instant for which to answer, tz-aware.

    Attributes
    ----------
    well : bool
        Whether the online store answered when it was last read.
    """

    reader: Reader
    models: Models
    log: ForecastLog
    clock: Callable[[], datetime]
    well: bool = field(default=True, init=False)
    _made: OrderedDict[str, Forecast] = field(default_factory=OrderedDict)

    def forecast(self, symbol: str) -> dict[str, Any]:
        """Return the forecast of a symbol, as JSON.

        Raises
        ------
        NotServable
            If there is no model, or what is online must not be used.
        SourceError, Busy
            If the online store or the forecast log does not answer.
        """
        return self.forecasts([symbol])[0].document()

    def forecasts(self, symbols: Sequence[str]) -> list["Answer"]:
        """Return the forecast of each symbol, or why there is none; one round trip per service.

        Raises
        ------
        SourceError, Busy
            As `forecast`.
        """
        at = self.clock()
        found: dict[str, Answer] = {}
        wanted: dict[str, list[str]] = {}
        for symbol in symbols:
            try:
                wanted.setdefault(self.models.of(symbol).service, []).append(symbol)
            except NotServable as error:
                found[symbol] = Answer(symbol=symbol, error=error)
        for service, some in wanted.items():
            some = list(dict.fromkeys(some))
            try:
                windows = self._windows(service, some, at)
            except NotServable as error:
                found |= {symbol: Answer(symbol=symbol, error=error) for symbol in some}
                continue
            for window in windows:
                found[window.symbol] = self._answer(window)
        return [found[symbol] for symbol in symbols]

    def _windows(self, service: str, symbols: Sequence[str], at: datetime) -> tuple[OnlineWindow, ...]:
        try:
            windows = self.reader.windows(service, symbols, at=at, unfit="null")
        except (SourceError, Busy):
            self.well = False
            raise
        self.well = True
        return windows

    def _answer(self, window: OnlineWindow) -> "Answer":
        try:
            if window.refused:
                raise window.refused[0].error
            bundle = self.models.of(window.symbol)
            name = forecast_id(bundle.name, window)
            made = self._made.get(name)
            if made is None:
                made = forecast(bundle, window)
                self.log.add(made, window)
                self._made[name] = made
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
        except NotServable as error:
            metrics.REFUSED.labels(type(error).__name__).inc()
            return Answer(symbol=window.symbol, error=error)
        metrics.BAR_AGE.labels(window.symbol).set((window.at - made.observed_at).total_seconds())
        return Answer(symbol=window.symbol, name=name, made=made, at=window.at)

    def features(self, service: str, symbol: str, *, whole: bool) -> dict[str, Any]:
        """Return the newest value of each feature of a service with its age, and the whole window if asked for.

        A value that must not be used is null, and ``refused`` says why.

        Raises
        ------
        NotServable
            If nothing was ever published for the service.
        SourceError, Busy
            If the online store does not answer.
        """
        at = self.clock()
        [window] = self._windows(service, [symbol], at)
        document: dict[str, Any] = {
            "symbol": symbol,
            "service": service,
            "at": at.isoformat(),
            "observed_at": _iso(window.observed_at),
            "available_at": _iso(window.available_at),
            "timeframe_seconds": window.timeframe.total_seconds(),
            "features": {
                name: {"value": value, "age_seconds": age}
                for name, value, age in zip(
                    window.features, _numbers(window.values[-1]), _seconds(window.ages), strict=True
                )
            },
            "refused": [
                {"features": refusal.features, "kind": type(refusal.error).__name__, "detail": str(refusal.error)}
                for refusal in window.refused
            ],
        }
        if whole:
            document["window"] = {
                "columns": window.features,
                "mask": window.mask.tolist(),
                "values": [_numbers(slot) for slot in window.values],
            }
        return document

    def explained(self, symbol: str) -> dict[str, Any]:
        """Return the forecast of a symbol, and how it would move if each feature were forgotten; the most moving first.

        Raises
        ------
        NotServable, SourceError, Busy
            As `forecast`.
        """
        document = self.forecast(symbol)
        bundle = self.models.of(symbol)
        [window] = self._windows(bundle.service, [symbol], self.clock())
        if window.refused:
            raise window.refused[0].error
        shares = sorted(occlusion(bundle, window.values, name=symbol), key=lambda share: -abs(share.log_rv))
        return {"forecast": document, "features": [asdict(share) for share in shares]}

    def in_use(self) -> list[dict[str, Any]]:
        """Return the models in use, by symbol."""
        return [
            {
                "symbol": symbol,
                "bundle": bundle.name,
                "service": bundle.service,
                "length": bundle.length,
                "timeframe_seconds": bundle.timeframe.total_seconds(),
                "horizon_seconds": (bundle.horizon * bundle.timeframe).total_seconds(),
                "verdict": bundle.word,
                "proven": bundle.proven,
                "sentences": bundle.verdict,
                "override": None if bundle.override is None else bundle.override.reason,
                "scorer": bundle.scorer,
            }
            for symbol, bundle in sorted(self.models.in_use().items())
        ]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A forecast, or why there is none.

    Attributes
    ----------
    symbol : str
    name : str
        Id of the forecast in the log.
    made : Forecast or None
    at : datetime or None
        The instant of the request; `made` may be of an earlier one.
    error : NotServable or None
    """

    symbol: str
    name: str = ""
    made: Forecast | None = None
    at: datetime | None = None
    error: NotServable | None = None

    def document(self) -> dict[str, Any]:
        """Return the forecast as JSON, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.made is not None
        assert self.at is not None
        age = self.at - self.made.observed_at
        return {"id": self.name} | self.made.to_json() | {"at": self.at.isoformat(), "age_seconds": age.total_seconds()}

    def either(self) -> dict[str, Any]:
        """Return the forecast as JSON, or the problem."""
        if self.error is None:
            return self.document()
        return {"symbol": self.symbol, "problem": problems.of_error(self.error, f"/v1/forecast/{self.symbol}")}


def text(document: Any) -> str:
    """Return JSON, in which there is no NaN."""
    return json.dumps(document, allow_nan=False)


def _numbers(values: np.ndarray[Any, np.dtype[np.float32]]) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]


def _seconds(ages: np.ndarray[Any, np.dtype[np.timedelta64]]) -> list[float | None]:
    return [None if age is None else age / timedelta(seconds=1) for age in ages.tolist()]


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
