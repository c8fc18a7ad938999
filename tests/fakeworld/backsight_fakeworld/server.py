"""The HTTP side: reads requests, and sends answers as whole or as broken as a fault wants them."""

import socket
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from backsight_fakeworld.faults import Fault, Wire
from backsight_fakeworld.messages import Answer, Request

_BLANKS: Final = b" " * 65_536
_HEALTHY: Final = Fault(name="")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer, what goes wrong with it, and the world's time when it was made."""

    answer: Answer
    fault: Fault | None
    now: datetime


class Server(ThreadingHTTPServer):
    """A server on loopback whose threads end when it closes, also those that keep a client waiting.

    Parameters
    ----------
    port : int
        0 for any that is free.
    reply : callable
        From a request, its path whole, to the reply.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, reply: Callable[[Request], Reply]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.reply = reply
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._answering: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._loop = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def start(self) -> None:
        """Serve, in a thread."""
        self._loop.start()

    def stop(self) -> None:
        """Break off all answers and wait until every thread has ended."""
        self.closing.set()
        self.shutdown()
        self._loop.join()
        with self._lock:
            for connection in self._open:
                # The client may have been first.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._answering:
            thread.join()
        self.server_close()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        with self._lock:
            self._open.add(request)
        self._answering = [thread for thread in self._answering if thread.is_alive()]
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._answering.append(thread)
        thread.start()

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Let only what is wrong here be seen; that a client hangs up is what clients do."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "fakeworld"
    sys_version = ""
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the world keeps the log."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.reply(
            Request(
                method=self.command,
                path=url.path,
                query=dict(parse_qsl(url.query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body.decode(),
            )
        )
        self._send(reply, reply.fault or _HEALTHY)

    def _send(self, reply: Reply, fault: Fault) -> None:
        if fault.wire is Wire.SILENT:
            # Until the client hangs up or the world closes; it has nothing more to say before an answer.
            self.connection.recv(1)
            self.close_connection = True
            return
        if fault.wire is Wire.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        body = _body(reply.answer, fault)
        head = self._head(reply, fault, body)
        if fault.wire is Wire.DRIPPING:
            self.wfile.write(head)
            for i in range(len(body)):
                self.wfile.write(body[i : i + 1])
                if self.server.closing.wait(fault.pause.total_seconds()):
                    self.close_connection = True
                    return
        elif fault.wire is Wire.SHORT:
            self.wfile.write(head + body[: len(body) // 2])
            self.close_connection = True
        elif fault.wire is Wire.PADDED:
            self.wfile.write(head + body)
            for part in _padding(fault.size - len(body)):
                self.wfile.write(part)
        elif fault.wire is Wire.CHUNKED:
            self.wfile.write(head)
            for part in (body, *_padding(fault.size - len(body))):
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(head + body)

    def _head(self, reply: Reply, fault: Fault, body: bytes) -> bytes:
        answer = reply.answer
        status = answer.status if fault.status is None else fault.status
        date = reply.now + fault.date_shift
        headers = {
            "Server": self.server_version,
            "Date": format_datetime(date, usegmt=True),
            "Content-Type": fault.content_type or answer.content_type,
            **(answer.headers if fault.status is None else {}),
            **fault.headers,
        }
        if self.close_connection:  # as the client asked
            headers["Connection"] = "close"
        if fault.retry_date is not None:
            headers["Retry-After"] = format_datetime(date + fault.retry_date, usegmt=True)
        if fault.wire is Wire.GZIPPED:
            headers["Content-Encoding"] = "gzip"
        if fault.wire is Wire.CHUNKED:
            headers["Transfer-Encoding"] = "chunked"
        elif status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = str(max(len(body), fault.size if fault.wire is Wire.PADDED else 0))
        lines = [f"{self.protocol_version} {status} {responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _body(answer: Answer, fault: Fault) -> bytes:
    if fault.body is not None:
        return fault.body
    body = answer.render(answer.rows if fault.rows is None else fault.rows(answer))
    if fault.cut is not None:
        body = fault.cut(body)
    if fault.wire is Wire.GZIPPED:
        body = _bomb(body, fault.size)
    return body


@lru_cache(maxsize=4)
def _bomb(body: bytes, size: int) -> bytes:
    """Return a gzip stream of a body and blanks."""
    gzip = zlib.compressobj(9, wbits=31)
    parts = [gzip.compress(body), *(gzip.compress(part) for part in _padding(size - len(body))), gzip.flush()]
    return b"".join(parts)


def _padding(size: int) -> Iterator[bytes]:
    while size > 0:
        yield _BLANKS[:size]
        size -= len(_BLANKS)
