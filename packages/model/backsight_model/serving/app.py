"""The routes of the service."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

from backsight_features import __version__
from backsight_features.clocks import parse_instant, utc_now
from backsight_features.errors import BacksightError
from backsight_features.online import connect
from backsight_features.workspace import Workspace
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from backsight_model.forecast_log import ForecastLog
from backsight_model.serving import metrics, problems
from backsight_model.serving.answers import Answers, text
from backsight_model.serving.entrance import Entrance
from backsight_model.serving.keys import VARIABLE, Keys, RateLimit
from backsight_model.serving.models import Models
from backsight_model.serving.overview import PATH, Overview, Overviews
from backsight_model.serving.page import page

ONLINE: Final = "BACKSIGHT_REDIS"
"""The variable with the connection string of Redis; without it the windows are read from the home's SQLite file."""

MOST_SYMBOLS: Final = 500
"""In one request."""

_LONGEST_NAME: Final = 64
_SETTINGS: Final = ("HOME", "PROJECT", "AT", "RATE")
_Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME, pattern=r"^[\w./:-]+$")]
_JSON: Final = "application/json"
_PROBLEM: Final[dict[str, Any]] = {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}}
_GUARDED: Final[dict[int | str, dict[str, Any]]] = dict.fromkeys((401, 404, 422, 429, 503), _PROBLEM)


class Symbols(BaseModel):
    """Whose forecasts are wanted."""

    symbols: list[_Name] = Field(min_length=1, max_length=MOST_SYMBOLS)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a service serves.

    Parameters
    ----------
    home : Path
        With the bundles; the forecast log goes there.
    project : str
        Of the feature repo.
    at : datetime or None
        The instant for which all is answered; the clock's unless given.
    per_second : float
        How many requests a second a key may make of one worker.
    """

    home: Path
    project: str = "backsight"
    at: datetime | None = None
    per_second: float = 200.0

    def variables(self) -> dict[str, str]:
        """Return what tells a worker the same; secrets stay in variables of their own."""
        at = "" if self.at is None else self.at.isoformat()
        said = (str(self.home.absolute()), self.project, at, str(self.per_second))
        return {f"BACKSIGHT_SERVE_{name}": value for name, value in zip(_SETTINGS, said, strict=True)}

    @classmethod
    def told(cls) -> "Serving":
        """Return what `variables` of the process that started this one said."""
        home, project, at, rate = (os.environ[f"BACKSIGHT_SERVE_{name}"] for name in _SETTINGS)
        return cls(home=Path(home), project=project, at=parse_instant(at) if at else None, per_second=float(rate))


def from_environment() -> Entrance:
    """Return the application of a worker."""
    told = Serving.told()
    return application(told, keys=Keys.parse(os.environ.get(VARIABLE, "")), online=os.environ.get(ONLINE))


def application(serving: Serving, *, keys: Keys, online: str | None) -> Entrance:
    """Return the service.

    Parameters
    ----------
    serving : Serving
    keys : Keys
        Who may ask; anybody where there are none.
    online : str, optional
        Connection string of Redis; the SQLite file of the home unless given.

    Raises
    ------
    BadInput
        If there is no online store.
    """
    workspace = Workspace(root=serving.home)
    clock: Callable[[], datetime] = utc_now
    if serving.at is not None:
        fixed = serving.at
        clock = lambda: fixed  # noqa: E731
    reader = connect(online or workspace.online / "online.db", project=serving.project)
    answers = Answers(reader=reader, models=Models(workspace.models), log=ForecastLog(workspace.forecasts), clock=clock)

    @asynccontextmanager
    async def open_until_stopped(_: FastAPI) -> AsyncIterator[None]:
        answers.models.in_use()
        yield
        reader.close()

    app = FastAPI(
        title="backsight",
        version=__version__,
        description="Forecasts that are refused rather than wrong, and the features they are made from.",
        docs_url=None,
        redoc_url=None,
        lifespan=open_until_stopped,
    )
    _add_routes(app, answers)
    _add_page(app, Overviews(answers, workspace.live))
    _add_errors(app)
    return Entrance(app, answers, keys, RateLimit(per_second=serving.per_second, burst=2 * serving.per_second))


def _add_routes(app: FastAPI, answers: Answers) -> None:
    @app.get("/v1/forecast/{symbol:path}", responses=_GUARDED)
    async def forecast(symbol: _Name) -> Response:
        """Return the forecast of a symbol from what is online now, or the reason why there is none."""
        # A store that is well answers sooner than a thread would be woken; one that is not must keep nobody waiting.
        document = answers.forecast(symbol) if answers.well else await run_in_threadpool(answers.forecast, symbol)
        return Response(text(document), media_type=_JSON)

    @app.post("/v1/forecasts", responses=_GUARDED | {400: _PROBLEM, 413: _PROBLEM})
    def forecasts(wanted: Symbols) -> Response:
        """Return a forecast, or the problem, for each of up to 500 symbols."""
        made = answers.forecasts(wanted.symbols)
        return Response(text({"forecasts": [answer.either() for answer in made]}), media_type=_JSON)

    @app.get("/v1/features/{symbol:path}", responses=_GUARDED)
    def features(symbol: _Name, service: Annotated[_Name, Query()], window: bool = False) -> Response:
        """Return the newest features of a symbol with their ages, and the whole window with ``window=true``."""
        return Response(text(answers.features(service, symbol, whole=window)), media_type=_JSON)

    @app.get("/v1/explain/{symbol:path}", responses=_GUARDED)
    def explain(symbol: _Name) -> Response:
        """Return the forecast of a symbol with how it would move if each feature were forgotten."""
        return Response(text(answers.explained(symbol)), media_type=_JSON)

    @app.get("/v1/models", responses=_GUARDED)
    def models() -> Response:
        """Return the models in use, with what was proven of each."""
        return Response(text({"models": answers.in_use()}), media_type=_JSON)

    @app.get("/health")
    async def health() -> Response:
        """Say that the process answers."""
        return Response('{"status": "ok"}', media_type=_JSON)

    @app.get("/ready", responses={503: _PROBLEM})
    def ready() -> Response:
        """Say whether forecasts can be made: a model is in use, and the newest promotion could be read."""
        in_use = answers.models.in_use()
        metrics.BROKEN.set(answers.models.broken is not None)
        if answers.models.broken is not None or not in_use:
            detail = answers.models.broken or "no model is in use; `backsight train` or `promote` puts one into use"
            return problems.response(problems.problem(503, "NotReady", detail, "/ready"))
        return Response(text({"status": "ready", "symbols": sorted(in_use)}), media_type=_JSON)

    @app.get("/metrics", responses={401: _PROBLEM, 429: _PROBLEM}, response_class=PlainTextResponse)
    def measured() -> Response:
        """Return what Prometheus reads."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, overviews: Overviews) -> None:
    document, headers = page()

    @app.get("/", include_in_schema=False)
    async def one_screen() -> Response:
        """Return the page, in which there is no data: it asks for the overview."""
        return Response(document, media_type="text/html", headers=headers)

    @app.get(PATH, responses=_GUARDED | {200: {"model": Overview}})
    def overview() -> Response:
        """Return all that the page shows; what is absent is null, and what cannot be read is a problem in its place."""
        return Response(overviews.now().model_dump_json(), media_type=_JSON)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(BacksightError)
    async def refused(request: Request, error: BacksightError) -> Response:
        return problems.response(problems.of_error(error, request.url.path))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return problems.response(problems.problem(422, "Invalid", wrong, request.url.path))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        kind = {404: "NotFound", 405: "MethodNotAllowed", 413: "TooLarge"}.get(error.status_code, "Refused")
        headers = None if error.headers is None else dict(error.headers)
        return problems.response(problems.problem(error.status_code, kind, error.detail, request.url.path), headers)
