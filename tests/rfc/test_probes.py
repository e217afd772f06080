# SPDX-License-Identifier: Apache-2.0
"""Every hostile or odd query of probes.py, over real sockets: UDP, TCP, and TCP after the same query over UDP.

A block with whoami answers every name with NOERROR, so what differs from that is the ingress's doing. After each
probe the server must still answer an ordinary query: nothing that a client sends costs more than its own query.
"""

import socket
from collections.abc import Iterator

import pytest

from fastdns.testing import Server
from tests.rfc.probes import NAME, PROBES, Probe, Verdict, query

SILENCE_SECONDS = 0.25
COREFILE = """
. {
    whoami
}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(COREFILE) as running:
        yield running


def over_udp(port: int, wire: bytes, expect: bool) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.connect(("127.0.0.1", port))
        c.settimeout(5 if expect else SILENCE_SECONDS)
        c.send(wire)
        try:
            return c.recv(65535)
        except TimeoutError:
            return None


def over_tcp(port: int, wire: bytes, expect: bool) -> bytes | None:
    """The reply to `wire`; a second, ordinary query on the connection shows where the silence ends."""
    follow = b"\x43\x21" + query()[2:]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as c:
        for message in (wire, follow) if not expect else (wire,):
            c.sendall(len(message).to_bytes(2, "big") + message)
        length = int.from_bytes(exactly(c, 2), "big")
        reply = exactly(c, length)
    return None if reply[:2] == follow[:2] else reply


def exactly(c: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        more = c.recv(n - len(data))
        assert more, "the server closed the connection"
        data += more
    return data


def options_of(reply: bytes) -> tuple[bool, tuple[int, ...]]:
    """Whether an OPT ends the reply, and its option codes. whoami's own records have no OPT among them."""
    at = 12
    counts = [int.from_bytes(reply[i : i + 2], "big") for i in (4, 6, 8, 10)]
    for _ in range(counts[0]):
        at = skip_name(reply, at) + 4
    found, codes = False, []
    for _ in range(sum(counts[1:])):
        owner = at
        at = skip_name(reply, at)
        rtype, rdlen = int.from_bytes(reply[at : at + 2], "big"), int.from_bytes(reply[at + 8 : at + 10], "big")
        rdata, at = reply[at + 10 : at + 10 + rdlen], at + 10 + rdlen
        if rtype == 41:
            found = True
            assert reply[owner] == 0
            while rdata:
                size = int.from_bytes(rdata[2:4], "big")
                codes.append(int.from_bytes(rdata[:2], "big"))
                rdata = rdata[4 + size :]
    assert at == len(reply)
    return found, tuple(codes)


def skip_name(reply: bytes, at: int) -> int:
    while reply[at]:
        if reply[at] & 0xC0:
            return at + 2
        at += reply[at] + 1
    return at + 1


def check(reply: bytes | None, probe: Probe, verdict: Verdict, echoed: tuple[int, ...]) -> None:
    if verdict.rcode is None:
        assert reply is None
        return
    assert reply is not None
    assert reply[:2] == probe.wire[:2]
    assert reply[2] & 0x80
    assert not reply[3] & 0x40, "Z is cleared"
    opt, codes = options_of(reply)
    assert (reply[3] & 15) == verdict.rcode & 15
    assert opt == verdict.opt
    assert codes == echoed
    assert reply[4:6] == (b"\0\1" if verdict.question else b"\0\0")
    if verdict.rcode:
        room = max(len(probe.wire), 12) + (11 if verdict.opt else 0)
        assert len(reply) <= room, "an error is no longer than its query"


@pytest.mark.parametrize("probe", PROBES, ids=[f"RFC{p.rfc}-{p.name}" for p in PROBES])
def test_probe_over_udp(server: Server, probe: Probe) -> None:
    reply = over_udp(server.port, probe.wire, probe.udp.rcode is not None)
    check(reply, probe, probe.udp, probe.echoed[0])


@pytest.mark.parametrize("probe", PROBES, ids=[f"RFC{p.rfc}-{p.name}" for p in PROBES])
def test_probe_over_tcp(server: Server, probe: Probe) -> None:
    reply = over_tcp(server.port, probe.wire, probe.tcp.rcode is not None)
    check(reply, probe, probe.tcp, probe.echoed[1])


def test_the_server_still_answers(server: Server) -> None:
    reply = over_udp(server.port, query(), True)
    assert reply is not None
    assert reply[12 : 12 + len(NAME)] == NAME


@pytest.mark.parametrize("opcode", range(16))
@pytest.mark.parametrize("questions", [0, 1, 2, 3])
def test_no_response_is_ever_answered(server: Server, opcode: int, questions: int) -> None:
    # A reply that is answered makes two servers talk for ever (the loop class of CVE-2024-2169).
    flags = 0x8000 | opcode << 11
    wire = b"\x12\x34" + flags.to_bytes(2, "big") + questions.to_bytes(2, "big") + bytes(6)
    wire += (NAME + b"\0\1\0\1") * questions
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        c.connect(("127.0.0.1", server.port))
        c.settimeout(5)
        for rcode in range(16):
            c.send(wire[:3] + bytes([rcode]) + wire[4:])
        c.send(query())
        assert c.recv(512)[:2] == query()[:2]
        c.settimeout(0.02)
        with pytest.raises(TimeoutError):
            c.recv(512)
