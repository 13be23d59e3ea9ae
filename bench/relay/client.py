"""Opens streams, checks that every chunk arrives once and in order, and prints the measurements as JSON."""

import argparse
import asyncio
import json
import re
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench.relay.upstream import CHUNKS_PER_SECOND

_TEXT = re.compile(rb"@(\d+):(\d+):(\d+) ")
_MAX_TEXT = 64
KEY = "bench-key-0123456789"


@dataclass
class Measured:
    """The delays that all streams of a run saw, in microseconds."""

    first: list[int] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    done: int = 0
    window: tuple[float, float] = (0.0, 0.0)
    in_window: int = 0
    """Chunks that arrived in the window in which the CPU time is measured."""


class Stream(asyncio.Protocol):
    """One request and its answer."""

    def __init__(self, number: int, options: argparse.Namespace, measured: Measured, steady: float) -> None:
        self._id = b"%d" % number
        self._count = options.chunks
        self._measured = measured
        self._steady = steady * 1e6
        self._next = 0
        self._rest = b""
        self._began = time.monotonic_ns() // 1000
        content = f"stream {number} of {options.chunks} chunks. {'The dam is old. ' * options.words}"
        body = json.dumps({"model": options.model, "stream": True, "messages": [{"role": "user", "content": content}]})
        self._request = (
            f"POST {options.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() // 1000
        data = self._rest + data
        end = 0
        for found in _TEXT.finditer(data):
            end = found.end()
            if found[1] != self._id or int(found[2]) != self._next:
                self._fail(f"chunk {found[2].decode()} of {found[1].decode()} in place of {self._next}")
                return
            stamp = int(found[3])
            self._measured.in_window += self._measured.window[0] <= now < self._measured.window[1]
            if self._next == 0:
                self._measured.first.append(now - self._began)
            elif stamp > self._steady:
                self._measured.chunks.append(now - stamp)
            self._next += 1
        self._rest = data[max(end, len(data) - _MAX_TEXT) :]

    def connection_lost(self, error: Exception | None) -> None:
        if self._next == self._count and b"[DONE]" in self._rest:
            self._measured.done += 1
        else:
            self._fail(f"ended after {self._next} chunks: {error!r}, {self._rest[-60:]!r}")
        if not self.ended.done():
            self.ended.set_result(None)

    def _fail(self, message: str) -> None:
        self._measured.errors.append(message)
        self._next = -1 << 30
        if not self.ended.done():
            self.ended.set_result(None)


async def run(options: argparse.Namespace) -> Measured:
    """Begin the streams evenly over the ramp, wait for all of them."""
    loop = asyncio.get_running_loop()
    measured = Measured()
    began = time.monotonic()
    steady = began + options.ramp
    ended = []

    async def one(number: int) -> None:
        stream = Stream(number, options, measured, steady)
        try:
            await loop.create_connection(lambda: stream, "127.0.0.1", options.port)
        except OSError as error:
            measured.errors.append(repr(error))
            return
        await stream.ended

    for number in range(options.streams):
        delay = began + options.ramp * number / options.streams - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        ended.append(loop.create_task(one(number)))
    now = time.monotonic() * 1e6
    measured.window = now, now + options.window * 1e6
    print("steady", flush=True)
    limit = options.chunks / CHUNKS_PER_SECOND + 30
    _, late = await asyncio.wait(ended, timeout=limit)
    measured.errors += [f"a stream did not end within {limit:g} s"] * len(late)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("streams", type=int)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--ramp", type=float, default=1.0, help="seconds over which the streams start")
    parser.add_argument("--window", type=float, default=6.5, help="seconds to measure, after all streams have started")
    parser.add_argument("--words", type=int, default=60, help="sentences in the prompt")
    parser.add_argument("--path", default="/v1/chat/completions")
    parser.add_argument("--model", default="canned")
    options = parser.parse_args()
    measured = uvloop.run(run(options))
    print(
        json.dumps(
            {
                "first": _percentiles(measured.first),
                "chunk": _percentiles(measured.chunks),
                "done": measured.done,
                "in_window": measured.in_window,
                "errors": len(measured.errors),
                "example": measured.errors[:1],
            }
        )
    )


def _percentiles(values: list[int]) -> list[float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(values)
    places = [min(len(ordered) - 1, int(len(ordered) * share)) for share in (0.5, 0.99)]
    return [ordered[place] / 1000 for place in places] if ordered else []


if __name__ == "__main__":
    main()
