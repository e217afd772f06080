# SPDX-License-Identifier: Apache-2.0
"""The bridge to Python: whatever a plugin does costs one query at most, and each query gets exactly one end."""

import logging
import socket
import time

import pytest

from fastdns.numbers import TXT, A
from fastdns.plugin import Reply
from fastdns.testing import Answer, Worker, exchange, question
from tests.probes import installed

COREFILE = """
test:53 probed:53 {
    errors
    probe
    whoami
}
eager.test:53 {
    errors
    eager
    whoami
}
both.test:53 {
    errors
    eager
    probe
    whoami
}
plain.test:53 {
    plain
    whoami
}
look.test:53 {
    probe
}
inner.test:53 {
    probe
}
"""
KINDS = ["test", "eager.test"]


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("site")), Worker(COREFILE) as worker:
        yield worker


def txt(got: Answer) -> list[str]:
    return [part.decode() for record in got.message.rr for part in record.rdata.data]


def panics(worker: Worker) -> int:
    return worker.counter("coredns_panics_total")


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("zone", KINDS)
def test_an_answer(worker, zone, proto):
    got = worker.ask(f"Ok.{zone}", A, proto)
    assert (got.rcode, got.flags, got.answer) == (0, {"qr", "aa", "rd"}, [f"Ok.{zone}. 60 IN A 192.0.2.1"])


@pytest.mark.parametrize("zone", KINDS)
@pytest.mark.parametrize(("word", "rcode"), [("error", 5), ("nothing", 2), ("nonsense", 2), ("refused", 5),
                                             ("unpackable", 2), ("toolarge", 2), ("innererror", 2)])
def test_failures_cost_one_error_reply(worker, zone, word, rcode):
    got = worker.ask(f"{word}.{zone}", A)
    assert (got.rcode, got.answer, got.flags) == (rcode, [], {"qr", "rd"}) or word == "innererror"
    assert worker.ask(f"ok.{zone}", A).rcode == 0


@pytest.mark.parametrize("zone", KINDS)
@pytest.mark.parametrize("word", ["silent", "unwritten"])
def test_silence(worker, zone, word):
    with pytest.raises(TimeoutError):
        worker.ask(f"{word}.{zone}", A, seconds=0.2)
    assert worker.ask(f"ok.{zone}", A).rcode == 0


@pytest.mark.parametrize("zone", KINDS)
@pytest.mark.parametrize(("word", "cause"), [("panic", "ValueError: out of order"), ("leave", "SystemExit: 3"),
                                             ("unknown", "KeyError: 'unknown'")])
def test_a_panic_costs_one_servfail(worker, zone, word, cause, caplog):
    before = panics(worker)
    with caplog.at_level(logging.ERROR):
        assert worker.ask(f"{word}.{zone}", A).rcode == 2
    assert panics(worker) == before + 1
    name = "eager" if zone == "eager.test" else "probe"
    assert f'Recovered from panic in server: "dns://:53" plugin/{name}: {cause} (fastdns_probes.py:' in caplog.text
    assert worker.ask(f"ok.{zone}", A).rcode == 0


@pytest.mark.parametrize("zone", KINDS)
def test_a_deadline(worker, zone):
    before = worker.counter("fastdns_python_deadline_total")
    start = time.monotonic()
    assert worker.ask(f"hang.{zone}", A).rcode == 2
    assert 0.5 < time.monotonic() - start < 3
    assert worker.counter("fastdns_python_deadline_total") == before + 1
    assert worker.engine.in_flight == 0 and worker.engine.bridge.in_python == 0


def test_a_cancelled_task_costs_one_servfail(worker):
    assert worker.ask("cancelled.test", A).rcode == 2
    assert worker.ask("ok.test", A).rcode == 0


def test_ordinary_libraries_work_in_a_task(worker):
    assert txt(worker.ask("libraries.test", TXT)) == ["0:True", "1:True", "2:True", "timeout"]
    # The variable was set in the context of another query's task.
    assert txt(worker.ask("sleep.test", TXT)) == ["clean"]


@pytest.mark.parametrize("zone", KINDS)
@pytest.mark.parametrize(("word", "said"), [("sleep", "clean"), ("yielding", "yielded")])
def test_what_waits_for_something_else_goes_on(worker, zone, word, said):
    assert txt(worker.ask(f"{word}.{zone}", TXT)) == [said]


@pytest.mark.parametrize("zone", KINDS)
def test_next_may_be_returned_unchanged_or_looked_into(worker, zone):
    direct = worker.ask(f"unchanged.{zone}", A)
    assert direct.flags == {"qr", "aa", "rd"} and direct.additional[0] == f"unchanged.{zone}. 0 IN A 127.0.0.1"
    assert txt(worker.ask(f"through.{zone}", TXT)) == ["next said 0 (0, 0, 2) 1"]
    doubled = worker.ask(f"rewrapped.{zone}", A)
    assert (doubled.answer, len(doubled.additional)) == ([], 2)


@pytest.mark.parametrize("zone", KINDS)
def test_a_replaced_query(worker, zone):
    assert txt(worker.ask(f"renamed.{zone}", TXT)) == ["ok.other.test.", "Ok2.other.test.", "16"]


def test_an_inner_error_reaches_the_outer_plugin(worker):
    assert txt(worker.ask("caught.both.test", TXT)) == ["5 no luck today"]
    assert worker.ask("innererror.both.test", TXT).rcode == 5


def test_an_inner_panic_is_counted_once(worker):
    before = panics(worker)
    assert worker.ask("inner.both.test", TXT).rcode == 2
    assert panics(worker) == before + 1


@pytest.mark.parametrize("zone", KINDS)
def test_lookups_go_through_the_whole_server(worker, zone):
    assert txt(worker.ask(f"lookup.{zone}", TXT)) == ["0 (1, 0, 0) 5"]
    assert txt(worker.ask(f"gathered.{zone}", TXT)) == ["20"]


def test_lookups_nest_at_most_eight_deep(worker):
    assert txt(worker.ask("deep.test", TXT)) == ["depth 9"]


@pytest.mark.parametrize("zone", KINDS)
def test_a_message_object_is_a_result(worker, zone):
    got = worker.ask(f"message.{zone}", A)
    assert (got.answer, got.flags) == ([f"message.{zone}. 9 IN A 192.0.2.9"], {"qr", "aa", "rd"})


def test_records_are_added_to_replies_made_elsewhere(worker):
    said, bare, found, empty, owner = txt(worker.ask("appended.test", TXT))
    assert said.split("; ") == [
        "without a question a record needs a name", "sections are written in the order answer, authority, additional"]
    assert bare == f"(1, 0, 0) {12 + 12 + 14}"
    name = 12  # octets of Other.test.
    whoami = (name + 14) + (name + 5 + 10 + 7)
    assert found == f"(0, 0, 3) {12 + name + 4 + whoami + name + 10 + 5}"
    name = 15  # octets of appended.test.
    assert empty == f"(1, 1, 0) {12 + name + 4 + name + 14 + name + 12}" and owner == "appended.test."


@pytest.mark.parametrize("zone", KINDS)
def test_a_large_reply(worker, zone):
    assert len(worker.ask(f"large.{zone}", TXT, "tcp").answer) == 200
    got = worker.ask(f"large.{zone}", TXT, "udp", bufsize=4096)
    assert "tc" in got.flags and 0 < len(got.answer) < 20


@pytest.mark.parametrize("zone", KINDS)
def test_a_query_that_outlives_its_answer(worker, zone):
    worker.ask(f"keep.{zone}", TXT)
    for n in range(50):
        worker.ask(f"ok.n{n}.{zone}", A)
    over = ["the query is over"] * 2
    known = [f"keep.{zone}.", "derived.test.", "127.0.0.1", "True", "True"]
    assert txt(worker.ask(f"kept.{zone}", TXT)) == known + over


@pytest.mark.parametrize("zone", KINDS)
def test_what_a_plugin_sees(worker, zone):
    wire = question(f"Facts.{zone}", TXT, do=True, bufsize=1400, cd=True)
    got = Answer.of(exchange(wire, worker.port))
    assert txt(got) == [
        f"facts.{zone}.", f"Facts.{zone}.", "16", "1", "127.0.0.1", "udp", "dns://:53", f"{zone}.", "True", "True",
        "1400", "True", "True", "True", "0", "4", "127.0.0.1", "yes", "True", "id",
    ]
    plain = txt(worker.ask(f"facts.{zone}", TXT, "tcp"))
    assert plain[9:12] == ["False", "65535", "False"]


def test_a_plain_function_runs_in_a_thread(worker):
    assert txt(worker.ask("a.plain.test", TXT)) == ["thread"]
    assert txt(worker.ask("through.plain.test", TXT)) == ["thread 0"]
    assert txt(worker.ask("lookup.plain.test", TXT)) == ["(1, 0, 0)"]
    assert worker.ask("panic.plain.test", TXT).rcode == 2
    assert worker.ask("block.plain.test", TXT).rcode == 2


def test_names_at_their_limits(worker):
    name = ".".join(["ok", *["a" * 63] * 3, "b" * 50, "test"]) + "."
    assert worker.ask(name, A).answer == [f"{name} 60 IN A 192.0.2.1"]


def test_nothing_is_left_behind(worker):
    """After thousands of queries of all kinds every slot is free again."""
    words = ["ok", "error", "nothing", "yielding", "unchanged", "lookup", "silent", "panic"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        sock.connect(("127.0.0.1", worker.port))
        expected = answered = 0
        for n in range(3000):
            word = words[n % len(words)]
            sock.send(question(f"{word}.n{n}.{KINDS[n % 2]}", TXT, id=n))
            expected += word != "silent"
            if n % 50 == 49:
                while answered < expected:
                    sock.recv(2048)
                    answered += 1
    assert answered == expected
    assert worker.engine.in_flight == 0 and worker.engine.bridge.in_python == 0


def bare_reply() -> Reply:
    return Reply(b"\0\0\x84\0\0\1\0\0\0\0\0\0\1a\4Test\0\0\1\0\1")


def test_records_in_wire_form():
    reply = bare_reply()
    reply.add(b"\1a\4Test\0", A, 1, 60, bytes(4)).add(b"\1a\4test\0", A, 3, 0xFFFFFFFF, bytes(4))
    reply.add(b"\0", TXT, 1, 0, b"\0", 2)
    owners = [(rr.rname.label, rr.rclass, rr.ttl) for rr in [*reply.message.rr, *reply.message.ar]]
    assert owners == [((b"a", b"Test"), 1, 60), ((b"a", b"test"), 3, 0xFFFFFFFF), ((), 1, 0)]
    # The question's own name is a pointer to it, in the same letters alone.
    assert len(reply.wire) == 24 + 16 + 22 + 12 and reply.counts == (2, 0, 1) and reply.size == 24 + 22 + 22 + 12


@pytest.mark.parametrize(
    "owner",
    [b"", b"\1", b"\1a", b"\1a\0\0", b"\xc0\x0c", b"\1a\xc0\x0c", b"\x40" + b"a" * 64 + b"\0",
     (b"\x3f" + b"a" * 63) * 4 + b"\0"],
)
def test_an_owner_that_is_no_name(owner):
    reply = bare_reply()
    before = reply.wire
    with pytest.raises(ValueError):
        reply.add(owner, A, 1, 60, bytes(4))
    assert reply.wire == before


def test_records_in_wire_form_have_an_order_and_an_end():
    reply = bare_reply().add(b"\0", A, 1, 60, bytes(4), 2)
    for wrong in ((b"\0", A, 1, 60, bytes(4), 1), (b"\0", A, 1, 60, bytes(4), 3), (b"\0", A, 1, 60, bytes(65536), 2)):
        with pytest.raises(ValueError):
            reply.add(*wrong)
    with pytest.raises(ValueError):
        for _ in range(70):
            reply.add(b"\0", TXT, 1, 60, bytes(1000), 2)
    assert Answer.of(reply.wire).rcode == 0
