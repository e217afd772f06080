# SPDX-License-Identifier: Apache-2.0
"""What log, prometheus and errors say of a query that a stage behind them replaced, and of a stream.

The expected values were read from CoreDNS 1.14.7 with `rewrite` (type, class, name, edns0) and `transfer` in the place
of the probe: type, class, size, DO and buffer size are those of what was asked last, the name is the client's; metrics
take type and DO from what was asked last and sizes from the client's query; errors names what was asked last.
"""

import re
import socket
import struct
import urllib.request

import pytest

from fastdns.numbers import ANY, TXT, A
from fastdns.testing import ADDRESS, Server, free_port, question, receive
from tests.probes import installed

AXFR = 252
FORMAT = "L {type} {class} {name} {proto} {size} {>id} {>opcode} {>do} {>bufsize} {rcode} {>rflags} {rsize}"
COREFILE = """
(all) {{
    multisocket 1
    prometheus 127.0.0.1:{port}
    errors
    log . "{format}"
}}
task.test {{
    import all
    loadbalance
    probe
    whoami
}}
eager.test {{
    import all
    eager
    whoami
}}
chaos.test {{
    import all
    probe
    whoami
    forward elsewhere.test 127.0.0.1:9
}}
both.test {{
    import all
    eager
    probe
    whoami
}}
mixed.test {{
    import all
    relay
    forward elsewhere.test 127.0.0.1:9
    eager
    probe
    whoami
}}
cached.test {{
    import all
    cache
    probe
    whoami
}}
through.test {{
    import all
    tag
    loadbalance
    cache
    relay
    probe
}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port = free_port()
    with installed(tmp_path_factory.mktemp("site")) as environ:
        with Server(COREFILE.format(port=port, format=FORMAT), environ=environ) as server:
            server.metrics = f"http://127.0.0.1:{port}/metrics"
            yield server


def metrics(server, zone):
    """Series of a zone that are not 0: {name and labels but server, view, zone: value}."""
    found = {}
    for line in urllib.request.urlopen(server.metrics, timeout=5).read().decode().splitlines():
        if f'zone="{zone}"' in line and line.startswith("coredns_dns_") and "_bucket" not in line:
            series, value = line.rsplit(" ", 1)
            labels = re.sub(r'(server|view|zone)="[^"]*",?', "", series).replace(",}", "}")
            found[labels.removeprefix("coredns_dns_")] = float(value)
    return found


def change(server, zone, ask):
    before = metrics(server, zone)
    ask()
    after = metrics(server, zone)
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def responses(counted, rcode):
    return [value for series, value in counted.items() if series.startswith("responses_total") and rcode in series]


def line_of(server, name):
    words = server.wait_for(f" {name} ").split(" L ")[1].split()
    return dict(zip(("type", "class", "name", "proto", "size", "id", "opcode", "do", "bufsize", "rcode", "rflags",
                     "rsize"), words, strict=True))


def octets(name, qtype=A, **options):
    return str(len(question(name, qtype, **options)))


CASES = [
    # word, type asked, options; then type, class, DO, buffer size over UDP, and the size of what was asked last
    ("type", ANY, {}, "AAAA", "IN", "false", "512", octets),
    ("type", ANY, {"do": True, "bufsize": 1400}, "AAAA", "IN", "true", "1400", lambda name: octets(name, bufsize=1)),
    ("name", A, {}, "A", "IN", "false", "512", lambda name: octets("ok.a-much-longer." + name)),
    ("do", A, {}, "A", "IN", "true", "1232", lambda name: octets(name, do=True)),
    ("nodo", A, {"do": True, "bufsize": 1400}, "A", "IN", "false", "800", lambda name: octets(name, bufsize=1)),
    ("options", A, {}, "A", "IN", "false", "4096", lambda name: octets(name, options=[(65518, b"hello-world")])),
    ("options", A, {"do": True, "bufsize": 1400}, "A", "IN", "true", "4096",
     lambda name: octets(name, options=[(65518, b"hello-world")])),
    # Another question is asked first, and then the client's own.
    ("back", A, {}, "A", "IN", "false", "512", octets),
    # Two are asked; the last one counts.
    ("last", A, {}, "TXT", "IN", "false", "512", lambda name: octets("ok." + name)),
]


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("zone", ["task.test", "eager.test"])
@pytest.mark.parametrize("number", range(len(CASES)))
def test_what_is_reported_of_a_replaced_query(server, zone, proto, number):
    word, qtype, options, kind, klass, do, bufsize, size = CASES[number]
    name = f"replaced.{word}.{proto}{number}.{zone}."
    counted = change(server, f"{zone}.", lambda: server.ask(name, qtype, proto, id=7, **options))
    line = line_of(server, name)
    assert (line["type"], line["class"], line["do"], line["size"]) == (kind, klass, do, size(name))
    assert line["bufsize"] == (bufsize if proto == "udp" else "65535")
    assert (line["id"], line["opcode"], line["rcode"], line["proto"]) == ("7", "0", "NOERROR", proto)
    assert counted[f'requests_total{{family="1",proto="{proto}",type="{kind}"}}'] == 1
    assert counted.get("do_requests_total{}", 0) == (do == "true")
    assert counted[f'request_size_bytes_sum{{proto="{proto}"}}'] == int(octets(name, qtype, **options))
    assert counted[f'response_size_bytes_sum{{proto="{proto}"}}'] == int(line["rsize"])


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_the_opt_of_a_replacement_is_not_the_clients(server, proto):
    assert server.ask("replaced.options.opt.task.test", A, proto).message.edns is None
    edns = server.ask("replaced.nodo.opt.task.test", A, proto, do=True, bufsize=1400).message.edns
    assert (edns.edns_len, edns.edns_do) == (1400, 1)


def test_a_replaced_class(server):
    server.ask("replaced.class.x.chaos.test", A, qclass=3)
    assert line_of(server, "replaced.class.x.chaos.test.")["class"] == "IN"


@pytest.mark.parametrize("zone", ["both.test", "mixed.test"])
def test_errors_names_what_was_asked_last(server, zone):
    name = f"replaced.error.x.{zone}."
    assert server.ask(name, A).rcode == 5
    assert server.wait_for(f"plugin/errors: 5 error.{name} TXT: no luck today")
    assert (line_of(server, name)["type"], line_of(server, name)["rcode"]) == ("TXT", "REFUSED")


def test_errors_names_what_was_asked_through_the_cache(server):
    assert server.ask("outer.error.x.through.test", A).rcode == 5
    assert server.wait_for("plugin/errors: 5 error.x.through.test. A: no luck today")


@pytest.mark.parametrize("zone", ["both.test", "mixed.test"])
def test_what_an_inner_plugin_asked_counts(server, zone):
    """eager asks for another name, and probe for another type; in mixed.test relay asks them, through forward."""
    name = f"replaced.nested.x.{zone}."
    counted = change(server, f"{zone}.", lambda: server.ask(name, A))
    line = line_of(server, name)
    assert (line["type"], line["size"]) == ("AAAA", octets("replaced.type." + name))
    assert counted['requests_total{family="1",proto="udp",type="AAAA"}'] == 1


def test_what_is_asked_behind_the_cache_is_not_seen_before_it(server):
    name = "replaced.type.x.cached.test."
    for _ in range(2):
        counted = change(server, "cached.test.", lambda: server.ask(name, TXT))
        assert counted['requests_total{family="1",proto="udp",type="TXT"}'] == 1
    assert line_of(server, name)["type"] == "TXT"


@pytest.mark.parametrize("zone", ["task.test", "eager.test", "through.test"])
def test_a_stream_is_one_line_and_one_count(server, zone):
    """As `transfer` is to CoreDNS: the rcode and flags of the last message, the octets of all."""
    name = f"stream.n300.{zone}."
    wire = question(name, AXFR)
    sizes = []

    def ask():
        with socket.create_connection((ADDRESS, server.port)) as sock:
            sock.sendall(struct.pack(">H", len(wire)) + wire)
            for _ in range(302):
                sizes.append(int.from_bytes(receive(sock, 2), "big"))
                receive(sock, sizes[-1])
            # The connection's next query shows that the first was counted.
            other = question(f"early.{zone}", A)
            sock.sendall(struct.pack(">H", len(other)) + other)
            receive(sock, int.from_bytes(receive(sock, 2), "big"))

    counted = change(server, f"{zone}.", ask)
    line = line_of(server, name)
    uncompressed = sum(sizes)
    owner = len(name) + 1
    uncompressed += 2 * (owner - 2)  # both SOA records point to the question's name
    assert (line["type"], line["rcode"], line["rflags"], line["proto"]) == ("AXFR", "NOERROR", "qr,aa,rd", "tcp")
    assert int(line["rsize"]) == uncompressed
    assert counted['requests_total{family="1",proto="tcp",type="AXFR"}'] == 1
    assert responses(counted, "NOERROR") == [1]


def test_a_stream_over_udp_is_logged_as_refused(server):
    name = "stream.n3.udp.task.test."
    assert server.ask(name, 251).rcode == 5
    assert (line_of(server, name)["rcode"], line_of(server, name)["rflags"]) == ("REFUSED", "qr,rd")


@pytest.mark.parametrize("zone", ["task.test", "through.test"])
def test_a_stream_that_breaks_off_is_an_error(server, zone):
    """CoreDNS: the line has the rcode of what was written, the metric the one that was returned."""
    name = f"midwayerror.n5.{zone}."
    wire = question(name, AXFR)

    def ask():
        with socket.create_connection((ADDRESS, server.port)) as sock:
            sock.sendall(struct.pack(">H", len(wire)) + wire)
            while sock.recv(65536):
                continue

    counted = change(server, f"{zone}.", ask)
    line = line_of(server, name)
    assert line["rcode"] == "NOERROR" and int(line["rsize"]) > 100
    assert responses(counted, "SERVFAIL") == [1]
    assert server.wait_for(f"plugin/errors: 2 {name} AXFR: no more of it")
