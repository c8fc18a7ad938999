"""What can go wrong between a client and a source, each under its name, and the script of what goes wrong when."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, Self

from backsight_fakeworld.draws import rng
from backsight_fakeworld.messages import Answer, Row

_PAGE: Final = (
    b"<!doctype html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
)
_MEGABYTE: Final = 1_000_000


class Wire(Enum):
    """How an answer travels."""

    WHOLE = "whole"
    SILENT = "silent"
    DRIPPING = "dripping"
    RESET = "reset"
    SHORT = "short"
    PADDED = "padded"
    CHUNKED = "chunked"
    GZIPPED = "gzipped"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way in which an answer is not what the client expects; made by the methods below.

    Parameters
    ----------
    name : str
        As in the log.
    status, body, content_type, headers : optional
        Sent instead of the real ones.
    content_shift, date_shift : timedelta
        How far from the world's clock the content and the ``Date`` header are.
    retry_date : timedelta or None
        ``Retry-After`` as a date, that long after the ``Date`` header.
    rows : callable
        From the answer, whose rows it may look into, to the rows that are sent.
    cut : callable
        From the body to the body that is sent.
    again : bool
        Whether the answer is the one before on the same path.
    wire : Wire
        How it is sent.
    pause : timedelta
        Between two bytes of a dripping answer.
    size : int
        Bytes that the client reads of an answer that is too large.
    """

    name: str
    status: int | None = None
    body: bytes | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_shift: timedelta = timedelta()
    date_shift: timedelta = timedelta()
    retry_date: timedelta | None = None
    rows: Callable[[Answer], list[Row]] | None = None
    cut: Callable[[bytes], bytes] | None = None
    again: bool = False
    wire: Wire = Wire.WHOLE
    pause: timedelta = timedelta()
    size: int = 0

    @classmethod
    def too_many_requests(cls, retry_after: float | None = None, *, as_date: bool = False) -> Self:
        """Return 429, with ``Retry-After`` in seconds or as an HTTP date, or without it."""
        fault = cls(name="too_many_requests", status=429, body=b'{"message": "Too Many Requests", "error": 429}')
        if retry_after is None:
            return fault
        if as_date:
            return replace(fault, retry_date=timedelta(seconds=retry_after))
        return replace(fault, headers={"Retry-After": f"{retry_after:g}"})

    @classmethod
    def server_error(cls, status: int = 500) -> Self:
        """Return 500, 503 or the like, as a page of a proxy."""
        body = b"<html><body><h1>Server Error</h1></body></html>"
        return cls(name="server_error", status=status, body=body, content_type="text/html")

    @classmethod
    def timeout(cls) -> Self:
        """Answer nothing, until the client goes or the world closes."""
        return cls(name="timeout", wire=Wire.SILENT)

    @classmethod
    def drip(cls, pause: float = 0.2) -> Self:
        """Send the real answer byte by byte with pauses in seconds, so that no wait for the next byte is long."""
        return cls(name="drip", wire=Wire.DRIPPING, pause=timedelta(seconds=pause))

    @classmethod
    def reset(cls) -> Self:
        """Reset the connection instead of answering."""
        return cls(name="reset", wire=Wire.RESET)

    @classmethod
    def short_body(cls) -> Self:
        """Announce the whole length, send half of it and close."""
        return cls(name="short_body", wire=Wire.SHORT)

    @classmethod
    def cut_body(cls) -> Self:
        """Send half of the document, and announce that half: nothing but the document itself shows the loss."""
        return cls(name="cut_body", cut=lambda body: body[: len(body) // 2])

    @classmethod
    def html(cls) -> Self:
        """Answer 200 with a page for people."""
        return cls(name="html", status=200, body=_PAGE, content_type="text/html; charset=utf-8")

    @classmethod
    def empty(cls) -> Self:
        """Answer 200 with no byte."""
        return cls(name="empty", status=200, body=b"")

    @classmethod
    def duplicate_page(cls) -> Self:
        """List everything on the page twice."""
        return cls(name="duplicate_page", rows=lambda answer: answer.rows * 2)

    @classmethod
    def page_again(cls) -> Self:
        """Answer what was answered before on the same path, whatever is asked."""
        return cls(name="page_again", again=True)

    @classmethod
    def out_of_order_page(cls) -> Self:
        """Shuffle what is on the page."""
        return cls(name="out_of_order_page", rows=_shuffled)

    @classmethod
    def unfinished_bar(cls, behind: float = 60) -> Self:
        """Answer what would have been answered some seconds before: the last closed bar as it stood when open."""
        return cls(name="unfinished_bar", content_shift=-timedelta(seconds=behind))

    @classmethod
    def clock_skew(cls, ahead: float = 3600, *, content: bool = True, date: bool = True) -> Self:
        """Let the source's clock be ahead by some seconds: what it lists, its ``Date`` header, or both."""
        shift = timedelta(seconds=ahead)
        return cls(
            name="clock_skew",
            content_shift=shift if content else timedelta(),
            date_shift=shift if date else timedelta(),
        )

    @classmethod
    def redirect_loop(cls) -> Self:
        """Redirect to a place that redirects to itself for ever."""
        return cls(name="redirect_loop", status=302, body=b"", headers={"Location": "/_loop"})

    @classmethod
    def too_large(cls, size: int = 100 * _MEGABYTE, *, announced: bool = True) -> Self:
        """Follow the real document by blanks up to a size in bytes, announced or in chunks."""
        return cls(name="too_large", wire=Wire.PADDED if announced else Wire.CHUNKED, size=size)

    @classmethod
    def gzip_bomb(cls, size: int = 100 * _MEGABYTE) -> Self:
        """Send a small gzipped body that is blanks up to a size in bytes once unpacked."""
        return cls(name="gzip_bomb", wire=Wire.GZIPPED, size=size)

    @classmethod
    def in_band(cls, document: object, *, status: int = 200) -> Self:
        """Answer with an error in the body."""
        return cls(name="in_band", status=status, body=json.dumps(document).encode())

    @classmethod
    def kraken_rate_limit(cls) -> Self:
        """Answer as Kraken does to too many requests: 200 and an error in the body."""
        return cls.in_band({"error": ["EAPI:Rate limit exceeded"]})

    @classmethod
    def binance_rate_limit(cls, *, status: int = 200) -> Self:
        """Answer as Binance does to too many requests; behind some proxies with 200."""
        return cls.in_band(
            {"code": -1003, "msg": "Too much request weight used; please use the websocket."}, status=status
        )

    @classmethod
    def nasty(cls, field: str, value: object, *, every: int = 5) -> Self:
        """Put a value into a field of the first row and each so manyth after it.

        Parameters
        ----------
        field : str
            ``open``, ``high``, ``low``, ``close``, ``volume`` of bars; ``price``, ``amount`` of trades and books;
            otherwise as the source calls it.
        value : object
            ``"NaN"``, ``"inf"``, ``"-1"``, ``None``...
        every : int
            1 hits all rows.
        """
        return cls(name="nasty", rows=lambda answer: _changed(answer, every, lambda row: {field: value}))

    @classmethod
    def high_below_low(cls, *, every: int = 5) -> Self:
        """Exchange the high and the low of bars."""

        def exchanged(row: Callable[[str], object]) -> dict[str, object]:
            return {"high": row("low"), "low": row("high")}

        return cls(name="high_below_low", rows=lambda answer: _changed(answer, every, exchanged))

    @classmethod
    def null_rows(cls, *, every: int = 5) -> Self:
        """Put null where a row should be."""
        return cls(
            name="null_rows",
            rows=lambda answer: [None if i % every == 0 else row for i, row in enumerate(answer.rows)],
        )

    @classmethod
    def rewrite(cls, rows: Callable[[list[Row]], list[Row]]) -> Self:
        """Send what a function makes of the rows."""
        return cls(name="rewrite", rows=lambda answer: rows(list(answer.rows)))


BY_NAME: Final[Mapping[str, Callable[..., Fault]]] = {
    constructor.__name__: constructor
    for constructor in (
        Fault.too_many_requests,
        Fault.server_error,
        Fault.timeout,
        Fault.drip,
        Fault.reset,
        Fault.short_body,
        Fault.cut_body,
        Fault.html,
        Fault.empty,
        Fault.duplicate_page,
        Fault.page_again,
        Fault.out_of_order_page,
        Fault.unfinished_bar,
        Fault.clock_skew,
        Fault.redirect_loop,
        Fault.too_large,
        Fault.gzip_bomb,
        Fault.in_band,
        Fault.kraken_rate_limit,
        Fault.binance_rate_limit,
        Fault.nasty,
        Fault.high_below_low,
        Fault.null_rows,
    )
}
"""The faults that can be asked for by name, over HTTP too."""


def _field(row: Row, answer: Answer, name: str) -> object:
    return row[answer.names.get(name, name)]


def _shuffled(answer: Answer) -> list[Row]:
    rows = list(answer.rows)
    rng(len(rows), "out of order").shuffle(rows)
    return rows


def _changed(answer: Answer, every: int, change: Callable[[Callable[[str], Any]], dict[str, object]]) -> list[Row]:
    """Return rows of which some have other values; the rows themselves stay as they are."""

    rows = []
    for i, row in enumerate(answer.rows):
        if i % every:
            rows.append(row)
            continue
        other = row.copy()
        for name, value in change(partial(_field, row, answer)).items():
            other[answer.names.get(name, name)] = value
        rows.append(other)
    return rows


@dataclass(kw_only=True)
class _Entry:
    prefix: str
    fault: Fault
    times: int
    skip: int


class Script:
    """Which requests meet which faults; safe between threads."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def add(self, prefix: str, fault: Fault, times: int, skip: int) -> None:
        """Let a fault meet requests whose path has a prefix: not the first ``skip``, then ``times`` of them."""
        with self._lock:
            self._entries.append(_Entry(prefix=prefix, fault=fault, times=times, skip=skip))

    def clear(self) -> None:
        """Forget all faults that have not happened."""
        with self._lock:
            self._entries.clear()

    def take(self, path: str) -> Fault | None:
        """Return the fault that a request meets: of the first entry that is not used up and has no more to skip."""
        with self._lock:
            for entry in self._entries:
                if not path.startswith(entry.prefix) or entry.times == 0:
                    continue
                if entry.skip:
                    entry.skip -= 1
                    continue
                entry.times -= 1
                return entry.fault
        return None
