# SPDX-License-Identifier: Apache-2.0
"""What one supervisor leaves to the next: damaged, foreign and honest states; memory, rows and ids as they were."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.corefile.source import Source
from fastdns.errors import StartError
from fastdns.server import control, handover, upgrade
from fastdns.server.activation import Activated, bound_to
from fastdns.server.generation import Generation
from fastdns.server.memory import LAYOUTS, BlockIds, Memory, Rows
from fastdns.server.supervisor import Settings, Supervisor


def held(octets: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, octets)
    return fd


@pytest.mark.parametrize(
    "octets", [b"", b"x", b"[]", b"null", b"{}", b'{"format": 0}', b'{"format": "1"}', b"\xff\xfe"])
def test_what_is_no_state_is_refused(octets: bytes) -> None:
    fd = held(octets)
    with pytest.raises(StartError, match="hands over"):
        handover.read(fd)
    os.close(fd)


def test_a_descriptor_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("x", "-1", "²", "99999"):
        monkeypatch.setenv(upgrade.VARIABLE, text)
        with pytest.raises(StartError):
            upgrade.handed_over()
        assert upgrade.VARIABLE not in os.environ
    assert upgrade.handed_over() is None


PARTS = ["number", "written", "blocks", "memory", "listeners", "leaving", "activated", "generations", "current",
         "control", "waiting", "level", "doors", "resting", "wide"]
NONSENSE = st.none() | st.integers(-2, 2) | st.lists(st.none() | st.lists(st.integers(-2, -1)), max_size=2)


@given(st.dictionaries(st.sampled_from(PARTS), NONSENSE))
def test_a_state_of_nonsense_is_refused(words: dict[str, object]) -> None:
    fd = handover.write({"format": handover.FORMAT, **words})
    with pytest.raises(StartError, match="cannot be adopted"):
        handover.restore(Supervisor(Settings(), Source("Corefile", b"")), handover.read(fd))
    os.close(fd)


def memory_words(memory: Memory) -> dict[str, object]:
    """As after an exec: the same memory behind descriptors of its own."""
    words = memory.save(lambda fd: fd)
    for name in ("stats", "rings", "log_wake"):
        words[name] = os.dup(words[name])
    return words


def test_counters_and_rows_are_adopted() -> None:
    memory = Memory(2)
    taken = [memory.rows.take() for _ in range(3)]
    slot = memory.stats.intern("test_total")
    memory.stats.add(taken[0], slot, 5)
    adopted, notes = Memory.adopt(memory_words(memory))
    assert notes == []
    assert adopted.adopted
    assert adopted.stats.get(adopted.stats.intern("test_total")) == 5
    assert (adopted.rows.total, adopted.rows.free()) == (memory.rows.total, memory.rows.free())
    assert adopted.rows.take() not in taken


@pytest.mark.parametrize("name", ["counters", "rings"])
def test_another_layout_starts_anew(name: str) -> None:
    memory = Memory(2)
    words = memory_words(memory)
    words["layouts"] = {**LAYOUTS, name: LAYOUTS[name] + 1}
    adopted, notes = Memory.adopt(words)
    assert not adopted.adopted
    assert adopted.rows.pairs == memory.rows.pairs
    assert adopted.rows.room() == adopted.rows.pairs
    own = LAYOUTS[name]
    assert notes == [f"the counters start anew: layout {own + 1} of the {name}, this program has {own}"]


def test_a_socket_that_is_closed_already_stays_on_its_way_out() -> None:
    host = Supervisor(Settings(), Source("Corefile", b""))
    host.memory = Memory(1)
    key = ("dns", "127.0.0.1", 5300)
    gone, going = socket.socket(), socket.socket()
    gone.close()
    generation = Generation(host, 1, Source("Corefile", b""), adopted=True)
    generation.leaving_sockets = [gone, going]
    host.listeners.leaving = {key: [gone, going]}
    host.generations, host.current = [generation], generation
    state, fds = handover.save(host, [])
    assert going.fileno() in fds
    assert min(fds) >= 0
    # After an exec the descriptors are this process's alone.
    state["memory"] = memory_words(host.memory)
    going.detach()
    fd = handover.write(state)
    after = Supervisor(Settings(), Source("Corefile", b""))
    assert handover.restore(after, handover.read(fd)) == []
    os.close(fd)
    found = after.generations[0].leaving_sockets
    assert [sock.fileno() < 0 for sock in found] == [True, False]
    assert list(map(id, after.listeners.leaving[key])) == list(map(id, found))
    after.listeners.forget(found)
    assert after.listeners.leaving == {}
    found[1].close()


def test_rows_that_are_none_are_refused() -> None:
    assert Rows.of(10, [1, 3]).take() == 1
    with pytest.raises(ValueError, match="none of the table"):
        Rows.of(10, [2])
    with pytest.raises(ValueError, match="none of the table"):
        Rows.of(10, [21])


NAMES = st.lists(st.sampled_from("abcde"), max_size=5)


@given(st.lists(NAMES, max_size=6), NAMES)
def test_block_ids_go_on(before: list[list[str]], after: list[str]) -> None:
    ids, copy = BlockIds(), BlockIds()
    for settings in before:
        ids.allot(settings)
    copy.restore(ids.save())
    assert copy.allot(after) == ids.allot(after)


def test_half_a_message_is_finished_by_who_follows() -> None:
    ours, theirs = control.pair()
    sender, cut = control.Channel(theirs), control.pair()
    sender.send({"n": 1})
    whole = control.HEADER.pack(7, 1) + b'{"n":2}'
    theirs.send(whole[:9])
    assert [words["n"] for words, _ in ours.receive()] == [1]
    octets, fds = ours.unread()
    assert (octets, fds) == (whole[:9], [])
    after = control.Channel(ours.sock.dup())
    after.unread(octets, fds)
    theirs.send(whole[9:])
    socket.send_fds(theirs, [b"\0"], [cut[1].fileno()])
    found, passed = after.wait(5)
    assert (found, len(passed)) == ({"n": 2}, 1)
    control.close_all(passed)
    for end in (ours, sender, after, cut[0], cut[1]):
        end.close()


def test_sockets_are_told_by_their_address() -> None:
    kinds = socket.AF_INET6, socket.AF_INET6, socket.AF_INET
    both, one, four = (socket.socket(family, socket.SOCK_DGRAM) for family in kinds)
    with both, one, four:
        both.bind(("::", 0))
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(("::", 0))
        four.bind(("127.0.0.1", 0))
        port = four.getsockname()[1]
        assert bound_to(both, socket.AF_INET6, ("::", both.getsockname()[1], 0, 0))
        assert not bound_to(one, socket.AF_INET6, ("::", one.getsockname()[1], 0, 0))
        assert bound_to(four, socket.AF_INET, ("127.0.0.1", port))
        assert not bound_to(four, socket.AF_INET, ("127.0.0.1", port + 1))
        assert not bound_to(four, socket.AF_INET, ("127.0.0.2", port))
        assert not bound_to(four, socket.AF_INET6, ("::1", port, 0, 0))
        activated = Activated()
        activated.socks = [("a", four), ("b", both)]
        assert activated.find(socket.SOCK_DGRAM, socket.AF_INET, ("127.0.0.1", port)) == [four]
        assert activated.find(socket.SOCK_STREAM, socket.AF_INET, ("127.0.0.1", port)) == []
        copy = four.dup()
        assert copy in activated
        assert len(activated.idle([copy])) == 1
        assert activated.idle([copy]) == []
        assert len(activated.idle([])) == 2
        copy.close()


def test_the_command_line_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python", "-P", "-m", "fastdns", "-conf", "x"])
    monkeypatch.setattr("sys.argv", ["/lib/fastdns/__main__.py", "-conf", "x"])
    assert upgrade.command_line() == (["python", "-P", "-m", "fastdns"], ["-conf", "x"])
    monkeypatch.setattr("sys.orig_argv", ["/bin/fastdns"])
    monkeypatch.setattr("sys.argv", ["/bin/fastdns"])
    assert upgrade.command_line() == (["/bin/fastdns"], [])


def test_adopt_is_not_for_people() -> None:
    import io

    from fastdns.cli import USAGE_EXIT, main

    for words in (["adopt"], ["adopt", "3"], ["adopt", "x", "4"], ["adopt", "3", "-conf"]):
        err = io.StringIO()
        assert main(words, io.StringIO(), err) == USAGE_EXIT
        assert "SIGUSR2" in err.getvalue()
