# SPDX-License-Identifier: Apache-2.0
"""whoami: what it says of a client, over both transports, for any name and type."""

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, ANY, NS, TXT, A
from fastdns.plugins.whoami import Whoami
from fastdns.testing import Server, Worker
from tests.machine import needs_ipv6


@pytest.fixture(scope="module")
def worker():
    with Worker(". {\nwhoami\n}\n") as worker:
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("qtype", [A, AAAA, NS, TXT, ANY, 65280])
def test_every_type_gets_the_client(worker, proto, qtype):
    got = worker.ask("Who.Example.ORG", qtype, proto)
    assert (got.rcode, got.flags, got.answer, got.authority) == (0, {"qr", "aa", "rd"}, [], [])
    address, service = got.additional
    assert address == "Who.Example.ORG. 0 IN A 127.0.0.1"
    assert service.startswith(f"_{proto}.Who.Example.ORG. 0 IN SRV 0 0 ") and service.endswith(" .")
    assert int(service.split()[6]) > 1023


def test_the_port_is_the_clients(worker):
    import socket

    from fastdns.testing import Answer, question

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", worker.port))
        sock.send(question("a.", A))
        got = Answer.of(sock.recv(512))
        assert got.additional[1] == f"_udp.a. 0 IN SRV 0 0 {sock.getsockname()[1]} ."


def test_the_root(worker):
    assert [line.split()[0] for line in worker.ask(".", A).additional] == [".", "_udp."]


@pytest.mark.parametrize(("last", "records"), [(56, 2), (57, 1), (61, 1)])
def test_a_name_without_room_for_the_service_gets_the_address_alone(worker, last, records):
    name = ".".join(["a" * 63] * 3 + ["b" * last]) + "."
    assert len(worker.ask(name, A, bufsize=4096).additional) == records


def test_edns_comes_back(worker):
    got = worker.ask("a.", A, bufsize=1400, do=True, options=[(10, b"12345678")])
    edns = got.message.edns
    assert (edns.edns_len, edns.edns_do, [(o.code, o.data) for o in edns.rdata]) == (1400, 1, [(10, b"12345678")])


@needs_ipv6
def test_an_ipv6_client_gets_an_ipv6_address():
    with Server(". {\nbind ::1\nwhoami\n}\n", bind=False) as server:
        from fastdns.testing import Answer, exchange, question

        got = Answer.of(exchange(question("a.", A), server.port, address="::1"))
        assert got.additional[0] == "a. 0 IN AAAA ::1"


@pytest.mark.parametrize("text", ["whoami x", "whoami {\n}", "whoami\nwhoami x"])
def test_it_takes_no_arguments(text):
    with pytest.raises(ConfigError) as error:
        Whoami.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",)))
    assert str(error.value).startswith("plugin/whoami: ")
