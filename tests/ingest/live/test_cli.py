"""The verbs as cron calls them: signals, exit codes, and secrets that nobody gets to see."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from backsight_fakeworld import FakeWorld
from backsight_fakeworld.faults import Fault
from backsight_features.cli import main
from backsight_features.lake import Lake
from backsight_features.schemas import RUNS

SECRETS = {
    "REDDIT_CLIENT_ID": "the-id-of-an-app-1f0c",
    "REDDIT_CLIENT_SECRET": "a-planted-secret-77ab",
    "FRED_API_KEY": "plantedkeyplantedkeyplantedkey42",
    "NEWSAPI_KEY": "a-planted-news-key-90de",
}

VERBS = {
    "prices": ("prices", "--exchange", "binance", "--symbol", "BTC/USDT"),
    "books": ("books", "--exchange", "kraken", "--symbol", "BTC/USD"),
    "reddit": ("reddit", "--subreddit", "bitcoin", "--recheck-days", "0"),
    "news": ("news", "--newsapi", "bitcoin", "--feed", "https://wire.example/feed.rss"),
    "macro": ("macro", "--series", "CPIAUCSL"),
}


@pytest.fixture(scope="module")
def real_time() -> Iterator[FakeWorld]:
    """Return a world whose clock is the real one, as these processes read theirs."""
    with FakeWorld(seed=7, now=None) as world:
        yield world


def command(home: Path, url: str, *words: str) -> list[str]:
    program = str(Path(sys.executable).with_name("backsight"))
    return [program, "--debug", "--home", str(home), "pull", *words, "--endpoint", url, "--rate", "1000"]


def environment() -> Mapping[str, str]:
    return {**os.environ, **SECRETS, "PYTHONWARNINGS": "default"}


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_no_secret_is_said_or_written(
    tmp_path: Path,
    real_time: FakeWorld,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    # Once as it should be, once with answers that repeat all that they were asked, once with a server that is down.
    echo = Fault.in_band({"error": " ".join(SECRETS.values()), "code": -1121, "msg": str(SECRETS)}, status=400)
    for i, fault in enumerate((None, echo, Fault.server_error())):
        real_time.clear()
        if fault is not None:
            real_time.fault("/", fault, times=-1)
        _, *arguments = command(tmp_path / str(i), real_time.url, *words)
        monkeypatch.setattr(sys, "argv", ["backsight", *arguments, "--deadline", "0.1"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code in (0, None)) == (fault is None), (ended.value.code, capsys.readouterr())
    said = "".join(capsys.readouterr())
    assert "Traceback" in said
    written = b"\n".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    stored = [str(Lake(tmp_path / str(i) / "lake").scan(RUNS).collect().to_dicts()) for i in range(3)]
    for secret in list(SECRETS.values())[1:]:
        assert secret not in said
        assert secret.encode() not in written
        assert secret not in "".join(stored)


@pytest.mark.slow
def test_a_run_that_waits_keeps_others_of_its_job_out_and_ends_with_a_signal(
    tmp_path: Path, real_time: FakeWorld
) -> None:
    real_time.clear()
    real_time.fault("/binance", Fault.timeout(), times=-1)
    with subprocess.Popen(
        command(tmp_path, real_time.url, *VERBS["prices"]), env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = 30_000
        while not real_time.hits("/binance") and deadline:
            deadline -= 1
            try:
                process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                continue
        assert real_time.hits("/binance")
        other = subprocess.run(
            command(tmp_path, real_time.url, *VERBS["prices"]), env=environment(), capture_output=True, text=True
        )
        assert other.returncode == 75
        assert "another run of this job is going on" in other.stderr
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert said.splitlines()[-1] == "error: interrupted by signal 15; the next run goes on from here"
    runs = Lake(tmp_path / "lake").scan(RUNS).sort("ingested_at").select("origin", "status").collect().rows()
    assert [origin for origin, _ in runs] == ["prices:binance:BTC-USDT:1h"] * 2
    assert runs[1][1].startswith("failed: interrupted")
