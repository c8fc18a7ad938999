"""A policy says whether it is time, with the numbers that this follows from."""

from collections.abc import Callable

import numpy as np
import pytest
from backsight_features.errors import BadInput
from backsight_model.drift import Drift, Loss
from backsight_model.policies import Decision, Policy

MOVED = Drift(
    losses=(Loss(target="volatility", before=0.2, after=0.5, since=np.datetime64("2023-05-01T00:00", "us")),),
    inputs=None,
)
STILL = Drift(losses=(), inputs=None)


def not_asked() -> Drift:
    raise AssertionError("looked for drift where the answer counts for nothing")


def decided(text: str, new: int, since_last: int | None = None, look: Callable[[], Drift] = not_asked) -> Decision:
    fresh = new if since_last is None else since_last
    return Policy.parse(text).decide(new, since_last=fresh, horizon=24, look=look)


@pytest.mark.parametrize("text", ["never", "drift", "drift:cold", "every:720", "every:1:cold"])
def test_a_policy_is_named_as_it_is_written(text: str) -> None:
    assert Policy.parse(text).name == text
    assert Policy.parse(text).warm is not text.endswith("cold")


@pytest.mark.parametrize(
    "text", ["", "never:cold", "every", "every:0", "every:-5", "every:1.5", "every:30d", "Drift", "drift "]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"is no policy; write never, drift or every:720"):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("text", "new", "since_last", "due", "why"),
    [
        ("never", 9999, None, False, "never to train again"),
        ("every:100", 71, None, False, "71 new samples, a challenger is compared on 72 or more"),
        ("every:100", 99, None, False, "99 new samples of the 100 that are waited for"),
        ("every:100", 100, None, True, "100 new samples"),
        ("every:100", 500, 99, False, "99 new samples of the 100"),
        ("drift", 71, None, False, "71 new samples"),
        ("drift", 500, 335, False, "335 new samples since the last challenger was trained, 336 are waited for"),
    ],
)
def test_counts_decide(text: str, new: int, since_last: int | None, due: bool, why: str) -> None:
    decision = decided(text, new, since_last)
    assert decision.due is due
    assert why in decision.why


@pytest.mark.parametrize("since_last", [None, 336])
def test_drift_decides_once_there_is_something_to_compare_on(since_last: int | None) -> None:
    moved = decided("drift", 500, since_last, look=lambda: MOVED)
    assert moved.due
    assert moved.why == "loss of volatility rose from 0.2000 to 0.5000 since 2023-05-01T00:00:00Z"
    assert moved.drift is MOVED
    still = decided("drift", 500, since_last, look=lambda: STILL)
    assert not still.due
    assert still.why == "too little has come since to say"


def test_what_was_seen_of_live_forecasts_decides_too_and_is_the_reason() -> None:
    def decided_by(found: Drift, *alerts: str, new: int = 500) -> Decision:
        policy = Policy.parse("drift")
        return policy.decide(new, since_last=new, horizon=24, look=lambda: found, alerts=alerts)

    assert not decided_by(STILL).due
    seen = decided_by(STILL, "BTC: inputs moved", "BTC: it is a loss")
    assert (seen.due, seen.why) == (True, "seen live: BTC: inputs moved; BTC: it is a loss")
    both = decided_by(MOVED, "BTC: inputs moved")
    assert both.why == f"{MOVED.words}; seen live: BTC: inputs moved"
    assert not decided_by(STILL, "BTC: inputs moved", new=71).due, "nothing to compare a challenger on"
    every = Policy.parse("every:720").decide(500, since_last=500, horizon=24, look=not_asked, alerts=["x"])
    assert not every.due
