"""The clients of the soak, a process of their own: soak_load.py PORT TRUTH FOUND REQUESTS SECONDS PER_LINE.

Every answer is held against the truth. A line, with the time, is printed after so many right answers, and after so many
errors, for those who change the world meanwhile; they answer a line about answers by a line when they have done so, and
the load is never more than two lines ahead of them.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

CLIENTS: Final = 8
KEPT_ALIVE: Final = 500
"""Requests on one connection, so that all workers get some."""
ERRORS_PER_LINE: Final = 8
LINES_AHEAD: Final = 2
PAUSE: Final = 0.02
"""Seconds that a client waits after an error."""
BOTH: Final = json.dumps({"symbols": ["BTC-USD", "DOGE-USD", "ETH-USD"]}).encode()
FEATURES: Final = "/v1/features/{}?service=forecast_1h"


def request(path: str, body: bytes = b"") -> bytes:
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: soak\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


MIX: Final = (
    *[request("/v1/forecast/BTC-USD")] * 5,
    *[request("/v1/forecast/ETH-USD")] * 2,
    request("/v1/forecasts", BOTH),
    request(FEATURES.format("BTC-USD") + "&window=true"),
    request(FEATURES.format("ETH-USD")),
)


class Load:
    """The clients, what is true, and what they found.

    Parameters
    ----------
    port : int
    truth : dict
        ``forecasts`` by id and ``features`` by symbol and ``available_at``, each with the number of its version.
    count : int
        How many requests are made, if there is time.
    seconds : float
        After which no more are made.
    per_line : int
        Right answers from line to line.
    """

    def __init__(self, port: int, truth: dict[str, Any], count: int, seconds: float, per_line: int) -> None:
        self.port, self.truth, self.left, self.per_line = port, truth, count, per_line
        self.until = time.monotonic() + seconds
        self.right: list[tuple[float, float, int, int, int]] = []
        self.errors: list[tuple[float, float, int, str]] = []
        self.wrong: list[str] = []
        self.dropped: list[str] = []
        self.answers = self.told = self.heard = 0
        self.going = asyncio.Event()
        self.going.set()

    async def run(self) -> None:
        asyncio.get_running_loop().add_reader(sys.stdin, self.hear)
        await asyncio.gather(*[self.client(number) for number in range(CLIENTS)])

    def tell(self, received: float) -> None:
        """Say that another bar may come, and wait with further requests if the one before has not come yet."""
        self.told += 1
        if self.told >= self.heard + LINES_AHEAD:
            self.going.clear()
        print(f"answers {received}", flush=True)

    def hear(self) -> None:
        said = os.read(sys.stdin.fileno(), 1 << 10)
        assert said, "nobody changes the world any more"
        self.heard += said.count(b"\n")
        self.going.set()

    async def client(self, number: int) -> None:
        while self.left > 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for turn in range(KEPT_ALIVE):
                    if self.left <= 0 or time.monotonic() > self.until:
                        self.left = 0
                        break
                    self.left -= 1
                    await self.ask(reader, writer, MIX[(number + turn) % len(MIX)])
            except (OSError, asyncio.IncompleteReadError) as error:
                self.dropped.append(repr(error))
            writer.close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes) -> None:
        await self.going.wait()
        sent = time.monotonic()
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        received = time.monotonic()
        status, said = int(head[9:12]), json.loads(body)
        if status != 200:
            self.errors.append((sent, received, status, said.get("type", "no problem")))
            if len(self.errors) % ERRORS_PER_LINE == 0:
                print(f"errors {received}", flush=True)
            await asyncio.sleep(PAUSE)
            return
        found = self.versions(said)
        if not found:
            self.wrong.append(f"{asked!r}: {body[:2000]!r}")
        self.right += [(sent, received, *each) for each in found]
        self.answers += 1
        if self.answers % self.per_line == 0:
            self.tell(received)

    def versions(self, said: dict[str, Any]) -> list[tuple[int, int, int]]:
        """Return symbol, version and bundle of all that an answer holds, by number; nothing if any of it is wrong."""
        if "features" in said:
            known = self.truth["features"].get(f"{said['symbol']} {said['available_at']}")
            if known is None or said != (known["said"] if "window" in said else known["short"]):
                return []
            return [(known["symbol"], known["version"], -1)]
        if "forecasts" in said:
            bitcoin, absent, ether = said["forecasts"]
            if absent["problem"]["type"] != "urn:backsight:missing":
                return []
            both = self.versions(bitcoin) + self.versions(ether)
            return both if len(both) == 2 else []
        known = self.truth["forecasts"].get(said["id"])
        return [(known["symbol"], known["version"], known["bundle"])] if known and known["said"] == said else []


def main() -> None:
    port, count, per_line = (int(sys.argv[i]) for i in (1, 4, 6))
    truth = json.loads(Path(sys.argv[2]).read_text())
    for known in truth["features"].values():
        known["short"] = {name: value for name, value in known["said"].items() if name != "window"}
    load = Load(port, truth, count, float(sys.argv[5]), per_line)
    begun = time.monotonic()
    asyncio.run(load.run())
    found = Path(sys.argv[3])
    np.save(found / "right.npy", np.array(load.right))
    document = {
        "answers": load.answers,
        "errors": load.errors,
        "wrong": load.wrong,
        "dropped": load.dropped,
        "seconds": time.monotonic() - begun,
    }
    (found / "found.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
