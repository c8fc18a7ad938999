"""A model of a hub: the real client against a hub of our own on the loopback, at one commit and no other."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
import pytest
from backsight_features.errors import BadInput
from backsight_features.lake import Lake
from backsight_features.schemas import POSTS, SCORES
from backsight_ingest.scoring.hub import download

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/tiny"


class Hub:
    """Serves the files of one commit as the hub does, and lists what it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: http.server.BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append(f"{request.command} {path}")
        start = f"/{MODEL}/resolve/{COMMIT}/"
        file = self.folder / path.removeprefix(start)
        if path.startswith(start) and file.is_file():
            content, status, error = file.read_bytes(), 200, None
        elif path.startswith(start):
            content, status, error = b"", 404, "EntryNotFound"
        elif path.startswith(f"/{MODEL}/"):
            content, status, error = b"", 404, "RevisionNotFound"
        else:
            content, status, error = b"", 404, "RepoNotFound"
        request.send_response(status)
        request.send_header("X-Repo-Commit", COMMIT)
        if error is not None:
            request.send_header("X-Error-Code", error)
        else:
            request.send_header("ETag", f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"')
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if body:
            request.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, tiny_model) -> Iterator[Hub]:
    hub = Hub(tiny_model.write(tmp_path / "served"))
    yield hub
    hub.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a workspace with two posts."""
    at = datetime(2024, 3, 1, tzinfo=UTC)
    posts = pl.DataFrame(
        {
            "site": "reddit",
            "channel": "bitcoin",
            "id": ["a", "b"],
            "title": ["up", "down"],
            "text": None,
            "url": None,
            "observed_at": at,
            "available_at": at,
            "available_at_estimated": False,
            "source": "test",
        },
        schema=POSTS.columns,
    )
    Lake(tmp_path / "home" / "lake").append(POSTS, posts, now=at)
    return tmp_path / "home"


def _score(home: Path, endpoint: str, *options: str, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does: the client reads where the hub is when it is imported."""
    # No proxy stands before the loopback, and nobody's login is sent to it.
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if offline:
        env["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, "-c", "from backsight_features.cli import main; main()", "--home", str(home), "score"]
    return subprocess.run([*command, *options], capture_output=True, text=True, env=env, timeout=120, check=False)


def test_a_pinned_model_scores_and_then_needs_no_hub(home: Path, hub: Hub) -> None:
    done = _score(home, hub.url, "--model", MODEL, "--revision", COMMIT, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["scorer"], report["scored"]) == (MODEL, 2)
    assert report["revision"].startswith(COMMIT)
    stored = Lake(home / "lake").scan(SCORES).collect()
    assert stored.select("scorer", "revision").unique().rows() == [(MODEL, report["revision"])]
    assert all(f"/resolve/{COMMIT}/" in path for path in hub.asked)
    assert not any(path.endswith((".bin", ".safetensors", ".py")) for path in hub.asked)

    before = len(hub.asked)
    again = _score(home, "http://127.0.0.1:9", "--model", MODEL, "--revision", COMMIT, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["revision"] == report["revision"]
    assert json.loads(again.stdout)["scored"] == 0
    assert len(hub.asked) == before

    (weights,) = (home / "scorers" / "hub").glob("*/snapshots/*/model.onnx")
    weights.write_bytes(weights.read_bytes() + b" ")
    done = _score(home, "http://127.0.0.1:9", "--model", MODEL, "--revision", COMMIT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.onnx has SHA-256 ")
    assert done.stderr.endswith("the file was changed\n")


def test_a_commit_that_the_hub_does_not_have_is_bad_input(home: Path, hub: Hub) -> None:
    done = _score(home, hub.url, "--model", MODEL, "--revision", "f" * 40)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the hub gives no {MODEL} at ffff")
    assert done.stderr.count("\n") == 1


def test_a_hub_that_does_not_answer_is_tried_again_later(home: Path) -> None:
    # The client's own word for it: at an address where nobody listens it first waits half a minute.
    done = _score(home, "http://127.0.0.1:9", "--model", MODEL, "--revision", COMMIT, offline=True)
    assert done.returncode == 4
    assert f"error: config.json of {MODEL} at {COMMIT} is not in " in done.stderr
    assert "cannot be read from the hub now" in done.stderr


def test_a_pickle_needs_its_hash_and_has_to_match(home: Path, hub: Hub) -> None:
    (hub.folder / "model.onnx").rename(hub.folder / "pytorch_model.bin")
    done = _score(home, hub.url, "--model", MODEL, "--revision", COMMIT)
    assert done.returncode == 2
    assert "--weights-sha256" in done.stderr
    assert not any(path.startswith("GET") and path.endswith(".bin") for path in hub.asked)
    done = _score(home, hub.url, "--model", MODEL, "--revision", COMMIT, "--weights-sha256", "0" * 64)
    assert done.returncode == 2
    assert "expected 0000" in done.stderr


@pytest.mark.parametrize("revision", ["main", "v1.0", "0123456", COMMIT.upper(), COMMIT + "0", ""])
def test_what_can_move_is_refused_before_anything_is_asked(tmp_path: Path, revision: str) -> None:
    with pytest.raises(BadInput, match="pin someone/tiny by its whole commit"):
        download(MODEL, revision, cache=tmp_path, weights_sha256=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give either --scorer or --model"),
        (("--scorer", "sentfin-tiny-bert", "--model", "x"), "give either --scorer or --model"),
        (("--scorer", "sentfin-tiny-bert", "--revision", COMMIT), "belong to --model"),
        (("--model", "someone/tiny"), "give --revision, its whole commit"),
        (("--model", ".", "--revision", COMMIT), "pinned by its content"),
        (("--scorer", "finbert"), "sentfin-tiny-bert"),
    ],
)
def test_the_command_guesses_nothing(home: Path, options: tuple[str, ...], message: str) -> None:
    done = _score(home, "http://127.0.0.1:9", *options)
    assert done.returncode == 2
    assert message in done.stderr
