"""fredapi on our transport: whole listings, errors of ours, and no key where people look."""

import ast
import inspect
import logging
from collections.abc import Callable
from datetime import date, timedelta
from time import thread_time
from typing import Any

import fredapi
import pytest
from backsight_fakeworld import FakeWorld, Fault
from backsight_features.errors import BacksightError, BadInput, Drifted
from backsight_ingest.live.faults import Refused, Transient
from backsight_ingest.live.web import Web
from backsight_ingest.sources.fred import Fred, NotArchived, xml_body
from backsight_ingest.sources.fredgraph import Fredgraph, csv_body

KEY = "0123456789abcdef0123456789abcdef"
OBSERVATIONS = "/fred/series/observations"


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    return make_web(idle=timedelta(seconds=20), total=timedelta(seconds=60))


@pytest.fixture
def fred(web: Web) -> Fred:
    return Fred(KEY, web)


def error(status: int, message: str, code: str | None = None) -> Fault:
    body = f'<?xml version="1.0" encoding="utf-8" ?>\n<error code="{code or status}" message="{message}" />\n'
    return Fault(name="error", status=status, body=body.encode(), content_type="text/xml; charset=UTF-8")


# ------------------------------------------------------------------------------------------------- listings


@pytest.mark.parametrize(("page", "requests"), [(97, 5), (197, 3), (393, 2), (394, 2), (395, 1), (100_000, 1)])
def test_a_listing_is_read_to_its_last_row(page: int, requests: int, web: Web, fred: Fred, world: FakeWorld) -> None:
    period = {"since": date(1776, 7, 4), "until": world.now.date()}
    whole = fred.observations("GDPC1", **period)
    assert sorted(whole.select("date", "realtime_start", "value").iter_rows()) == [
        (str(release.date), str(release.realtime_start), release.value) for release in world.fred.truth("GDPC1")
    ]
    world.log.clear()
    assert Fred(KEY, web, page=page).observations("GDPC1", **period).equals(whole)
    assert len(world.log) == requests  # after a page that is full comes one more


def test_vintages_are_read_page_by_page_too(web: Web, fred: Fred, world: FakeWorld) -> None:
    all_of_them = fred.vintage_dates("DFF")
    world.log.clear()
    assert Fred(KEY, web, page=2000).vintage_dates("DFF") == all_of_them
    assert len(world.log) == 3
    assert all_of_them == sorted({release.realtime_start for release in world.fred.truth("DFF")})


def test_rows_that_are_missing_from_a_page_are_missed(fred: Fred, world: FakeWorld) -> None:
    world.fault(OBSERVATIONS, Fault.rewrite(lambda rows: rows[:-1]))
    with pytest.raises(Transient, match="gave 393 rows from 0 on, of 394 that there are"):
        fred.observations("GDPC1", since=date(1776, 7, 4), until=world.now.date())


def test_a_listing_that_grows_while_it_is_read_is_read_another_time(web: Web, world: FakeWorld) -> None:
    world.fault(OBSERVATIONS, Fault.clock_skew(ahead=200 * 86_400, date=False), skip=1)
    with pytest.raises(Transient, match="had 394 rows, and 412 while they were read"):
        Fred(KEY, web, page=200).observations("GDPC1", since=date(1776, 7, 4), until=date(9999, 12, 31))


def test_a_listing_that_does_not_say_how_long_it_is_has_changed(fred: Fred, world: FakeWorld) -> None:
    world.fault(OBSERVATIONS, Fault(name="other", status=200, body=b"<observations/>", content_type="text/xml"))
    with pytest.raises(Drifted, match="does not say how many rows there are"):
        fred.observations("GDPC1")


def test_many_rows_are_read_many_times_faster_than_by_fredapi(fred: Fred, world: FakeWorld) -> None:
    days = 'realtime_start="2013-08-14" realtime_end="9999-12-31"'
    rows = "".join(f'<observation {days} date="{1900 + i % 99}-01-01" value="{i}"/>' for i in range(800))
    body = f'<observations count="800" offset="0" limit="100000">{rows}</observations>'.encode()
    world.fault(OBSERVATIONS, Fault(name="many", status=200, body=body, content_type="text/xml"), times=-1)

    def spent(read: Callable[[], object]) -> float:
        begun = thread_time()
        assert len(read()) == 800  # type: ignore[arg-type]
        return thread_time() - begun

    ours = min(spent(lambda: fred.observations("GDPC1")) for _ in range(3))
    assert spent(lambda: fred.get_series_all_releases("GDPC1")) > 3 * ours


# ------------------------------------------------------------------------------------------------- fredapi's own


def test_every_method_of_fredapi_goes_our_way(fred: Fred, world: FakeWorld) -> None:
    world.fault("/fred/", Fault.html())
    world.fault("/fred/", Fault.server_error())
    assert fred.get_series_info("GDPC1")["frequency_short"] == "Q"
    world.fault("/fred/", Fault.empty())
    world.fault("/fred/", Fault.reset())
    newest = fred.get_series("GDPC1").iloc[-1]
    assert newest == float(list(world.fred.known_at("GDPC1", world.now.date()).values())[-1])
    assert len(fred.get_series_vintage_dates("GDPC1")) == len(fred.vintage_dates("GDPC1"))
    with pytest.raises(BadInput, match="no such series"):
        fred.get_series("NOPE")


def test_what_fredapi_raises_is_known() -> None:
    # It has no exceptions of its own. What it raises are ValueErrors, in methods that are not used here, or where an
    # answer could not be had or read, which happens on our side of it.
    module = inspect.getmodule(fredapi.Fred)
    names = {name for name, each in vars(module).items() if inspect.isclass(each) and issubclass(each, BaseException)}
    assert names == {"HTTPError"}
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    assert {each.func.id for each in raised if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)} == {
        "ValueError"
    }
    assert all(isinstance(each, ast.Call) for each in raised)
    # All of its methods ask through the one that is overridden.
    asking = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "urlopen"]
    assert len(asking) == 1
    assert "_Fred__fetch_data" in vars(Fred)


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (error(400, "Bad Request.  The series does not exist."), BadInput, "FRED has no such series: Bad Request. The"),
        (
            error(
                400,
                "Bad Request.  The series does not exist in ALFRED but may exist in FRED.  Try setting realtime_start",
            ),
            NotArchived,
            "does not exist in ALFRED",
        ),
        (
            error(400, "Bad Request.  The value for variable api_key is not registered.  Read https://x/api_key.html."),
            BadInput,
            "FRED_API_KEY: Bad Request. The value for variable api_key is not registered",
        ),
        (error(400, f"Bad Request.  api_key {KEY} is banned."), BadInput, r"api_key \*\*\* is banned"),
        (
            error(400, "Bad Request.  There are 2004 vintage dates in the specified real-time period."),
            Refused,
            "There are 2004 vintage dates",
        ),
        (error(404, "Not Found"), Refused, "FRED/series/observations: Not Found"),
        (error(200, "Bad Request.  The series does not exist.", code="400"), BadInput, "no such series"),
        (error(200, "Too Many Requests.  Exceeded Rate Limit", code="429"), Transient, "Exceeded Rate Limit"),
        (error(200, "Internal Server Error", code="500"), Transient, "Internal Server Error"),
        (Fault(name="no", status=403, body=b"<html><h1>Access Denied</h1></html>"), Refused, "status 403 Forbidden"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_each_error_of_fred_is_one_of_ours(
    fault: Fault, kind: type[BacksightError], says: str, fred: Fred, world: FakeWorld
) -> None:
    world.fault(OBSERVATIONS, fault, times=-1)
    with pytest.raises(kind, match=says) as found:
        fred.observations("GDPC1")
    assert type(found.value) is kind
    assert KEY not in str(found.value)


def test_a_passing_error_in_the_body_is_asked_again(fred: Fred, world: FakeWorld) -> None:
    world.fault(OBSERVATIONS, error(200, "Too Many Requests.  Exceeded Rate Limit", code="429"))
    assert fred.observations("GDPC1").height > 0


@pytest.mark.parametrize("key", ["", "short", KEY.upper().replace("0", "X"), KEY + "0", KEY[:-1] + "\n"])
def test_a_key_that_is_none_is_refused_before_anybody_is_asked(key: str, web: Web, world: FakeWorld) -> None:
    with pytest.raises(BadInput, match="FRED_API_KEY is no key of FRED: it has to be 32 small letters and digits"):
        Fred(key, web)
    assert world.log == []


def test_no_key_is_in_the_log(fred: Fred, world: FakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.fault("/fred/", Fault.reset())
    world.fault("/fred/", Fault.server_error())
    fred.vintage_dates("GDPC1")
    assert "series_id=GDPC1" in caplog.text
    assert KEY not in caplog.text
    assert "api_key=***" in caplog.text


# ------------------------------------------------------------------------------------------------- bodies


TYPE = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
BOMB = b'<?xml version="1.0"?>' + TYPE + b"<observations>&b;</observations>"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no whole XML document"),
        (b"<observations><observation/>", "no whole XML document"),
        (b"<observations/><observations/>", "no whole XML document"),
        (b"<!doctype html><html></html>", "no whole XML document"),
        (b"<!DOCTYPE html><html></html>", "declares a document type"),
        (BOMB, "declares a document type"),
        (BOMB.decode().encode("utf-16"), "declares a document type"),
    ],
)
def test_what_is_no_document_of_data_is_none(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        xml_body(body)


@pytest.mark.parametrize("body", [b"", b"<html></html>\n", b"observation_date,X\n2020-01-01,1", b"date,X\n"])
def test_what_is_no_file_of_a_chart_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"it does not begin like the file of a chart|its last line has no end"):
        csv_body(body)


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        (b"observation_date,OTHER\n2020-01-01,1\n", Drifted, "has the columns observation_date, OTHER"),
        (b"observation_date,GDPC1\n2020-01-01,1,2\n", Drifted, "FRED's chart of GDPC1: "),
    ],
)
def test_a_chart_of_another_shape_is_refused(
    body: bytes, kind: type[BacksightError], says: str, web: Web, world: FakeWorld
) -> None:
    world.fault("/fredgraph/", Fault(name="other", status=200, body=body, content_type="application/csv"))
    with pytest.raises(kind, match=says):
        Fredgraph(web).values("GDPC1")


@pytest.mark.parametrize("head", [b"DATE", b"observation_date"])
def test_a_chart_is_read_by_its_old_and_its_new_header(head: bytes, web: Web, world: FakeWorld) -> None:
    body = head + b",GDPC1\n2020-01-01,1.5\n2020-04-01,\n2020-07-01,.\n"
    world.fault("/fredgraph/", Fault(name="other", status=200, body=body, content_type="application/csv"))
    rows: list[Any] = Fredgraph(web).values("GDPC1").rows()
    assert rows == [("2020-01-01", "1.5"), ("2020-04-01", None), ("2020-07-01", ".")]


def test_a_chart_that_is_not_there_is_named(web: Web) -> None:
    with pytest.raises(BadInput, match="FRED has no series NOPE"):
        Fredgraph(web).values("NOPE")
