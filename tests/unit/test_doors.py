# SPDX-License-Identifier: Apache-2.0
"""The web's listening sockets in the supervisor: opened by one template, given to the next, closed when unasked."""

from __future__ import annotations

import os
import socket

import pytest

from fastdns.server.doors import Doors
from fastdns.server.web import bind


def sent(address: str = "127.0.0.1:0") -> int:
    """A descriptor as it arrives from a template."""
    (sock,) = bind(address)
    return sock.detach()


def refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_what_one_template_opened_the_next_is_given() -> None:
    doors = Doors()
    assert doors.given(["a"]) == ([], [])
    assert doors.take([["a", 1], ["b", 2]], [sent(), sent(), sent()]) == ["a", "b"]
    counts, fds = doors.given(["b", "c", "b", "a"])
    assert counts == [["b", 2], ["a", 1]]
    assert fds == [sock.fileno() for address in "ba" for sock in doors.by_address[address]]
    doors.keep(())


def test_what_is_not_asked_for_is_closed() -> None:
    doors = Doors()
    doors.take([["a", 1], ["b", 1]], [sent(), sent()])
    ports = {address: socks[0].getsockname()[1] for address, socks in doors.by_address.items()}
    doors.keep(["b"])
    assert refused(ports["a"]) and not refused(ports["b"])
    doors.drop(["b", "never"])
    assert refused(ports["b"]) and doors.by_address == {}


def test_an_address_that_is_open_already_stays_as_it_is() -> None:
    doors = Doors()
    doors.take([["a", 1]], [sent()])
    kept, second = doors.by_address["a"], sent()
    assert doors.take([["a", 1]], [second]) == []
    assert doors.by_address["a"] is kept
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
    doors.keep(())


def test_a_message_that_does_not_fit_is_refused() -> None:
    doors = Doors()
    with pytest.raises(ValueError, match="do not fit"):
        doors.take([["a", 2]], [])
    assert doors.by_address == {}
