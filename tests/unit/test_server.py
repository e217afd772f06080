# SPDX-License-Identifier: Apache-2.0
"""The parts of the supervisor that need no process: messages, sockets, heartbeats, rows, block ids."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns.errors import StartError
from fastdns.server import boot, control, heartbeat, listen, reload
from fastdns.server.children import WORKER, Child, exit_text
from fastdns.server.heartbeat import PYTHON_STALE_TICKS, STALE_TICKS, Heartbeats
from fastdns.server.listen import Listeners
from fastdns.server.memory import BlockIds, Rows, cache_tables
from fastdns.server.niceness import aside
from fastdns.server.output import Output
from fastdns.testing import free_port
from tests.machine import may, needs_ipv6

# -- control


def ends() -> tuple[control.Channel, control.Channel]:
    ours, theirs = control.pair()
    return ours, control.Channel(theirs)


def test_messages_arrive_whole_and_in_order() -> None:
    a, b = ends()
    for number in range(5):
        a.send({"n": number, "text": "x" * number * 1000})
    assert [words["n"] for words, _ in b.receive()] == list(range(5))
    a.close()
    with pytest.raises(control.Closed):
        b.receive()
    b.close()


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 450])
def test_descriptors_come_with_their_message(count: int) -> None:
    a, b = ends()
    read, write = os.pipe()
    a.send({"first": 1})
    a.send({"second": 2}, [write] * count)
    a.send({"third": 3})
    messages = [b.wait(5), b.wait(5), b.wait(5)]
    assert [len(fds) for _, fds in messages] == [0, count, 0]
    for fd in messages[1][1]:
        assert os.get_inheritable(fd) is False
        os.write(fd, b".")
    control.close_all([write, *messages[1][1]])
    assert os.read(read, 1000) == b"." * count
    os.close(read)
    a.close()
    b.close()


def test_what_was_said_before_the_end_is_heard() -> None:
    a, b = ends()
    a.send({"error": "why"})
    a.close()
    assert b.receive() == [({"error": "why"}, [])]
    with pytest.raises(control.Closed):
        b.wait(1)
    b.close()


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=64))
def test_garbage_is_no_message_and_no_crash(octets: bytes) -> None:
    ours, theirs = control.pair()
    theirs.send(octets)
    theirs.close()
    try:
        while True:
            assert all(isinstance(words, dict) for words, _ in ours.receive())
    except control.Closed:
        ours.close()


def test_a_peer_that_does_not_read_is_gone() -> None:
    a, b = ends()
    with pytest.raises(control.Closed):
        a.send({"x": "y" * 4_000_000}, seconds=0.05)
    a.close()
    b.close()


def test_nothing_to_wait_for() -> None:
    a, b = ends()
    with pytest.raises(TimeoutError):
        b.wait(0.01)
    a.close()
    b.close()


# -- sockets


def options(sock: socket.socket) -> tuple[int, int]:
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::"])
def test_a_wildcard_is_one_dual_stack_socket(address: str) -> None:
    with listen.open_socket(socket.SOCK_DGRAM, address, 0, True) as sock:
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) == 1
        assert sock.getsockopt(socket.IPPROTO_IP, listen.IP_MTU_DISCOVER) == listen.PMTUDISC_OMIT
        assert sock.getsockopt(socket.IPPROTO_IPV6, listen.IPV6_MTU_DISCOVER) == listen.PMTUDISC_OMIT
        reuse, buffer = options(sock)
        assert reuse == 1
        assert buffer > 212992
        assert sock.getblocking() is False
        assert os.get_inheritable(sock.fileno()) is False


def test_without_ipv6_a_wildcard_is_ipv4() -> None:
    with listen.open_socket(socket.SOCK_DGRAM, "", 0, False) as sock:
        assert sock.family == socket.AF_INET
        assert sock.getsockopt(socket.IPPROTO_IP, listen.IP_PKTINFO) == 1


@pytest.mark.parametrize(("address", "family"), [
    ("127.0.0.1", socket.AF_INET), pytest.param("::1", socket.AF_INET6, marks=needs_ipv6)])
def test_an_address_is_a_socket_of_its_family(address: str, family: int) -> None:
    with listen.open_socket(socket.SOCK_STREAM, address, 0, True) as sock:
        assert sock.family == family
        assert sock.getsockname()[0] == address


def test_a_zone_becomes_a_scope() -> None:
    family, where = listen.resolve("fe80::1%lo", 53, True)
    assert (family, where) == (socket.AF_INET6, ("fe80::1", 53, 0, socket.if_nametoindex("lo")))
    assert listen.resolve("fe80::1%7", 53, True)[1][3] == 7


def test_listeners_grow_shrink_and_stay() -> None:
    listeners = Listeners()
    port = free_port()
    key = ("dns", "127.0.0.1", port)
    assert [had for _, had in listeners.open([(key, 2)])] == [0]
    kept = listeners.by_key[key].fds(0)
    assert [had for _, had in listeners.open([(key, 3)])] == [2]
    assert listeners.open([(key, 3)]) == []
    assert listeners.by_key[key].fds(0) == kept
    assert listeners.by_key[key].fds(3) == (-1, -1)
    leaving = listeners.retire([(key, 1)])
    assert len(leaving) == 4
    assert listeners.by_key[key].count() == 1
    leaving += listeners.retire([])
    assert len(leaving) == 6
    assert listeners.by_key == {}
    for sock in leaving:
        sock.close()


def test_a_socket_that_leaves_its_group_gets_nothing_new_and_keeps_what_it_has() -> None:
    listeners = Listeners()
    port = free_port()
    key = ("dns", "127.0.0.1", port)
    listeners.open([(key, 1)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"before", ("127.0.0.1", port))
        leaving = listeners.retire([])
        client.sendto(b"after", ("127.0.0.1", port))
        udp = next(sock for sock in leaving if sock.type == socket.SOCK_DGRAM)
        assert udp.recv(100) == b"before"
        with pytest.raises(BlockingIOError):
            udp.recv(100)
    for sock in leaving:
        sock.close()


def spread(listeners: Listeners, key: tuple[str, str, int], flows: int = 256) -> list[int]:
    """How many datagrams of as many flows each UDP socket of a listener got."""
    for _ in range(flows):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", ("127.0.0.1", key[2]))
    return [received(sock) for sock in listeners.by_key[key].udp]


def received(sock: socket.socket) -> int:
    """How many datagrams a socket has; they are taken."""
    count = 0
    while True:
        try:
            sock.recv(16)
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("", marks=needs_ipv6)])
def test_a_group_that_grows_while_sockets_leave_it_stays_one(address: str) -> None:
    listeners = Listeners()
    key = ("dns", address, free_port())
    listeners.open([(key, 4)])
    leaving = listeners.retire([(key, 2)])
    listeners.open([(key, 5)])
    before = spread(listeners, key)
    for sock in leaving:
        if sock.type == socket.SOCK_DGRAM:
            assert received(sock) == 0
        sock.close()
    listeners.forget(leaving)
    assert listeners.leaving == {}
    after = spread(listeners, key)
    for counts in (before, after):
        assert sum(counts) == 256
        assert min(counts) > 0  # one of five gets nothing of 256 flows: 4 in 10^25
    listeners.close()


def accepted(sock: socket.socket) -> int:
    """How many connections wait at a socket; they are taken."""
    count = 0
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def connections(key: tuple[str, str, int], flows: int = 128) -> None:
    for _ in range(flows):
        socket.create_connection(("127.0.0.1", key[2]), timeout=5).close()


@pytest.mark.parametrize("mode", ["flow", "cpu"])
def test_a_group_that_grows_quietly_gives_its_new_sockets_nothing_before_they_are_read(mode: str) -> None:
    listeners = Listeners()
    key = ("dns", "127.0.0.1", free_port())
    listeners.open([(key, 2)])
    listeners.steer({key: mode}, {key: 2}, [4000, 4001])  # CPUs that nobody has: the hash decides
    added = listeners.open([(key, 5)], quietly=True)
    assert sum((before := spread(listeners, key))[:2]) == 256
    assert before[2:] == [0, 0, 0]
    connections(key)
    assert sum(counts := [accepted(sock) for sock in listeners.by_key[key].tcp]) == 128
    assert counts[2:] == [0, 0, 0]
    # Refused: those that serve go on as before.
    listeners.undo(added)
    listeners.steer({key: mode}, {key: 2}, [4000, 4001])
    assert listeners.by_key[key].steered == mode
    assert sum(spread(listeners, key)) == 256
    # Accepted: each gets its share.
    listeners.open([(key, 5)], quietly=True)
    listeners.steer({key: mode}, {key: 5}, range(4000, 4005))
    assert min(spread(listeners, key)) > 0
    listeners.close()


def test_connections_go_to_those_that_stay_while_others_leave() -> None:
    listeners = Listeners()
    key = ("dns", "127.0.0.1", free_port())
    listeners.open([(key, 4)])
    assert listeners.last({key: 4}, {key: 2}) == {2: [0], 3: [0]}
    leaving = listeners.retire([(key, 2)])
    listeners.steer({}, {key: 2}, range(2))
    connections(key)
    assert sum(accepted(sock) for sock in listeners.by_key[key].tcp) == 128
    listeners.refuse(leaving)
    with pytest.raises(OSError, match="Invalid argument"):
        next(sock for sock in leaving if sock.type == socket.SOCK_STREAM).accept()
    for sock in leaving:
        sock.close()
    listeners.forget(leaving)
    listeners.steer({}, {key: 2}, range(2))
    assert listeners.by_key[key].steered == "flow"
    listeners.close()


@may("net_admin")
def test_sockets_hold_more_for_a_while() -> None:
    listeners = Listeners()
    port = free_port()

    def held() -> list[int]:
        return [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for one in listeners.by_key.values()
                for sock in one.udp]

    listeners.open([(("dns", "127.0.0.1", port), 2)])
    usual = held()[0]
    listeners.widen()
    assert held() == [4 * usual] * 2
    # Those that a reload adds as well.
    listeners.open([(("dns", "127.0.0.1", port), 3)], quietly=True)
    assert held() == [4 * usual] * 3
    listeners.narrow()
    assert held() == [usual] * 3
    listeners.narrow()
    listeners.close()


def test_a_failure_opens_nothing() -> None:
    listeners = Listeners()
    port = free_port()
    with pytest.raises(StartError) as caught:
        listeners.open([(("dns", "127.0.0.1", port), 2), (("dns", "192.0.2.99", port), 1)])
    assert str(caught.value) == f"Listen: listen tcp 192.0.2.99:{port}: bind: cannot assign requested address"
    assert listeners.by_key == {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_no_ipv6_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "ipv6_available", lambda: False)
    listeners = Listeners()
    port = free_port()
    listeners.open([(("dns", "", port), 2)])
    assert sum("IPv6" in note for note in listeners.notes) == 1
    assert sum("buffer" in note for note in listeners.notes) == 1
    listeners.close()


def test_the_buffer_note_tells_the_hold_time() -> None:
    assert listen.buffer_note(8388608) == (
        "UDP receive buffer 8388608 octets a socket: 10082 small datagrams, 100.8 ms at 100,000 queries a second")


# -- heartbeats


class Pulse:
    """One worker with a socket, and a clock."""

    def __init__(self) -> None:
        self.words = {1: 100, 2: 200}
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.beats = Heartbeats(self.words.__getitem__, lambda _index: [self.sock.fileno()])
        self.worker = Child(WORKER, control.Channel(socket.socket()))
        self.worker.index, self.worker.rows = 0, 1
        self.now = 1000.0

    def tick(self, seconds: float = 0.1, python: bool = True) -> tuple[int, int]:
        self.now += seconds
        self.words[2] += python
        hung, stuck = self.beats.look(self.now, [self.worker])
        return len(hung), len(stuck)

    def fill(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"x", self.sock.getsockname())

    def close(self) -> None:
        self.sock.close()
        self.worker.channel.close()


@pytest.fixture
def pulse():
    made = Pulse()
    yield made
    made.close()


def test_stale_is_five_wake_ups_with_something_to_read(pulse: Pulse) -> None:
    pulse.tick()
    pulse.fill()
    assert [pulse.tick()[0] for _ in range(STALE_TICKS)] == [0] * (STALE_TICKS - 1) + [1]


def test_an_idle_worker_is_never_stale(pulse: Pulse) -> None:
    assert {pulse.tick() for _ in range(50)} == {(0, 0)}


def test_a_beat_starts_the_count_anew(pulse: Pulse) -> None:
    pulse.tick()
    pulse.fill()
    for _ in range(5):
        assert {pulse.tick() for _ in range(STALE_TICKS - 1)} == {(0, 0)}
        pulse.words[1] += 1
        pulse.tick()


def test_a_late_wake_up_starts_the_count_anew(pulse: Pulse) -> None:
    pulse.tick()
    pulse.fill()
    for _ in range(5):
        assert {pulse.tick() for _ in range(STALE_TICKS - 1)} == {(0, 0)}
        assert pulse.tick(3.0) == (0, 0)


@pytest.mark.parametrize(("step_ms", "wants", "hung"), [
    (0, True, False),  # it waits for a CPU
    (1, True, True),  # it spins
    (0, False, True),  # it is stopped, or blocked
])
def test_a_worker_that_gets_no_cpu_is_not_hung(pulse: Pulse, step_ms: int, wants: bool, hung: bool) -> None:
    had = [7_000_000]

    def cpu(_pid: int) -> tuple[int, bool]:
        had[0] += step_ms * 100_000_000
        return had[0], wants

    pulse.beats.cpu = cpu
    pulse.tick()
    pulse.fill()
    assert any(pulse.tick()[0] for _ in range(3 * STALE_TICKS)) is hung


def test_what_a_process_has_had_of_the_cpu() -> None:
    before, wants = heartbeat.cpu(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        continue
    assert wants and heartbeat.cpu(os.getpid())[0] - before >= 40_000_000
    assert heartbeat.cpu(0) == (0, False)


def test_a_stuck_python_thread_needs_no_socket(pulse: Pulse) -> None:
    pulse.tick()
    found = [pulse.tick(python=False)[1] for _ in range(PYTHON_STALE_TICKS)]
    assert found == [0] * (PYTHON_STALE_TICKS - 1) + [1]


# -- memory


def test_rows_belong_to_one_worker_at_a_time() -> None:
    rows = Rows(2)
    taken = [rows.take() for _ in range(rows.room())]
    assert len(set(taken)) == len(taken) >= 6
    assert all(row % 2 == 1 and row + 1 < rows.total - 3 for row in taken)
    with pytest.raises(StartError):
        rows.take()
    rows.give(taken[3])
    assert rows.take() == taken[3]


def test_block_ids_follow_the_settings() -> None:
    ids = BlockIds()
    first = ids.allot(["a", "b", "a"])
    assert len(set(first)) == 3
    assert ids.allot(["b", "a", "a"]) == [first[1], first[0], first[2]]
    assert ids.allot(["c"])[0] not in first
    assert ids.allot(["a", "b", "a"]) == first


def test_hit_counters_only_where_prefetch_counts() -> None:
    plan = {"cache": [{"block": 1, "success": 10, "denial": 20},
                      {"block": 0, "success": 1, "denial": 2, "prefetch": True}]}
    assert cache_tables(plan, [7, 9], 3) == [(9, 10, 20, 0), (7, 1, 2, 3)]


# -- the rest


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 7.5), (0.5, 10.0), (1.0, 12.5)])
def test_the_period_is_spread_by_half_the_jitter(chance: float, seconds: float) -> None:
    assert reload.period(10.0, 5.0, chance) == seconds
    assert reload.period(10.0, 60.0, chance) == seconds
    assert reload.period(10.0, 0.0, chance) == 10.0


def test_exit_texts() -> None:
    assert exit_text(9) == "killed by signal 9"
    assert exit_text(256) == "exit status 1"


def test_a_stalled_reader_costs_lines_not_time() -> None:
    read, write = os.pipe()
    output = Output(write)
    begin = time.monotonic()
    for _ in range(100):
        output.write("x" * 4095 + "\n")
    assert output.lost > 0
    assert time.monotonic() - begin < 10
    os.close(read)
    output.write("nobody\n")
    os.close(write)


def test_long_output_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as file:
        Output(file.fileno()).write("line\n" * 3000)
    assert path.read_text() == "line\n" * 3000


def test_niceness_is_only_raised() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    program = ("import os; from fastdns.server.niceness import give_way; n = os.getpriority(os.PRIO_PROCESS, 0); "
               "give_way(n + 2); give_way(n - 1); print(os.getpriority(os.PRIO_PROCESS, 0))")
    found = subprocess.run(["nice", "-n", "5", sys.executable, "-c", program], capture_output=True, check=True)
    assert int(found.stdout) == min(min(own + 5, 19) + 2, 19)


def test_what_is_done_aside_gives_way_and_leaves_nothing_behind() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []
    aside(own + 1, lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert seen == [min(own + 1, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    tasks = set(Path("/proc/self/task").iterdir())
    aside(own, lambda: None)
    assert set(Path("/proc/self/task").iterdir()) == tasks

    def fails() -> None:
        raise StartError("no")

    with pytest.raises(StartError, match="no"):
        aside(own, fails)


def test_modules_are_read_by_a_thread_that_gives_way() -> None:
    program = """
import os, sys, threading
from fastdns.server import boot
own = os.getpriority(os.PRIO_PROCESS, 0)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "colorsys":
            print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
sys.meta_path.insert(0, Finder())
boot.gently(["colorsys"])
print("colorsys" in sys.modules, os.getpriority(os.PRIO_PROCESS, 0) == own)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(max(boot.NICE, os.getpriority(os.PRIO_PROCESS, 0))), "True", "True"]
