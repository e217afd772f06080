# SPDX-License-Identifier: Apache-2.0
"""One HTTP request to a collector. h11 judges the octets; a connection for each request, all of it within a time."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

import h11

if TYPE_CHECKING:
    import ssl

SECONDS = 5.0
TARGET = "/?#[]@!$&'()*+,;=:%-._~"  # what stays as it is in a request's target
REPLY_MAX = 65536  # octets of a reply's body that are read


class Failed(Exception):
    """There is no answer; the text says why, as Go words it."""


def _why(error: BaseException, host: str, port: int) -> str:
    if isinstance(error, TimeoutError):
        return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: {'no such host' if error.errno == socket.EAI_NONAME else error.strerror}"
    if isinstance(error, ConnectionError) and error.errno:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return f"dial tcp {where}: connect: {os.strerror(error.errno).lower()}"
    return str(error) or type(error).__name__


async def post(url: str, fields: Iterable[tuple[str, str]], body: bytes, seconds: float = SECONDS,
               tls: ssl.SSLContext | None = None) -> int:
    """Sends `body`; the status of the answer. `tls`: what `verified` gave, for many requests over https. Failed."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            raise Failed(f'Post "{url}": unsupported protocol scheme "{parts.scheme}"')
        if not host:
            raise Failed(f'Post "{url}": http: no Host in request URL')
    except ValueError as error:
        raise Failed(f'parse "{url}": {error}') from None
    head = [("Host", parts.netloc.rpartition("@")[2]), *fields, ("Content-Length", str(len(body))),
            ("Connection", "close")]
    if parts.username is not None:
        word = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        head.append(("Authorization", "Basic " + base64.b64encode(word.encode()).decode()))
    try:
        # As Go does it: what cannot stand in a request line is escaped, what is escaped already stays.
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=TARGET)
        request = h11.Request(method="POST", target=target, headers=head)
        if parts.scheme == "https" and tls is None:
            tls = await asyncio.to_thread(verified)
        async with asyncio.timeout(seconds):  # and not wait_for, see reporter.py
            return await _exchange(host, port, tls, request, body)
    except (OSError, TimeoutError, ValueError, h11.ProtocolError) as error:
        raise Failed(f'Post "{url}": {_why(error, host, port)}') from None


def verified() -> ssl.SSLContext:
    """What checks the collector's certificate. Reading the authorities takes tens of milliseconds."""
    import ssl  # a few MiB: only who needs it pays

    return ssl.create_default_context()


async def _exchange(host: str, port: int, tls: ssl.SSLContext | None, request: h11.Request, body: bytes) -> int:
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    try:
        http = h11.Connection(h11.CLIENT)
        for octets in (http.send(request), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())):
            writer.write(octets or b"")
        await writer.drain()
        status = read = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(16384))
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data) and read <= REPLY_MAX:
                read += len(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return status
    finally:
        writer.close()
