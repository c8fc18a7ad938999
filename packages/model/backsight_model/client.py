"""A client of `backsight serve`, whose errors are those of the service.

>>> client = Client("http://127.0.0.1:8000", key="…")
>>> client
Client(http://127.0.0.1:8000)
"""

import json
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import requests
from backsight_features import errors
from backsight_features.errors import BacksightError, BadInput, SourceError
from urllib3.exceptions import HTTPError

KEY: Final = "BACKSIGHT_API_KEY"
"""The variable with the key, unless one is given."""

_KINDS: Final[Mapping[str, type[BacksightError]]] = {
    "missing": errors.Missing,
    "stale": errors.Stale,
    "future-stamped": errors.FutureStamped,
    "non-finite": errors.NonFinite,
    "header-mismatch": errors.HeaderMismatch,
    "busy": errors.Busy,
    "source-error": errors.SourceError,
    "bad-input": errors.BadInput,
    "invalid": errors.BadInput,
    "too-large": errors.BadInput,
    "unauthorized": errors.BadInput,
    "not-found": errors.BadInput,
    "too-many-requests": errors.Busy,
}
_MOST_BYTES: Final = 64 << 20


class Client:
    """Asks a service for forecasts and features.

    Parameters
    ----------
    url : str
        Where it listens, ``http://127.0.0.1:8000``.
    key : str, optional
        The key; that in ``BACKSIGHT_API_KEY`` unless given, none if there is none.
    timeout : float
        Seconds to wait for an answer.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"{url!r} is no address of a service; write http://127.0.0.1:8000")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        held = key or os.environ.get(KEY)
        if held:
            self._session.headers["Authorization"] = f"Bearer {held}"

    def __repr__(self) -> str:
        return f"Client({self._url})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def forecast(self, symbol: str) -> dict[str, Any]:
        """Return the forecast of a symbol, as ``GET /v1/forecast/{symbol}`` says it.

        Raises
        ------
        NotServable
            `Missing`, `Stale`, `FutureStamped`, `NonFinite`, `HeaderMismatch`: a forecast cannot honestly be made.
        SourceError, Busy
            If the service, or the store behind it, does not answer now, or asks to wait.
        BadInput
            If the key is wrong, or the request cannot be answered as it is.
        """
        return self._ask("GET", f"/v1/forecast/{symbol}")

    def forecasts(self, symbols: Sequence[str]) -> list[dict[str, Any] | BacksightError]:
        """Return for each of up to 500 symbols its forecast, or the error that says why there is none."""
        made = self._ask("POST", "/v1/forecasts", json={"symbols": list(symbols)})["forecasts"]
        return [_error(one["problem"]) if "problem" in one else one for one in made]

    def features(self, symbol: str, service: str, *, window: bool = False) -> dict[str, Any]:
        """Return the newest features of a symbol with their ages, and the whole window if asked for."""
        asked = {"service": service, "window": str(window).lower()}
        return self._ask("GET", f"/v1/features/{symbol}", params=asked)

    def models(self) -> list[dict[str, Any]]:
        """Return the models in use, with what was proven of each."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/models")["models"]
        return found

    def _ask(self, method: str, path: str, **asked: Any) -> dict[str, Any]:
        try:
            answer = self._session.request(
                method, self._url + path, timeout=self._timeout, allow_redirects=False, stream=True, **asked
            )
            with answer:
                content = answer.raw.read(_MOST_BYTES + 1, decode_content=True)
        except (requests.RequestException, HTTPError) as error:
            raise SourceError(f"{self._url} does not answer: {type(error).__name__}") from error
        if len(content) > _MOST_BYTES:
            raise SourceError(f"{self._url} answers {path} with more than the {_MOST_BYTES} bytes that are read")
        try:
            document: dict[str, Any] = json.loads(content)
        except ValueError:
            raise SourceError(f"{self._url} answers {path} with status {answer.status_code} and no JSON") from None
        if answer.status_code != 200:
            raise _error(document)
        return document


def _error(problem: Mapping[str, Any]) -> BacksightError:
    kind = str(problem.get("type", "")).removeprefix("urn:backsight:")
    return _KINDS.get(kind, SourceError)(str(problem.get("detail", problem)))
