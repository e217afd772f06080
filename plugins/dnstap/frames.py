# SPDX-License-Identifier: Apache-2.0
"""Frame Streams, the sender's side: how a stream of dnstap begins and ends, and what a frame looks like on the wire.

Strategy: a data frame is its length and its octets. A control frame has the length 0 before its own length: READY (what
we send), ACCEPT (what the reader takes), START; at the end STOP, which the reader answers with FINISH. Each wait has a
time, and no length is believed beyond CONTROL_MOST.
"""

from __future__ import annotations

import asyncio
import struct

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
ACCEPT, START, STOP, READY, FINISH = range(1, 6)
FIELD_CONTENT_TYPE = 1
CONTROL_MOST = 512
TIMEOUT = 4.0


class FrameError(Exception):
    """The other side does not speak Frame Streams, or not about dnstap."""


def control(kind: int, content_type: bytes = b"") -> bytes:
    """A control frame."""
    field = struct.pack("!II", FIELD_CONTENT_TYPE, len(content_type)) + content_type if content_type else b""
    return struct.pack("!III", 0, 4 + len(field), kind) + field


def data(frame: bytes) -> bytes:
    """A data frame."""
    return struct.pack("!I", len(frame)) + frame


def fields(payload: bytes) -> tuple[int, list[bytes]]:
    """Kind and content types of a control frame's payload. FrameError."""
    if len(payload) < 4:
        raise FrameError("decoding error")
    (kind,) = struct.unpack_from("!I", payload)
    at, types = 4, list[bytes]()
    while at < len(payload):
        if len(payload) - at < 8:
            raise FrameError("decoding error")
        name, size = struct.unpack_from("!II", payload, at)
        at += 8
        if name != FIELD_CONTENT_TYPE or size > len(payload) - at:
            raise FrameError("decoding error")
        types.append(payload[at : at + size])
        at += size
    return kind, types


async def read_control(reader: asyncio.StreamReader, wanted: int) -> list[bytes]:
    """Reads a control frame of a kind; its content types. FrameError, OSError, EOFError."""
    escape, size = struct.unpack("!II", await reader.readexactly(8))
    if escape or not 4 <= size <= CONTROL_MOST:
        raise FrameError("decoding error")
    kind, types = fields(await reader.readexactly(size))
    if kind != wanted:
        raise FrameError("decoding error")
    return types


async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The handshake. FrameError, OSError, EOFError, TimeoutError."""
    async with asyncio.timeout(TIMEOUT):
        writer.write(control(READY, CONTENT_TYPE))
        types = await read_control(reader, ACCEPT)
        if types and CONTENT_TYPE not in types:
            raise FrameError("content type mismatch")
        writer.write(control(START, CONTENT_TYPE))
        await writer.drain()


async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says that no more is to come, and waits until the reader has it all. FrameError, OSError, EOFError."""
    writer.write(control(STOP))
    await read_control(reader, FINISH)
