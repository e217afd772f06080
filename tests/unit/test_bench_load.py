# SPDX-License-Identifier: Apache-2.0
"""The load generator against a server that loses, delays, garbles and forges: each fault is counted, exactly once."""

import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from fastdns.bench._load import TRANSPORTS, Load, Questions
from fastdns.bench.floor import bound
from fastdns.bench.questions import query, read
from fastdns.ports import free_port
from tests.machine import may, needs, needs_ipv6
from tests.planted import REFUSED, SERVFAIL, Planted

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 0.8
"""Seconds; an answer to `late-...` takes half as long again."""

# What is asked, in this order. Late ones come first, lost ones last: the run goes on until a late answer is there.
PLAN = {
    "late": 2,
    "id": 2,
    "name": 1,
    "type": 2,
    "fine": 9,
    "servfail": 3,
    "refused": 2,
    "headless": 1,
    "truncated": 4,
    "twice": 3,
    "upper": 2,
    "short": 1,
    "empty": 1,
    "echo": 1,
    "garbage": 2,
    "huge": 2,
    "last": 1,
    "lost": 6,
}
EXPECTED = {
    "sent": sum(PLAN.values()),
    "late": PLAN["late"],
    "wrong_id": PLAN["id"] + PLAN["garbage"],
    "wrong_question": PLAN["name"] + PLAN["type"] + PLAN["headless"],
    "wrong_rcode": PLAN["servfail"] + PLAN["refused"],
    "truncated": PLAN["truncated"],
    "duplicates": PLAN["twice"],
    "malformed": PLAN["short"] + PLAN["empty"] + PLAN["echo"],
    "lost": sum(PLAN[k] for k in ("late", "id", "name", "type", "headless", "short", "empty", "echo", "lost")),
    "send_errors": 0,
    "unsent": 0,
    "reconnects": 0,
}
ANSWERED = ("fine", "servfail", "refused", "truncated", "twice", "upper", "garbage", "huge", "last")


def planned(plan: dict[str, int]) -> Questions:
    names = [f"{kind}-{number}.example.org" for kind, count in plan.items() for number in range(count)]
    return Questions([query(name, 1) for name in names], [0] * len(names))


def fine(count: int) -> Questions:
    return planned({"fine": count})


def once(server: Planted, questions: Questions, **options) -> Load:
    """A load that asks each question once."""
    return Load("127.0.0.1", server.port, questions, loop=False, **options)


@pytest.mark.parametrize("protocol", TRANSPORTS)
@pytest.mark.parametrize("rate", [0, 30], ids=["closed", "open"])
def test_every_fault_is_counted_once(protocol, rate):
    with Planted(late=1.5 * TIMEOUT) as server:
        load = once(server, planned(PLAN), protocol=protocol, sockets=2, in_flight=2, rate=rate, timeout=TIMEOUT)
        tally = load.run(60)
    assert {name: getattr(tally, name) for name in EXPECTED} == EXPECTED
    assert tally.completed == tally.latency.count == sum(PLAN[kind] for kind in ANSWERED)
    assert tally.sent == tally.completed + tally.lost
    codes = {SERVFAIL: PLAN["servfail"], REFUSED: PLAN["refused"]}
    assert tally.rcodes == {0: tally.completed - sum(codes.values()), **codes}
    assert load.next_index == len(load.questions) == len(server.asked)
    assert tally.octets_received > 120_000
    assert tally.octets_sent == sum(len(wire) for wire in server.asked)


@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_a_late_answer_is_known_while_other_queries_come_and_go(protocol):
    # After the first timeout 100 queries pass through the 16 places of the socket: those of lost queries rest.
    plan = {"late": 1, "lost-a": 3, "fine": 100, "lost-b": 8}
    with Planted(late=1.5 * TIMEOUT) as server:
        load = once(server, planned(plan), protocol=protocol, sockets=1, in_flight=4, timeout=TIMEOUT)
        tally = load.run(60)
    assert (tally.completed, tally.lost, tally.late, tally.wrong_id) == (100, 12, 1, 0)


@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_a_very_late_answer_is_known_until_its_place_is_taken(protocol):
    with Planted(late=3.5 * 0.3) as server:
        plan = planned({"late": 1, "lost": 5})
        load = once(server, plan, protocol=protocol, sockets=1, in_flight=1, timeout=0.3)
        tally = load.run(60)
    assert (tally.lost, tally.late, tally.wrong_id, tally.duplicates) == (6, 1, 0, 0)


@needs("dnsperf")
def test_dnsperf_counts_the_same(tmp_path):
    plan = {"fine": 40, "servfail": 7, "truncated": 3, "lost": 4}
    names = [f"{kind}-{number}.example.org A" for kind, count in plan.items() for number in range(count)]
    path = tmp_path / "queries"
    path.write_text("\n".join(names))
    with Planted() as server:
        argv = ["dnsperf", "-s", "127.0.0.1", "-p", str(server.port), "-d", str(path), "-n", "1", "-t", "1"]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout
        load = once(server, read(path), sockets=1, in_flight=100, timeout=1.0)
        tally = load.run(60)

    def number(label: str) -> int:
        return int(re.search(rf"{label}:? +(\d+)", said)[1])

    assert (tally.sent, tally.completed, tally.lost) == (54, 50, 4)
    assert [number(f"Queries {what}") for what in ("sent", "completed", "lost")] == [54, 50, 4]
    assert tally.rcodes == {0: number("NOERROR"), 2: number("SERVFAIL")}


@needs("dnsperf")
@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_dnsperf_answers_as_many_at_the_same_rate(protocol, tmp_path):
    path = tmp_path / "queries"
    path.write_text("fine-1.example.org A\nfine-2.example.org AAAA\n")
    with Planted() as server:
        argv = ["dnsperf", "-s", "127.0.0.1", "-p", str(server.port), "-d", str(path), "-l", "2", "-Q", "400"]
        said = subprocess.run([*argv, "-m", protocol], capture_output=True, text=True, timeout=60).stdout
        load = Load("127.0.0.1", server.port, read(path), protocol=protocol, sockets=1, rate=400)
        tally = load.run(2)
    theirs = int(re.search(r"Queries completed: +(\d+)", said)[1])
    assert tally.completed == 800
    assert theirs == pytest.approx(tally.completed, rel=0.1)


def test_a_generator_that_never_sleeps_counts_the_same():
    with Planted() as server:
        for rate in (0, 500):
            load = once(server, fine(200), sockets=2, rate=rate, spin=True)
            tally = load.run(60)
            assert (tally.completed, tally.lost, tally.wrong) == (200, 0, 0)


@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_an_id_comes_again_only_after_all_others(protocol):
    with Planted() as server:
        load = once(server, fine(3000), protocol=protocol, sockets=1, in_flight=8)
        assert load.run(60).completed == 3000
    assert len({wire[:2] for wire in server.asked}) == 3000


@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_each_question_is_asked_in_order_and_again(protocol):
    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(10), protocol=protocol, sockets=1, in_flight=1, first=7)
        tally = load.run(60, lambda tally: tally.completed < 25, interval=0.001)
        assert tally.completed >= 25 and tally.lost == 0
        assert load.next_index == (7 + tally.sent) % 10
        order = [wire[12:] for wire in server.asked]
        assert order == [load.questions.wire((7 + i) % 10)[12:] for i in range(tally.sent)]
        again = load.run(60, lambda tally: False, interval=0.001)
        assert server.asked[tally.sent][12:] == load.questions.wire((7 + tally.sent) % 10)[12:]
        assert again.completed == again.sent > 0


def test_questions_that_ran_out_ask_nothing():
    with Planted() as server:
        load = once(server, fine(5), first=5)
        tally = load.run(60)
        assert (tally.sent, tally.completed, tally.seconds) == (0, 0, 0.0)
        assert server.asked == []


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
@pytest.mark.parametrize("protocol", TRANSPORTS)
def test_a_fixed_rate_sends_so_many(address, protocol):
    with Planted(address=address) as server:
        load = Load(address, server.port, fine(7), protocol=protocol, sockets=3, rate=1000)
        tally = load.run(0.5)
        assert (tally.sent, tally.completed, tally.unsent) == (500, 500, 0)
        assert Counter(wire[12:] for wire in server.asked).most_common()[0][1] == 72
        assert load.next_index == 500 % 7


def test_a_stall_is_charged_to_each_query_that_should_have_left():
    # The server stands still for half a second: at 200 queries per second 100 of them are late by up to that.
    class Stalling(Planted):
        def handle(self, wire, send):
            if len(self.asked) == 20:
                time.sleep(0.5)
            super().handle(wire, send)

    slow = {}
    for rate in (0, 200):
        with Stalling() as server:
            load = once(server, fine(120), sockets=1, in_flight=1, rate=rate, timeout=5)
            tally = load.run(60)
        assert tally.completed == 120
        slow[rate] = sum(count for low, _, count in tally.latency.buckets() if low > 0.25)
    assert slow[0] >= 1
    assert slow[200] >= 45


def test_segmented_queries_of_different_sizes_all_arrive():
    names = [f"{'x' * (1 + i % 5)}-{i}.example.org" for i in range(500)]
    questions = Questions([query(name, 1) for name in names])
    with Planted() as server:
        load = once(server, questions, sockets=2, in_flight=200, segment=True)
        tally = load.run(60)
        assert load.segmenting
    assert (tally.sent, tally.completed, tally.wrong, tally.lost) == (500, 500, 0, 0)
    assert sorted(wire[12:] for wire in server.asked) == sorted(questions.wire(i)[12:] for i in range(500))


NARROW = """
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "mtu", "68", "up"], check=True)
from fastdns.bench._load import Load, Questions
from fastdns.bench.questions import query
from tests.planted import Planted
questions = Questions([query(f"fine-{number:030}.example.org", 1) for number in range(100)], [0] * 100)
with Planted() as server:
    load = Load("127.0.0.1", server.port, questions, sockets=2, in_flight=20, segment=True, loop=False)
    tally = load.run(60)
print(load.segmenting, tally.sent, tally.completed, tally.lost, tally.wrong, tally.send_errors)
"""


@pytest.mark.root
@may("sys_admin", "net_admin")
@needs("unshare", "ip")
def test_a_path_that_takes_no_segments_gets_single_queries():
    # A segment larger than the path's datagrams is refused by the kernel; single queries are cut by IP.
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    argv = ["unshare", "--net", sys.executable, "-c", NARROW]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.stdout.split() == ["False", "100", "100", "0", "0", "0"], done.stderr


def test_more_in_flight_than_one_batch():
    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(2000), sockets=1, in_flight=300, loop=False)
        tally = load.run(60)
    assert (tally.sent, tally.completed, tally.duplicates) == (2000, 2000, 0)


def test_nobody_listens_on_udp():
    tally = Load("127.0.0.1", free_port(), fine(10), sockets=2, in_flight=2, timeout=0.05).run(0.2)
    assert tally.completed == 0 and tally.receive_errors > 0
    assert tally.sent == tally.lost


def test_nobody_listens_on_tcp():
    tally = Load("127.0.0.1", free_port(), fine(10), protocol="tcp", sockets=2, timeout=0.05).run(0.4)
    assert (tally.sent, tally.completed, tally.reconnects) == (0, 0, 0)
    assert 2 <= tally.connect_errors <= 10


def test_a_fixed_rate_that_cannot_leave_is_counted():
    tally = Load("127.0.0.1", free_port(), fine(10), protocol="tcp", sockets=2, rate=1000, timeout=0.05).run(0.2)
    assert (tally.sent, tally.unsent) == (0, 200)


def test_a_server_that_is_gone_exhausts_no_more_than_the_ids():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        tally = Load("127.0.0.1", port, fine(10), sockets=1, rate=200_000, timeout=1.0).run(0.6)
    assert tally.sent == tally.lost == 65536
    assert tally.sent + tally.unsent == 120_000


def test_connections_that_end_are_made_again():
    with Planted(per_connection=5) as server:
        load = Load("127.0.0.1", server.port, fine(30), protocol="tcp", sockets=1, in_flight=1, loop=False)
        tally = load.run(60)
    # Five answers, then the sixth query takes the connection with it.
    assert (tally.sent, tally.completed, tally.lost, tally.reconnects) == (30, 25, 5, 4)


def test_connections_that_answer_nothing_are_not_hammered():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=refuse)
        thread.start()
        load = Load("127.0.0.1", listener.getsockname()[1], fine(10), protocol="tcp", sockets=1, timeout=0.1)
        tally = load.run(0.5)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert tally.completed == 0 and 1 <= tally.reconnects <= 6
    assert tally.sent == tally.lost


def test_messages_in_pieces():
    with Planted(piecewise=True) as server:
        plan = {"fine": 50, "huge": 5, "short": 1, "truncated": 4}
        load = Load("127.0.0.1", server.port, planned(plan), protocol="tcp", sockets=2, in_flight=6, loop=False)
        tally = load.run(60)
    assert (tally.completed, tally.malformed, tally.lost, tally.truncated) == (59, 1, 1, 4)
    assert (tally.wrong_id, tally.wrong_question) == (0, 0)


def test_a_server_that_does_not_read_blocks_nothing_but_itself():
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)
        port = listener.getsockname()[1]
        load = Load("127.0.0.1", port, fine(10), protocol="tcp", sockets=1, in_flight=32768, timeout=0.3)
        tally = load.run(0.3)
    assert 100 < tally.sent == tally.lost
    assert tally.completed == 0


def test_many_connections_share_the_work():
    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(400), protocol="tcp", sockets=20, in_flight=4, loop=False)
        assert load.run(60).completed == 400
        assert len(server.connections) == 20


def test_a_tick_sees_the_run_grow():
    seen = []
    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(10), sockets=1, in_flight=1)
        tally = load.run(60, lambda tally: seen.append(tally) or len(seen) < 4, interval=0.02)
    counts = [one.completed for one in seen]
    assert counts == sorted(counts) and len(seen) == 4
    assert [one.latency.count for one in seen] == counts
    assert seen[-1].completed <= tally.completed


def test_a_tick_that_raises_ends_the_run_and_the_next_one_works():
    def fail(tally):
        raise ZeroDivisionError

    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(10), sockets=2)
        with pytest.raises(ZeroDivisionError):
            load.run(60, fail, interval=0.01)
        tally = load.run(60, lambda tally: tally.completed < 10, interval=0.01)
    assert tally.completed == tally.sent >= 10


def test_a_run_inside_a_run_is_refused():
    with Planted() as server:
        load = Load("127.0.0.1", server.port, fine(10), sockets=1)

        def inside(tally):
            with pytest.raises(RuntimeError, match="is running"):
                load.run(1)
            with pytest.raises(RuntimeError, match="is running"):
                load.close()
            return False

        load.run(60, inside, interval=0.01)
        load.close()
        assert load.run(60, lambda tally: False, interval=0.01).lost == 0


def test_a_signal_ends_the_run():
    class Enough(Exception):
        pass

    def handler(number, frame):
        raise Enough

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with Planted() as server:
            load = Load("127.0.0.1", server.port, fine(10), sockets=1)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Enough):
                load.run(60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": "smoke"},
        {"sockets": 0},
        {"sockets": 65537},
        {"in_flight": 0},
        {"in_flight": 40000},
        {"rate": -1},
        {"rate": float("nan")},
        {"timeout": 0},
        {"first": 11},
        {"first": -1},
        {"segment": True, "protocol": "tcp"},
        {"sockets": 60000, "in_flight": 30000},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Load("127.0.0.1", 53, fine(10), **wrong)


@pytest.mark.parametrize(("address", "port"), [("127.0.0.1", 0), ("127.0.0.1", 65536), ("nowhere", 53), ("::g", 53)])
def test_an_address_that_is_none_is_refused(address, port):
    with pytest.raises(ValueError, match=str(port)):
        Load(address, port, fine(1))


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 1e9])
def test_a_run_has_a_length(seconds):
    with pytest.raises(ValueError, match="seconds"):
        Load("127.0.0.1", free_port(), fine(1)).run(seconds)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        query("a.example.org", 1)[:16],
        query("a.example.org", 1)[:-1],
        b"\0\0\x81" + query("a.example.org", 1)[3:],
        query("a.example.org", 1)[:4] + b"\0\2" + query("a.example.org", 1)[6:],
        query("a.example.org", 1)[:12] + b"\xc0\x0c\0\1\0\1",
        query("a.example.org", 1)[:12] + b"\x3f" * 70,
        query("a.example.org", 1) + bytes(600),
    ],
)
def test_what_is_no_query_is_refused(wire):
    good = query("www.example.org", 1)
    with pytest.raises(ValueError, match="question 1: not a query"):
        Questions([good, wire])


def test_questions_say_what_they_hold():
    wires = [query("a.example.org", 1), query("bb.example.org", 28)]
    questions = Questions(wires, [0, -1])
    assert len(questions) == 2
    assert [questions.wire(i) for i in range(2)] == wires
    assert [questions.rcode(i) for i in range(2)] == [0, -1]
    assert Questions(wires).rcode(0) == -1
    for index in (-1, 2):
        with pytest.raises(IndexError):
            questions.wire(index)
        with pytest.raises(IndexError):
            questions.rcode(index)
    for rcodes in ([0], [0, 16], [0, -2]):
        with pytest.raises(ValueError, match="rcode"):
            Questions(wires, rcodes)
    with pytest.raises(ValueError, match="no question"):
        Questions([])


@pytest.mark.parametrize("segment", [False, True])
def test_the_floor_reflects(segment):
    from fastdns.bench._floor import reflect

    class Enough(Exception):
        pass

    sock = bound("127.0.0.1", 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    port = sock.getsockname()[1]
    tallies = []

    def load() -> None:
        try:
            tallies.append(Load("127.0.0.1", port, fine(5000), sockets=4, in_flight=64, segment=segment).run(0.3))
        finally:
            signal.pthread_kill(main, signal.SIGUSR1)

    def handler(number, frame):
        raise Enough

    main = threading.get_ident()
    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=load)
    try:
        with sock, pytest.raises(Enough):
            thread.start()
            reflect(sock, segment)
    finally:
        thread.join(10)
        signal.signal(signal.SIGUSR1, before)
    (tally,) = tallies
    assert tally.completed == tally.sent > 1000 and tally.wrong == tally.duplicates == 0
