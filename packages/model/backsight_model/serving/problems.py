"""Errors as a client sees them: problem+json (RFC 9457) with the status, the kind, and the reason in words."""

import json
from typing import Any, Final

from backsight_features.errors import (
    BacksightError,
    BadInput,
    Busy,
    FutureStamped,
    HeaderMismatch,
    Missing,
    NonFinite,
    SourceError,
    Stale,
)
from backsight_features.masking import masked
from pydantic import BaseModel, Field
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[dict[type[BacksightError], int]] = {
    BadInput: 422,
    Missing: 404,
    Stale: 503,
    FutureStamped: 503,
    NonFinite: 503,
    HeaderMismatch: 503,
    SourceError: 503,
    Busy: 503,
}
"""The request is at fault in 4xx; in 503 what is online, or the store: the same request may be answered later."""

_RETRY_SECONDS: Final = 5


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = Field(description="urn:backsight: and the kind of error: stale, missing, future-stamped, …")
    title: str = Field(description="The kind of error in words.")
    status: int
    detail: str = Field(description="What exactly: which feature, since when, by how much.")
    instance: str = Field(description="What was asked for.")


def of_error(error: BacksightError, instance: str) -> dict[str, Any]:
    """Return the problem that an error is."""
    return problem(_STATUS.get(type(error), 503), type(error).__name__, str(error), instance)


def problem(status: int, kind: str, detail: str, instance: str) -> dict[str, Any]:
    """Return a problem of a kind, written like ``FutureStamped``; what is secret in its words is masked."""
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in kind).strip()
    return {
        "type": f"urn:backsight:{words.replace(' ', '-')}",
        "title": words.capitalize(),
        "status": status,
        "detail": masked(detail),
        "instance": instance,
    }


def response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """Return the answer that carries a problem."""
    sent = dict(headers or {})
    if document["status"] == 503:
        sent.setdefault("Retry-After", str(_RETRY_SECONDS))
    return Response(json.dumps(document), status_code=document["status"], headers=sent, media_type=MEDIA_TYPE)
