"""Each fault of the fake world does what it is named for, seen with plain requests, for each kind of source."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
import requests
from backsight_fakeworld import BY_NAME, FakeWorld, Fault

KINDS = {
    "prices": "/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=50",
    "reddit": "/reddit/r/Bitcoin/new?limit=50",
    "news": "/news/feed.rss",
    "macro": f"/fred/series/observations?series_id=GDPC1&api_key={'a' * 32}",
}


@pytest.fixture(scope="module")
def opened() -> Iterator[FakeWorld]:
    with FakeWorld(seed=7) as world:
        yield world


@pytest.fixture
def world(opened: FakeWorld) -> FakeWorld:
    opened.clear()
    return opened


@pytest.fixture(params=KINDS)
def path(request: pytest.FixtureRequest) -> str:
    return KINDS[request.param]


def ask(world: FakeWorld, path: str, timeout: float = 10) -> requests.Response:
    headers = {}
    if path.startswith("/reddit/r/"):
        form = {"grant_type": "client_credentials"}
        url = f"{world.url}/reddit/api/v1/access_token"
        token = requests.post(url, data=form, auth=("id", "secret"), timeout=10).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
    return requests.get(world.url + path, headers=headers, timeout=timeout)


def faulty(world: FakeWorld, path: str, fault: Fault, timeout: float = 10) -> requests.Response:
    world.fault(path.partition("?")[0], fault)
    return ask(world, path, timeout)


def raw(world: FakeWorld, path: str) -> bytes:
    """Return all bytes of an answer as they come over the wire."""
    host, port = world.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        parts = list(iter(lambda: connection.recv(65_536), b""))
    return b"".join(parts)


def keys(body: bytes) -> list[str]:
    """Return what tells the rows of a page apart."""
    if body.startswith(b"<"):
        root = ET.fromstring(body)
        items = root.findall(".//item/guid")
        return [item.text or "" for item in items] or [row.get("date", "") for row in root]
    document = json.loads(body)
    if isinstance(document, list):
        return [str(row[0]) for row in document]
    return [child["data"]["id"] for child in document["data"]["children"]]


@pytest.mark.parametrize(
    ("fault", "after"),
    [
        (Fault.too_many_requests(7), "7"),
        (Fault.too_many_requests(), None),
        (Fault.too_many_requests(90, as_date=True), "Wed, 15 May 2024 10:18:53 GMT"),
    ],
)
def test_too_many_requests(world: FakeWorld, path: str, fault: Fault, after: str | None) -> None:
    answer = faulty(world, path, fault)
    assert answer.status_code == 429
    assert answer.headers.get("Retry-After") == after
    assert ask(world, path).status_code == 200


@pytest.mark.parametrize("status", [500, 503, 520])
def test_server_error(world: FakeWorld, path: str, status: int) -> None:
    assert faulty(world, path, Fault.server_error(status)).status_code == status


def test_timeout(world: FakeWorld, path: str) -> None:
    with pytest.raises(requests.ReadTimeout):
        faulty(world, path, Fault.timeout(), timeout=0.1)


def test_drip(world: FakeWorld, path: str) -> None:
    world.fault(path.partition("?")[0], Fault.drip(pause=0.02))
    with requests.Session() as session:
        started = time.monotonic()
        answer = session.get(world.url + path, timeout=60, stream=True)
        parts = answer.iter_content(1)
        for _ in range(5):
            assert len(next(parts)) == 1
        assert time.monotonic() - started > 0.05


def test_reset(world: FakeWorld, path: str) -> None:
    with pytest.raises(requests.ConnectionError, match="Connection reset by peer"):
        faulty(world, path, Fault.reset())


def test_short_body(world: FakeWorld, path: str) -> None:
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        faulty(world, path, Fault.short_body())


def test_cut_body(world: FakeWorld, path: str) -> None:
    whole, cut = ask(world, path), faulty(world, path, Fault.cut_body())
    assert cut.status_code == 200
    assert cut.content == whole.content[: len(whole.content) // 2]
    assert int(cut.headers["Content-Length"]) == len(cut.content)


def test_html(world: FakeWorld, path: str) -> None:
    answer = faulty(world, path, Fault.html())
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<!doctype html>")


def test_empty(world: FakeWorld, path: str) -> None:
    answer = faulty(world, path, Fault.empty())
    assert (answer.status_code, answer.content) == (200, b"")


def test_duplicate_page(world: FakeWorld, path: str) -> None:
    rows = keys(ask(world, path).content)
    assert keys(faulty(world, path, Fault.duplicate_page()).content) == rows * 2
    assert len(rows) >= 30


def test_out_of_order_page(world: FakeWorld, path: str) -> None:
    rows, shuffled = keys(ask(world, path).content), keys(faulty(world, path, Fault.out_of_order_page()).content)
    assert sorted(shuffled) == sorted(rows)
    assert shuffled not in (rows, rows[::-1])


def test_page_again(world: FakeWorld) -> None:
    path = "/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit={}"
    first = ask(world, path.format(3)).content
    world.fault("/binance", Fault.page_again())
    assert ask(world, path.format(4)).content == first
    assert ask(world, path.format(4)).content != first


def test_unfinished_bar(world: FakeWorld) -> None:
    path = "/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2"
    closed, current = ask(world, path).json()
    stale = faulty(world, path, Fault.unfinished_bar(behind=60)).json()[-1]
    assert stale[0] == closed[0]
    assert stale[8] < closed[8], "fewer trades than in the end"
    assert current[0] == closed[0] + 60_000


def test_clock_skew(world: FakeWorld, path: str) -> None:
    ahead = timedelta(days=200)
    usual, skewed = ask(world, path), faulty(world, path, Fault.clock_skew(ahead.total_seconds()))
    assert parsedate_to_datetime(skewed.headers["Date"]) == world.now + ahead
    assert parsedate_to_datetime(usual.headers["Date"]) == world.now
    assert not set(keys(skewed.content)) <= set(keys(usual.content))
    header_only = faulty(world, path, Fault.clock_skew(3600, content=False))
    assert parsedate_to_datetime(header_only.headers["Date"]) == world.now + timedelta(hours=1)
    assert keys(header_only.content) == keys(usual.content)


def test_redirect_loop(world: FakeWorld, path: str) -> None:
    with pytest.raises(requests.TooManyRedirects):
        faulty(world, path, Fault.redirect_loop())


@pytest.mark.parametrize("announced", [True, False])
def test_too_large(world: FakeWorld, path: str, announced: bool) -> None:
    usual, large = ask(world, path), faulty(world, path, Fault.too_large(2_000_000, announced=announced))
    assert len(large.content) == 2_000_000
    assert ("Content-Length" in large.headers) is announced
    assert keys(large.content) == keys(usual.content), "the document is still there"


def test_gzip_bomb(world: FakeWorld, path: str) -> None:
    world.fault(path.partition("?")[0], Fault.gzip_bomb(5_000_000))
    wire = raw(world, path)
    head, _, body = wire.partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head
    assert len(body) < 50_000
    assert len(gzip.decompress(body)) == 5_000_000


def test_rate_limits_in_band(world: FakeWorld) -> None:
    kraken, binance = "/kraken/0/public/OHLC?pair=XBTUSD", KINDS["prices"]
    assert faulty(world, kraken, Fault.kraken_rate_limit()).json() == {"error": ["EAPI:Rate limit exceeded"]}
    answer = faulty(world, binance, Fault.binance_rate_limit())
    assert (answer.status_code, answer.json()["code"]) == (200, -1003)
    assert faulty(world, binance, Fault.binance_rate_limit(status=429)).status_code == 429


@pytest.mark.parametrize("value", ["NaN", "inf", "-1", None])
@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/binance/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=6", lambda page: [row[4] for row in page]),
        ("/kraken/0/public/OHLC?pair=XBTUSD", lambda page: [row[4] for row in page["result"]["XXBTZUSD"]]),
        ("/coinbaseexchange/products/BTC-USD/candles", lambda page: [row[4] for row in page]),
        (
            "/coinbase/api/v3/brokerage/market/products/BTC-USD/candles?granularity=ONE_HOUR&start=1715700000",
            lambda page: [row["close"] for row in page["candles"]],
        ),
        ("/bitstamp/api/v2/ohlc/btcusd?step=60&limit=6", lambda page: [row["close"] for row in page["data"]["ohlc"]]),
        ("/bitfinex/v2/candles/trade:1m:tBTCUSD/hist?limit=6", lambda page: [row[2] for row in page]),
    ],
    ids=["binance", "kraken", "coinbaseexchange", "coinbase", "bitstamp", "bitfinex"],
)
def test_nasty(world: FakeWorld, path: str, rows: object, value: object) -> None:
    assert callable(rows)
    usual = rows(ask(world, path).json())
    nasty = rows(faulty(world, path, Fault.nasty("close", value, every=3)).json())
    assert nasty == [value if i % 3 == 0 else close for i, close in enumerate(usual)]
    assert rows(ask(world, path).json()) == usual, "the world itself is as before"


def test_nasty_values_of_other_kinds(world: FakeWorld) -> None:
    answer = faulty(world, KINDS["macro"], Fault.nasty("value", "NaN", every=1))
    assert {row.get("value") for row in ET.fromstring(answer.content)} == {"NaN"}
    page = faulty(world, KINDS["reddit"], Fault.nasty("created_utc", "soon", every=1)).json()
    assert {child["data"]["created_utc"] for child in page["data"]["children"]} == {"soon"}


def test_high_below_low(world: FakeWorld) -> None:
    usual = ask(world, KINDS["prices"]).json()
    changed = faulty(world, KINDS["prices"], Fault.high_below_low(every=50)).json()
    assert (changed[0][2], changed[0][3]) == (usual[0][3], usual[0][2])
    assert float(changed[0][2]) < float(changed[0][3])
    assert changed[1:] == usual[1:]


def test_null_rows(world: FakeWorld) -> None:
    assert [row is None for row in faulty(world, KINDS["prices"], Fault.null_rows(every=2)).json()[:4]] == [
        True,
        False,
        True,
        False,
    ]


def test_rewrite(world: FakeWorld) -> None:
    assert len(faulty(world, KINDS["prices"], Fault.rewrite(lambda rows: rows[:7])).json()) == 7


# The script


def test_faults_have_their_turn(world: FakeWorld) -> None:
    path = KINDS["prices"]
    world.fault("/binance", Fault.server_error(503), times=2, skip=1)
    world.fault("/binance", Fault.too_many_requests())
    world.fault("/kraken", Fault.server_error(), times=-1)
    # The first request is skipped by the first, and so meets the second.
    assert [ask(world, path).status_code for _ in range(4)] == [429, 503, 503, 200]
    assert [ask(world, "/kraken/0/public/Time").status_code for _ in range(3)] == [500] * 3
    assert [hit.fault for hit in world.hits("/binance")] == [
        "too_many_requests",
        "server_error",
        "server_error",
        None,
    ]
    world.clear()
    assert ask(world, "/kraken/0/public/Time").status_code == 200
    assert len(world.log) == 1


def test_the_log_has_what_was_asked(world: FakeWorld) -> None:
    requests.get(f"{world.url}/kraken/0/public/OHLC?pair=XBTUSD&since=1", headers={"User-Agent": "me"}, timeout=10)
    [hit] = world.hits("/kraken/0/")
    assert (hit.method, hit.path, hit.query) == ("GET", "/kraken/0/public/OHLC", {"pair": "XBTUSD", "since": "1"})
    assert hit.headers["user-agent"] == "me"
    assert hit.now == world.now


def test_faults_log_and_clock_are_there_over_http(world: FakeWorld) -> None:
    wish = {"prefix": "/news", "fault": "too_many_requests", "retry_after": 3, "times": 2}
    assert requests.post(f"{world.url}/_faults", json=wish, timeout=10).status_code == 200
    assert [ask(world, "/news/feed.rss").headers.get("Retry-After") for _ in range(3)] == ["3", "3", None]
    assert requests.get(f"{world.url}/_faults", timeout=10).json() == sorted(BY_NAME)
    unknown = requests.post(f"{world.url}/_faults", json={"fault": "gremlins"}, timeout=10)
    assert (unknown.status_code, "gremlins" in unknown.text, "gzip_bomb" in unknown.text) == (400, True, True)
    assert requests.post(f"{world.url}/_faults", json={"fault": "reset", "speed": 1}, timeout=10).status_code == 400
    requests.post(f"{world.url}/_faults", json={"fault": "reset", "times": -1}, timeout=10)
    requests.delete(f"{world.url}/_faults", timeout=10)
    assert ask(world, KINDS["macro"]).status_code == 200

    log = requests.get(f"{world.url}/_log", timeout=10).json()
    assert [hit["fault"] for hit in log[:3]] == ["too_many_requests", "too_many_requests", None]
    assert log[-1]["query"]["api_key"] == "***"

    now = world.now
    requests.post(f"{world.url}/_clock", json={"advance": 60}, timeout=10)
    assert world.now == now + timedelta(minutes=1)
    requests.post(f"{world.url}/_clock", json={"now": now.isoformat()}, timeout=10)
    assert requests.get(f"{world.url}/_clock", timeout=10).json() == {"now": now.isoformat()}


@pytest.mark.parametrize("fault", [Fault.timeout(), Fault.drip(pause=60)])
def test_a_world_closes_at_once_though_clients_wait(fault: Fault) -> None:
    broken = []

    def wait(url: str) -> None:
        try:
            requests.get(url, timeout=120)
        except requests.RequestException as error:
            broken.append(error)

    with warnings.catch_warnings(), FakeWorld() as world:
        warnings.simplefilter("error")
        world.fault("/", fault, times=-1)
        clients = [threading.Thread(target=wait, args=(world.url + KINDS["news"],)) for _ in range(3)]
        for thread in clients:
            thread.start()
        while len(world.log) < 3:
            threading.Event().wait(0.01)
        closing = time.monotonic()
    assert time.monotonic() - closing < 60
    for thread in clients:
        thread.join(timeout=60)
    assert len(broken) == 3


def test_the_command_serves_until_it_is_interrupted() -> None:
    command = [sys.executable, "-W", "error", "-m", "backsight_fakeworld", "--port", "0", "--now", "2024-05-15T10:00Z"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, _, hint = (process.stdout.readline().strip().rpartition(" ")[-1] for _ in range(3))
        answer = requests.get(f"{url}/binance/api/v3/time", timeout=10)
        process.send_signal(2)
        _, errors = process.communicate(timeout=10)
    assert datetime.fromtimestamp(answer.json()["serverTime"] / 1000, UTC) == datetime(2024, 5, 15, 10, tzinfo=UTC)
    assert hint == url
    assert (process.returncode, errors) == (0, "")
