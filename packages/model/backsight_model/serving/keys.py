"""Who may ask, and how often.

Keys are made by `fresh` and known to the server only by their SHA-256: a key has 256 random bits, so that no slow hash
is needed, and what is in the environment of the server lets nobody in.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from backsight_features.errors import BadInput

VARIABLE: Final = "BACKSIGHT_API_KEYS"
"""``name:sha256,name:sha256``"""

_ENTRY: Final = re.compile(r"(?P<name>[\w.-]+):(?P<digest>[0-9a-f]{64})", re.ASCII)
_MOST_BUCKETS: Final = 10_000


def fresh(name: str) -> tuple[str, str]:
    """Return a new key, and its entry for the environment of the server.

    Raises
    ------
    BadInput
        If the name is not of letters, digits, dots and dashes.
    """
    key = secrets.token_urlsafe(32)
    entry = f"{name}:{_digest(key)}"
    if not _ENTRY.fullmatch(entry):
        raise BadInput(f"a key named {name!r}; letters, digits, dots, dashes and underscores name one")
    return key, entry


@dataclass(frozen=True)
class Keys:
    """The keys that are let in.

    Parameters
    ----------
    names : mapping of str to str
        Whose key it is, by its SHA-256 in hex.
    """

    names: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Keys":
        """Return the keys that `VARIABLE` lists.

        Raises
        ------
        BadInput
            If an entry is not ``name:`` and the 64 hex digits of a SHA-256; it is not repeated in the error.
        """
        names = {}
        for number, entry in enumerate((part.strip() for part in text.split(",") if part.strip()), start=1):
            found = _ENTRY.fullmatch(entry)
            if found is None:
                raise BadInput(
                    f"entry {number} of {VARIABLE} is no name:sha256; `backsight serve --new-key NAME` makes one"
                )
            names[found["digest"]] = found["name"]
        return cls(names)

    def who(self, authorization: str) -> str | None:
        """Return whose key a header ``Authorization: Bearer KEY`` holds; None if it is nobody's."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = _digest(key)
        for known, name in self.names.items():
            if hmac.compare_digest(known, digest):
                return name
        return None


@dataclass
class RateLimit:
    """How often each may ask: a bucket of tokens that fills at a steady rate.

    Parameters
    ----------
    per_second : float
        Tokens that come in a second.
    burst : float
        Tokens that a bucket holds.
    """

    per_second: float
    burst: float
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self, who: str, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one.

        Parameters
        ----------
        who : str
            Name of the key, or address.
        now : float
            Seconds on a clock that never goes back.
        """
        if len(self._buckets) >= _MOST_BUCKETS:
            full = self.burst / self.per_second
            self._buckets = {name: held for name, held in self._buckets.items() if now - held[1] < full}
        tokens, seen = self._buckets.get(who, (self.burst, now))
        tokens = min(self.burst, tokens + (now - seen) * self.per_second)
        if tokens < 1:
            self._buckets[who] = (tokens, now)
            return (1 - tokens) / self.per_second
        self._buckets[who] = (tokens - 1, now)
        return 0.0


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
