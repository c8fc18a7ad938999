"""What a user of the world may ask it while it runs: faults, the log and the clock."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backsight_fakeworld.clock import Clock
from backsight_fakeworld.faults import BY_NAME, Script
from backsight_fakeworld.messages import Answer, Request, json_document, text_document

if TYPE_CHECKING:
    from backsight_fakeworld.world import Hit

_SECRET = ("api_key", "apiKey")


class Control:
    """``/_faults``, ``/_log`` and ``/_clock``, and the place that redirects to itself.

    ===============================  ==============================================================================
    ``POST /_faults``                ``{"prefix": "/kraken/", "fault": "reset", "times": 2, "skip": 0}`` and the
                                     arguments of the fault, if it has any: ``"retry_after": 2``
    ``GET /_faults``                 Their names
    ``DELETE /_faults``              Forgets those that have not happened
    ``GET /_log``                    What was asked
    ``GET /_clock``                  The world's time
    ``POST /_clock``                 ``{"now": "2024-05-15T10:00:00Z"}`` or ``{"advance": 3600}``
    ===============================  ==============================================================================
    """

    def __init__(self, clock: Clock, script: Script, log: Sequence["Hit"]) -> None:
        self._clock = clock
        self._script = script
        self._log = log

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            match request.method, request.path:
                case _, "/_loop":
                    return text_document("", status=302, headers={"Location": "/_loop"})
                case "GET", "/_faults":
                    return json_document(sorted(BY_NAME))
                case "POST", "/_faults":
                    return self._add(json.loads(request.body))
                case "DELETE", "/_faults":
                    self._script.clear()
                    return json_document({"faults": []})
                case "GET", "/_log":
                    return json_document([_shown(hit) for hit in self._log])
                case "GET", "/_clock":
                    return json_document({"now": self._clock.now.isoformat()})
                case "POST", "/_clock":
                    return self._move(json.loads(request.body))
        except (KeyError, TypeError, ValueError) as error:
            return json_document({"error": str(error)}, status=400)
        return json_document({"error": "there is /_faults, /_log and /_clock"}, status=404)

    def _add(self, wish: dict[str, object]) -> Answer:
        name, prefix = str(wish.pop("fault", "")), str(wish.pop("prefix", "/"))
        times, skip = int(str(wish.pop("times", 1))), int(str(wish.pop("skip", 0)))
        if name not in BY_NAME:
            raise ValueError(f"no fault is called {name!r}; there is {', '.join(sorted(BY_NAME))}")
        self._script.add(prefix, BY_NAME[name](**wish), times, skip)
        return json_document({"prefix": prefix, "fault": name, "times": times, "skip": skip})

    def _move(self, wish: dict[str, object]) -> Answer:
        if "now" in wish:
            self._clock.now = datetime.fromisoformat(str(wish["now"]))
        else:
            self._clock.advance(timedelta(seconds=float(str(wish["advance"]))))
        return json_document({"now": self._clock.now.isoformat()})


def _shown(hit: "Hit") -> dict[str, object]:
    """Return a request without the keys of who made it: users put theirs in."""
    return {
        "at": hit.at,
        "now": hit.now.isoformat(),
        "method": hit.method,
        "path": hit.path,
        "query": {name: "***" if name in _SECRET else value for name, value in hit.query.items()},
        "fault": hit.fault,
    }
