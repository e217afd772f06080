# SPDX-License-Identifier: Apache-2.0
"""Where the packets of one flow and of many land in each way of steering, on sockets of this kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastdns.ports import free_port
from fastdns.server import steer
from fastdns.server.listen import Key, Listeners

PACKETS = 256


@contextmanager
def group(address: str, count: int) -> Iterator[tuple[Listeners, Key]]:
    """A listener with `count` sockets of each kind on a free port."""
    listeners = Listeners()
    key = ("dns", address, free_port("::"))
    listeners.open([(key, count)])
    try:
        yield listeners, key
    finally:
        listeners.close()


def set_mode(listeners: Listeners, key: Key, mode: str, cpus: list[int] | range | None = None) -> None:
    """Steer the group to all its sockets, one a CPU unless told otherwise."""
    count = listeners.by_key[key].count()
    listeners.steer({key: mode}, {key: count}, range(count) if cpus is None else cpus)


def received(sock: socket.socket) -> int:
    count = 0
    try:
        while sock.recv(16):
            count += 1
    except BlockingIOError:
        return count
    return count


def landed(listeners: Listeners, key: Key, flows: int) -> list[int]:
    """How many of PACKETS datagrams of so many flows each socket got."""
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
    for number in range(PACKETS):
        clients[number % flows].sendto(b"x", ("127.0.0.1", key[2]))
    for client in clients:
        client.close()
    return [received(sock) for sock in listeners.by_key[key].udp]


@contextmanager
def sending_on(cpu: int) -> Iterator[None]:
    """This process runs on one CPU: over loopback, packets are received where they are sent."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


every_address = pytest.mark.parametrize("address", ["127.0.0.1", ""])


@every_address
def test_one_flow(address: str) -> None:
    with group(address, 4) as (listeners, key):
        set_mode(listeners, key, "flow")
        assert sorted(landed(listeners, key, 1)) == [0, 0, 0, PACKETS]
        set_mode(listeners, key, "random")
        counts = landed(listeners, key, 1)
        assert sum(counts) == PACKETS
        assert min(counts) > PACKETS // 16
        set_mode(listeners, key, "flow")
        assert sorted(landed(listeners, key, 1)) == [0, 0, 0, PACKETS]


@every_address
def test_many_flows_go_to_the_worker_on_their_cpu(address: str) -> None:
    here = sorted(os.sched_getaffinity(0))
    with group(address, len(here)) as (listeners, key):
        set_mode(listeners, key, "cpu", here)
        for place, cpu in enumerate(here):
            with sending_on(cpu):
                counts = landed(listeners, key, 64)
            assert counts[place] == sum(counts) == PACKETS


def test_a_cpu_without_a_worker_goes_by_the_hash() -> None:
    with group("127.0.0.1", 4) as (listeners, key):
        set_mode(listeners, key, "cpu", [4000, 4001, 4002, 4003])
        counts = landed(listeners, key, 64)
        assert sum(counts) == PACKETS
        assert sum(1 for count in counts if count) > 1
        assert sorted(landed(listeners, key, 1)) == [0, 0, 0, PACKETS]


def test_workers_that_share_a_cpu_share_its_packets() -> None:
    cpu = min(os.sched_getaffinity(0))
    with group("127.0.0.1", 6) as (listeners, key), sending_on(cpu):
        set_mode(listeners, key, "cpu", [cpu, 4000, cpu, 4000, cpu, 4000])
        counts = landed(listeners, key, 1)
        assert sum(counts) == PACKETS
        assert counts[1::2] == [0, 0, 0]
        assert min(counts[::2]) > PACKETS // 16


def connections(listeners: Listeners, key: Key, count: int) -> list[int]:
    """How many of `count` connections each socket was given."""
    clients = [socket.create_connection(("127.0.0.1", key[2])) for _ in range(count)]
    found = []
    for sock in listeners.by_key[key].tcp:
        number = 0
        try:
            while True:
                sock.accept()[0].close()
                number += 1
        except BlockingIOError:
            found.append(number)
    for client in clients:
        client.close()
    return found


def test_connections_are_steered_too() -> None:
    cpu = min(os.sched_getaffinity(0))
    with group("127.0.0.1", 3) as (listeners, key), sending_on(cpu):
        set_mode(listeners, key, "cpu", [4000, cpu, 4001])
        assert connections(listeners, key, 32) == [0, 32, 0]
        set_mode(listeners, key, "random")
        assert min(connections(listeners, key, 64)) > 0


@every_address
@pytest.mark.parametrize("mode", ["random", "cpu"])
def test_sockets_that_leave_get_nothing(address: str, mode: str) -> None:
    """The order of a reload: steer to those that stay, retire, later close."""
    cpus = [min(os.sched_getaffinity(0))] * 8
    with group(address, 4) as (listeners, key), sending_on(cpus[0]):
        set_mode(listeners, key, mode, cpus)
        listeners.steer({key: mode}, {key: 2}, cpus)
        leaving = listeners.retire([(key, 2)])
        leaving_udp = [sock for sock in leaving if sock.type == socket.SOCK_DGRAM]
        assert sum(landed(listeners, key, 16)) == PACKETS
        assert listeners.by_key[key].steered == mode
        # Grown before they have gone: nobody knows where the new ones stand.
        listeners.open([(key, 5)])
        assert sum(landed(listeners, key, 16)) == PACKETS
        set_mode(listeners, key, mode, cpus)
        assert listeners.by_key[key].steered == "flow"
        assert sum(landed(listeners, key, 16)) == PACKETS
        assert [received(sock) for sock in leaving_udp] == [0, 0]
        for sock in leaving:
            sock.close()
        listeners.forget(leaving)
        set_mode(listeners, key, mode, cpus)
        assert listeners.by_key[key].steered == mode
        counts = landed(listeners, key, 1)
        assert sum(counts) == PACKETS
        assert min(counts) > 0


def test_a_failed_reload_leaves_the_program_right() -> None:
    with group("127.0.0.1", 2) as (listeners, key):
        set_mode(listeners, key, "random")
        listeners.undo(listeners.open([(key, 4)]))
        assert listeners.by_key[key].settled == 2
        assert sum(landed(listeners, key, 1)) == PACKETS


def test_a_kernel_that_refuses_is_noted_and_the_hash_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with group("127.0.0.1", 2) as (listeners, key):
        monkeypatch.setattr(steer, "SO_ATTACH_REUSEPORT_CBPF", 999)
        set_mode(listeners, key, "random")
        assert listeners.notes[-1] == ("plugin/multisocket: steer random: protocol not available: "
                                       "the kernel's hash of the flow is used")
        assert listeners.by_key[key].steered == "flow"
        assert sorted(landed(listeners, key, 1)) == [0, PACKETS]


@pytest.mark.parametrize(("sockets", "cpus"), [(1024, 1), (1024, 2), (1024, 512), (1024, 1024), (1, 1)])
def test_the_largest_programs_fit(sockets: int, cpus: int) -> None:
    words = steer.program("cpu", [place % cpus for place in range(sockets)])
    assert len(words) <= steer.MOST_INSTRUCTIONS
    assert {word[3] for word in words if word[0] == steer.RETURN} == {*range(sockets), steer.BEYOND}
    for number, (code, if_true, if_false, operand) in enumerate(words):
        if code == steer.JUMP_EQUAL:
            assert number + 1 + max(if_true, if_false) < len(words)
        elif code == steer.JUMP:
            assert number + 1 + operand < len(words)


def test_a_program_of_the_largest_group_is_taken() -> None:
    with group("127.0.0.1", 1) as (listeners, key):
        sock = listeners.by_key[key].udp[0]
        steer.attach(sock, "random", range(1024))
        steer.attach(sock, "flow", ())
        steer.attach(sock, "flow", ())
        assert sum(landed(listeners, key, 8)) == PACKETS
