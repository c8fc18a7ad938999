"""Reddit through praw: tokens, budgets, and errors that a person can act on."""

import inspect
import time
from collections.abc import Callable
from datetime import timedelta

import praw.exceptions
import prawcore.exceptions
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.errors import BadInput, Drifted
from backsight_ingest.live.clock import Clock
from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.web import Web
from backsight_ingest.sources.reddit_client import Client, Credentials, vendor_errors

NEW = "r/bitcoin/new"
TOKEN = "/reddit/api/v1/access_token"
SECRET = "planted-0123456789"


@pytest.fixture
def client(make_web: Callable[..., Web]) -> Client:
    web = make_web(idle=timedelta(seconds=5), total=timedelta(seconds=10))
    return Client(web, Credentials(client_id="app", client_secret=SECRET, user_agent="python:tests:1"))


@pytest.fixture
def never_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    def asleep(seconds: float) -> None:
        assert seconds == 0, f"slept for {seconds} s"

    monkeypatch.setattr(time, "sleep", asleep)


def test_an_app_signs_in_once_and_asks_for_texts_without_escapes(world: FakeWorld, client: Client) -> None:
    first = client.listing(NEW, limit="100")
    second = client.listing(NEW, limit="100", after=str(first.after))
    assert [len(sheet.children) for sheet in (first, second)] == [100, 100]
    assert first.seen_at <= second.seen_at == world.now
    signing_in, *asking = world.log
    assert (signing_in.method, signing_in.path) == ("POST", TOKEN)
    assert [hit.path for hit in asking] == ["/reddit/r/bitcoin/new"] * 2
    assert all(hit.query["raw_json"] == "1" for hit in asking)
    assert all(hit.headers["user-agent"].startswith("python:tests:1 PRAW/") for hit in asking)


@pytest.mark.usefixtures("never_asleep")  # prawcore would wait for up to 4 s before it asks again
def test_a_token_that_expires_in_the_middle_is_renewed(world: FakeWorld, client: Client, told: list[str]) -> None:
    first = client.listing(NEW)
    world.reddit.revoke()
    assert len(client.listing(NEW, after=str(first.after)).children) == 25
    assert [hit.path for hit in world.log].count(TOKEN) == 2
    assert told == []


def test_a_token_that_is_never_taken_is_refused_at_once(world: FakeWorld, client: Client) -> None:
    world.reddit.token_life = 0
    with pytest.raises(Refused, match="r/bitcoin/new: the token that Reddit has just given is not taken"):
        client.listing(NEW)
    assert len(world.log) == 2


def test_a_token_may_come_late(world: FakeWorld, client: Client, told: list[str]) -> None:
    world.fault(TOKEN, Fault.server_error(), times=2)
    assert client.listing(NEW).children
    assert len(told) == 2
    assert "access_token: status 500" in told[0]


REFUSED = {
    "app unknown": (
        TOKEN,
        Fault.in_band({"error": 401}, status=401),
        "check REDDIT_CLIENT_ID and REDDIT_CLIENT_SECRET",
    ),
    "app not let in": (TOKEN, Fault.in_band({}, status=403), "status 403 Forbidden: Reddit does not know the app"),
    "grant unknown": (TOKEN, Fault.in_band({"error": "unsupported_grant_type"}), "error 'unsupported_grant_type'"),
    "private": ("/reddit/r/", Fault.in_band({"reason": "private"}, status=403), r"\(private\): it is private or"),
    "banned": ("/reddit/r/", Fault.in_band({"reason": "banned"}, status=404), r"\(banned\): it does not exist, or"),
    "gone": ("/reddit/r/", Fault.in_band({"reason": "<script>"}, status=410), "status 410 Gone$"),
}


@pytest.mark.parametrize(("place", "fault", "says"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_to_do_and_is_not_repeated(
    place: str, fault: Fault, says: str, world: FakeWorld, client: Client, told: list[str]
) -> None:
    world.fault(place, fault, times=-1)
    with pytest.raises(Refused, match=says) as caught:
        client.listing(NEW)
    assert told == []
    assert SECRET not in str(caught.value)


def test_a_name_that_reddit_searches_for_is_no_subreddit(world: FakeWorld, client: Client) -> None:
    world.fault("/reddit/r/", Fault.redirect_loop())
    with pytest.raises(Refused, match="to /_loop; is there a subreddit of that name"):
        client.listing(NEW)


DRIFTED = {
    "token without scope": (TOKEN, {"access_token": "token-x", "expires_in": 1}, "has no scope"),
    "token of another kind": (TOKEN, {"access_token": ["token-x"], "expires_in": 1, "scope": "*"}, "no access_token"),
    "no listing": ("/reddit/r/", {"kind": "t3", "data": {}}, "no listing; it holds 'kind', 'data'"),
    "no document": ("/reddit/r/", {"kind": "t3", "data": []}, "no listing"),
    "after is no text": ("/reddit/r/", {"data": {"children": [], "after": 7}}, "no listing"),
}


@pytest.mark.parametrize(("place", "document", "says"), DRIFTED.values(), ids=DRIFTED)
def test_an_answer_of_another_shape_is_told(
    place: str, document: object, says: str, world: FakeWorld, client: Client
) -> None:
    world.fault(place, Fault.in_band(document))
    with pytest.raises(Drifted, match=says) as caught:
        client.listing(NEW)
    assert "token-x" not in str(caught.value)


def test_a_token_that_is_cut_off_is_not_shown(world: FakeWorld, client: Client, told: list[str]) -> None:
    world.fault(TOKEN, Fault.cut_body())
    assert client.listing(NEW).children
    assert "no whole JSON document" in told[0]
    assert "token-" not in told[0]


def test_a_budget_that_is_used_up_for_long_ends_the_run(world: FakeWorld, client: Client, clock: Clock) -> None:
    world.reddit.remaining, world.reddit.reset = 1, 600
    client.listing(NEW)
    with pytest.raises(Transient, match="allows no request for 600 s"):
        client.listing(NEW)
    assert max(clock.waits) < timedelta(seconds=1)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("never_asleep")  # prawcore would wait itself
def test_a_budget_that_is_soon_there_is_waited_for(world: FakeWorld, client: Client, clock: Clock) -> None:
    world.reddit.remaining, world.reddit.reset = 1, 20
    client.listing(NEW)
    client.listing(NEW)
    assert timedelta(seconds=9) < max(clock.waits) <= timedelta(seconds=20)  # type: ignore[attr-defined]


VENDOR = [
    kind
    for module in (prawcore.exceptions, praw.exceptions)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception)
]


@pytest.mark.parametrize("kind", VENDOR, ids=lambda kind: kind.__name__)
def test_no_exception_of_the_vendor_gets_through(kind: type[Exception]) -> None:
    with pytest.raises(Refused, match=f"r/x/new: {kind.__name__}"), vendor_errors("r/x/new"):
        raise kind.__new__(kind)


def test_the_vendor_has_the_exceptions_that_are_known() -> None:
    assert len(set(VENDOR)) > 25


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "REDDIT_CLIENT_ID is not set"),
        ({"REDDIT_CLIENT_ID": "app"}, "REDDIT_CLIENT_SECRET is not set"),
        ({"REDDIT_CLIENT_ID": "app", "REDDIT_CLIENT_SECRET": f"{SECRET}\n"}, "REDDIT_CLIENT_SECRET holds a line break"),
        ({"REDDIT_CLIENT_ID": "äpp", "REDDIT_CLIENT_SECRET": SECRET}, "REDDIT_CLIENT_ID holds .* not ASCII"),
        (
            {"REDDIT_CLIENT_ID": "app", "REDDIT_CLIENT_SECRET": SECRET, "REDDIT_USER_AGENT": "me"},
            "REDDIT_USER_AGENT is 'me'; Reddit wants",
        ),
    ],
)
def test_credentials_that_are_none_are_named(variables: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        Credentials.read(variables)
    assert SECRET not in str(caught.value)


def test_credentials_come_from_the_environment_and_do_not_show() -> None:
    found = Credentials.read({"REDDIT_CLIENT_ID": "app", "REDDIT_CLIENT_SECRET": SECRET})
    assert (found.client_id, found.client_secret) == ("app", SECRET)
    assert "backsight" in found.user_agent
    assert SECRET not in repr(found)


def test_nothing_of_praws_own_settings_counts(
    world: FakeWorld, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("site", "client_id", "username", "password", "refresh_token"):
        monkeypatch.setenv(f"praw_{name}", "another")
    assert client.listing(NEW).children
    assert world.log[0].headers["authorization"] == "Basic YXBwOnBsYW50ZWQtMDEyMzQ1Njc4OQ=="
