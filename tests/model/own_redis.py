"""A redis-server of a test's own, which may go and come back."""

import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import redis


class Redis:
    """It keeps what it was told, can be killed, and can hang.

    Parameters
    ----------
    folder : Path
        For its file and its log.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # Otherwise what was written last, and confirmed, may be gone after a kill.
        keeping = {"dir": folder, "save": "", "appendonly": "yes", "appendfsync": "always"}
        settings = {"bind": "127.0.0.1", "port": self.port, **keeping}
        self._command = ["redis-server", *(str(part) for name, of in settings.items() for part in (f"--{name}", of))]
        self._log, self._hangs = folder / "redis.log", False
        self.where = f"127.0.0.1:{self.port},db=0"
        self._process = self._started()

    def go(self, *, hang: bool = False) -> None:
        """Be away: killed, or silent."""
        self._hangs = hang
        self._process.send_signal(signal.SIGSTOP if hang else signal.SIGKILL)

    def come(self) -> None:
        """Be back, and answer."""
        if self._hangs:
            self._process.send_signal(signal.SIGCONT)
            self._wait(self._process)
        else:
            self._process.wait()
            self._process = self._started()

    def stop(self) -> None:
        """End for good."""
        self._process.kill()
        self._process.wait()

    def _started(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            process = subprocess.Popen(self._command, stdout=log, stderr=log)
        self._wait(process)
        return process

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        with redis.Redis(port=self.port) as client:
            while True:
                with suppress(redis.ConnectionError):
                    if client.ping():
                        return
                with suppress(subprocess.TimeoutExpired):
                    raise AssertionError(f"redis-server ended with {process.wait(timeout=0.01)}")
