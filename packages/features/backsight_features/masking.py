"""Keeping passwords and keys out of what people and logs get to see."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

_MASK: Final = "***"

_SECRET_NAME: Final = re.compile(r"SECRET|TOKEN$|PASSWORD|PASSPHRASE|API_?KEY", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(?<=://)(?P<user>[^\s/:@'\"]*):(?P<secret>[^\s'\"]*)(?=@)")
_NAMED: Final = re.compile(
    r"(?P<name>password|passwd|secret)(?P<is>['\"]?\s*[=:]\s*['\"]?)(?P<secret>[^\s,'\"&)}]+)", re.I
)

_SHORTEST: Final = 4
"""Shorter values are left: they protect nothing, and to replace them would make a text unreadable."""


def masked(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text without the passwords and keys that it holds.

    Those are the values of variables whose names say so, as in ``AWS_SECRET_ACCESS_KEY``; the passwords inside the
    values of all variables; and whatever stands where a password stands in a URL or a connection string.

    >>> masked("cannot reach postgresql://team:xyzzy@db/features", {})
    'cannot reach postgresql://team:***@db/features'
    >>> masked("login failed with 'xyzzy'", {"BACKSIGHT_REDIS": "cache:6379,password=xyzzy"})
    "login failed with '***'"
    """
    for secret in sorted(set(_secrets(environment)), key=len, reverse=True):
        text = text.replace(secret, _MASK)
    text = _IN_URL.sub(rf"\g<user>:{_MASK}", text)
    return _NAMED.sub(rf"\g<name>\g<is>{_MASK}", text)


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found = [value]
        else:
            found = [match["secret"] for pattern in (_IN_URL, _NAMED) for match in pattern.finditer(value)]
        yield from (form for secret in found for form in (secret, unquote(secret)) if len(form) >= _SHORTEST)
