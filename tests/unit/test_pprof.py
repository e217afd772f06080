# SPDX-License-Identifier: Apache-2.0
"""Profiles: the format, what a look finds, how the processes' answers come together, and what a request may ask."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fastdns.server import control, main_thread, pprof, pprof_views, sampler
from fastdns.server.look import EVENTS_MAX, LOOP_KERNEL, LOOP_USER, LOST, TICK_NS, Look
from fastdns.server.profile_proto import Profile, varint
from fastdns.server.thread_clocks import process_clock, thread_clock, threads, ticks


def fields(octets: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: a reader of the tests' own."""
    at = 0

    def take() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = octets[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(octets):
        key = take()
        if key & 7 == 0:
            yield key >> 3, take()
        else:
            assert key & 7 == 2
            size = take()
            assert at + size <= len(octets)
            yield key >> 3, octets[at:at + size]
            at += size



def unpacked(octets: bytes) -> list[int]:
    found, value, shift = [], 0, 0
    for byte in octets:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(value)
            value = shift = 0
    assert shift == 0
    return found


def decode(profile: bytes) -> tuple[list[str], list[tuple[list[str], list[int], dict[str, str | int]]]]:
    """(names of the values, samples: functions from the innermost outwards, values, labels)."""
    top = list(fields(gzip.decompress(profile)))
    strings = [bytes(value).decode() for field, value in top if field == 6]
    assert strings[0] == ""
    functions, locations = {}, {}
    for field, value in top:
        if field == 5:
            one = dict(fields(value))
            functions[one[1]] = strings[one[2]]
        elif field == 4:
            one = dict(fields(value))
            locations[one[1]] = one[4]
            assert one[2] == 1
    names = {place: functions[dict(fields(line))[1]] for place, line in locations.items()}
    kinds = [strings[dict(fields(value))[1]] for field, value in top if field == 1]
    samples = []
    for field, value in top:
        if field != 2:
            continue
        parts = list(fields(value))
        labels: dict[str, str | int] = {}
        for part, content in parts:
            if part == 3:
                one = dict(fields(content))
                labels[strings[one[1]]] = strings[one[2]] if 2 in one else one[3]
        (places,) = [unpacked(content) for part, content in parts if part == 1]
        (values,) = [unpacked(content) for part, content in parts if part == 2]
        samples.append(([names[place] for place in places], values, labels))
    return kinds, samples


def test_the_format() -> None:
    profile = Profile((("samples", "count"), ("cpu", "nanoseconds")), ("cpu", "nanoseconds"), 10_000_000)
    profile.sample([("in", "f.py", 3, 4), ("out", "f.py", 9, 10)], [1, 300], [("process", "web"), ("pid", 77)])
    profile.sample([("in", "f.py", 3, 5), ("out", "f.py", 9, 10)], [2, 1 << 40], [])
    profile.comment("a remark")
    encoded = profile.encode(5, 6)
    assert decode(encoded) == (
        ["samples", "cpu"],
        [(["in", "out"], [1, 300], {"process": "web", "pid": 77}), (["in", "out"], [2, 1 << 40], {})],
    )
    top = dict(fields(gzip.decompress(encoded)))
    assert (top[9], top[10], top[12]) == (5, 6, 10_000_000)
    assert varint(0) == b"\0" and varint(300) == b"\xac\x02" and len(varint(-1)) == 10


@contextlib.contextmanager
def spinning(name: str) -> Iterator[threading.Thread]:
    """A thread that uses CPU time."""
    end = threading.Event()

    def spin_for_the_test() -> None:
        while not end.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin_for_the_test, name=name)
    thread.start()
    try:
        yield thread
    finally:
        end.set()
        thread.join()


def functions_of(look: Look) -> list[tuple[str, list[str], list[int]]]:
    return [(thread, [look.functions[f][0] for f, _ in stack], values) for thread, stack, values in look.samples()]


def test_cpu_time_is_what_the_scheduler_says() -> None:
    class Timed(Look):
        """Reads the process's clock within the look too: on a busy machine much may pass before and after."""

        within = 0

        def moments(self, tick_ns: int = TICK_NS) -> Iterator[tuple[int, int]]:
            begin = time.process_time_ns()
            yield from super().moments(tick_ns)
            self.within = time.process_time_ns() - begin

    look = Timed(0.5)
    before = time.process_time_ns()
    with spinning("busy"):
        look.cpu()
        used = time.process_time_ns() - before
    found = functions_of(look)
    total = sum(values[1] for _, _, values in found)
    # The process's clock may lack what other threads used since the kernel's last tick.
    assert 0 < look.within - 2 * TICK_NS <= total <= used + 2 * TICK_NS
    busy = [(stack, values) for thread, stack, values in found if thread == "busy"]
    assert sum(values[1] for _, values in busy) > 0.5 * total
    assert any(name.endswith("spin_for_the_test") for stack, _ in busy for name in stack)


def test_the_loops_time_is_split_as_the_kernel_says() -> None:
    look = Look(0.1)
    stack = [(look.function("Worker._hot"), 1)]
    look._loop(stack, [10, 1000], (5, 5), (8, 6))
    look._loop(stack, [10, 1000], (5, 5), (5, 5))
    found = {names[0]: values for _, names, values in functions_of(look)}
    assert found == {LOOP_USER: [18, 1750], LOOP_KERNEL: [2, 250]}


def test_what_waits() -> None:
    look = Look(0.3)
    gate = threading.Event()
    waiting = threading.Thread(target=gate.wait, name="waits")
    waiting.start()
    try:
        with spinning("busy"):
            look.block(0)
    finally:
        gate.set()
        waiting.join()
    found = functions_of(look)
    waits = sum(values[1] for thread, _, values in found if thread == "waits")
    assert waits > 0.5 * 0.3e9
    assert any(thread == "waits" and "threading.Event.wait" in stack for thread, stack, _ in found)
    rare = Look(0.3)
    rare.block(10**18)
    assert all(values[0] == 1 for _, _, values in functions_of(rare)), "one look at the end of the time"


def test_threads_and_tasks() -> None:
    async def inner() -> None:
        await asyncio.sleep(60)

    async def outer() -> None:
        await inner()

    async def main() -> Look:
        tasks = [asyncio.ensure_future(outer()) for _ in range(3)]
        await asyncio.sleep(0)
        look = Look(0, None, asyncio.get_running_loop())
        await asyncio.to_thread(look.goroutine)
        for task in tasks:
            task.cancel()
        return look

    found = functions_of(asyncio.run(main()))
    (values,) = [values for thread, stack, values in found
                 if thread == "tasks" and any(name.endswith(".outer") for name in stack)]
    assert values == [3]
    (stack,) = [stack for thread, stack, _ in found if thread == "tasks" and any(n.endswith(".outer") for n in stack)]
    assert [name.rpartition(".")[2] for name in stack] == ["sleep", "inner", "outer"]
    assert any(thread == "MainThread" for thread, _, _ in found)


def test_allocations_of_the_time_alone() -> None:
    look = Look(0.4)
    kept: list[bytes] = []
    timer = threading.Timer(0.1, lambda: kept.append(bytes(777_777)))
    timer.start()
    look.heap(False)
    timer.join()
    sizes = {names[0]: values for _, names, values in functions_of(look) if values[1] >= 777_777}
    assert len(sizes) == 1
    ((where, values),) = sizes.items()
    assert where.startswith("test_pprof.py:") and values[0] <= 2, "the octets, and room in the list"
    import tracemalloc

    assert not tracemalloc.is_tracing()


def test_a_trace_has_nested_frames() -> None:
    look = Look(0.3)
    with spinning("busy"):
        look.trace()
    mine = [event for event in look.events if event[0].startswith("busy ")]
    assert mine and all(length >= 0 for *_, length in mine)
    assert {look.functions[f][0].rpartition(".")[2] for _, f, _, _ in mine} >= {"spin_for_the_test", "run"}
    body = json.loads(pprof_views.events([{"who": "web", "pid": 5, "functions": look.functions, "samples": [],
                                           "events": look.events, "lost": 1}]))
    assert {event["ph"] for event in body["traceEvents"]} == {"M", "X"}
    look._turn("x 1", {"x 1": [(0, 1)] * 3}, [], 2)
    assert look.lost == 0
    look.events = [("x 1", 0, 0, 0)] * EVENTS_MAX
    look._turn("x 1", {"x 1": [(0, 1)] * 3}, [], 2)
    assert look.lost == 3 and len(look.events) == EVENTS_MAX


def test_stacks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastdns.server.look.STACKS_MAX", 2)
    look = Look(0)
    for line in range(5):
        look.add("t", [(look.function("f"), line)], 1, 10)
    assert [(names[0], values) for _, names, values in functions_of(look)] == [
        ("f", [1, 10]), ("f", [1, 10]), (LOST, [3, 30])]
    assert look.lost == 3


def test_the_main_thread_is_interrupted_where_it_works() -> None:
    """Its own CPU time counts, and short work between waits is found where it is done."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("the tests run in another thread")

    def short_work() -> None:
        end = time.thread_time_ns() + 1_000_000
        while time.thread_time_ns() < end:
            sum(range(50))

    before = signal.getsignal(signal.SIGPROF)
    main_thread.install()
    try:
        found: list[Look] = []
        look = Look(0.6)
        thread = threading.Thread(target=lambda: (look.cpu(), found.append(look)))
        thread.start()
        while thread.is_alive():
            short_work()
            time.sleep(0.001)
        thread.join()
        mine = [(stack, values) for name, stack, values in functions_of(look) if name == "MainThread"]
        total = sum(values[1] for _, values in mine)
        worked = sum(values[1] for stack, values in mine if any(name.endswith("short_work") for name in stack))
        assert total > 0 and worked > 0.7 * total
        assert main_thread.start(10_000_000, None, 0) is not None, "the last look has let go"
        assert main_thread.start(10_000_000, None, 0) is None, "one at a time"
    finally:
        for ticks_of_main in list(main_thread._active):
            ticks_of_main.stop()
        main_thread._installed.clear()
        signal.signal(signal.SIGPROF, before if before != signal.SIG_DFL else signal.SIG_IGN)


def test_a_look_that_fails_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("the tests run in another thread")
    before = signal.getsignal(signal.SIGPROF)
    main_thread.install()

    def fail(*_: object) -> None:
        raise MemoryError

    try:
        look = Look(0.1)
        monkeypatch.setattr(look, "add", fail)
        with pytest.raises(MemoryError):
            look.cpu()
        assert not main_thread._active
        (one,) = (main_thread.start(10_000_000, None, 0),)
        assert one is not None, "the next look finds the timer free"
        one.stop()
        one.stop()
        # What the main thread found that had no place any more.
        look = Look(0)
        full = main_thread.start(10_000_000, None, 0)
        assert full is not None
        full.found[()] = ([7, 70], [])
        look._main(full, 0)
        assert look.lost == 7 and ("MainThread", [LOST], [7, 70]) in functions_of(look)
    finally:
        for ticks_of_main in list(main_thread._active):
            ticks_of_main.stop()
        main_thread._installed.clear()
        signal.signal(signal.SIGPROF, before if before != signal.SIG_DFL else signal.SIG_IGN)


def test_clocks() -> None:
    me = threads()[threading.get_ident()]
    assert time.clock_gettime_ns(thread_clock(me[1])) > 0
    assert time.clock_gettime_ns(process_clock(os.getpid())) > 0
    assert min(ticks(me[1])) >= 0
    assert ticks(2**22 + 1) == (0, 0)


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def test_answers_come_in_pieces_from_several_processes() -> None:
    ours, theirs = pair()
    with ours:
        long = json.dumps({"who": "x" * 100_000}).encode()
        thread = threading.Thread(target=lambda: (sampler.send(theirs, long), theirs.send(b"\0"), theirs.send(
            sampler.PIECE_HEAD.pack(9, 1) + b'{"who":"y"}'), theirs.send(sampler.PIECE_HEAD.pack(10, 1) + b"{"),
            theirs.send(sampler.PIECE_HEAD.pack(11, 0) + b"{}"), theirs.close()))
        thread.start()
        found, silent = asyncio.run(pprof.receive(ours, 10))
        thread.join()
    assert [one["who"] for one in found] == ["x" * 100_000, "y"] and silent == []


def test_a_silent_process_is_waited_for_so_long() -> None:
    ours, theirs = pair()
    with ours, theirs:
        theirs.send(sampler.PIECE_HEAD.pack(9, 1) + b'{"who":"y"}')
        theirs.send(sampler.PIECE_HEAD.pack(8, sampler.NAME) + b"keeper")
        assert asyncio.run(pprof.receive(ours, 0.2)) == (
            [{"who": "y"}], ["keeper (pid 8): no answer", "not everybody has answered in 0.2 s"])


def test_nobody_waits_any_more_ends_the_look() -> None:
    ours, theirs = pair()
    sampler.begin({"kind": "cpu", "seconds": 600}, [os.dup(theirs.fileno())], "web")
    theirs.close()
    (thread,) = sampler._running
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


def test_only_so_many_looks_at_a_time() -> None:
    ours, theirs = pair()
    with ours, theirs:
        for _ in range(sampler.RUNNING_MAX + 2):
            sampler.begin({"kind": "cpu", "seconds": 600}, [os.dup(theirs.fileno())], "web")
        running = [thread for thread in threading.enumerate() if thread.name == "pprof"]
        assert len(running) == sampler.RUNNING_MAX
        sampler.begin({"kind": "nothing", "seconds": 1}, [os.dup(theirs.fileno())], "web")
        sampler.begin({"kind": "cpu", "seconds": 1}, [], "web")
    for thread in running:
        thread.join(10)


def test_whatever_goes_wrong_ends_the_look_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    words = {"kind": "cpu", "seconds": 600}
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        ours, theirs = pair()
        sampler.begin(words, [theirs.detach()], "web")
        assert ours.recv(99)[5:] == b"web" and ours.recv(99) == b""
        assert not any(thread.is_alive() for thread in sampler._running)
        ours.close()
    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "to_thread", lambda *_: refuse(threading.current_thread()))
        answer = Alone().get("/profile", "seconds=1")
        assert (answer.status, answer.body) == (500, b"cannot look: can't start new thread\n")
    with monkeypatch.context() as patch:
        patch.delattr("fastdns.server.look")
        patch.setitem(sys.modules, "fastdns.server.look", None)
        ours, theirs = pair()
        sampler.begin(words, [theirs.detach()], "web")
        assert ours.recv(99)[5:] == b"web" and ours.recv(99) == b""
        ours.close()
    fd = os.open("/dev/null", os.O_RDONLY)
    sampler.begin(words, [fd], "web")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_who_is_asked_and_not_heard_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the profile's comments: here the only process has looks enough already."""
    monkeypatch.setattr(sampler, "RUNNING_MAX", 0)
    words = f"web (pid {os.getpid()}): no answer"
    top = list(fields(gzip.decompress(Alone().get("/profile", "seconds=1").body)))
    strings = [bytes(value).decode() for field, value in top if field == 6]
    assert [strings[value] for field, value in top if field == 13 and isinstance(value, int)] == [words]
    assert f"# {words}\n" in Alone().get("/goroutine", "debug=1").body.decode()
    assert json.loads(Alone().get("/trace", "seconds=0.1").body)["otherData"] == {"silent": [words]}
    # An answer of which more comes than is kept, and one that is cut off.
    monkeypatch.setattr(pprof, "FOUND_MAX", 10)
    ours, theirs = pair()
    with ours, theirs:
        theirs.send(sampler.PIECE_HEAD.pack(7, sampler.NAME) + b"worker 3")
        for kind in (sampler.MORE, sampler.MORE, sampler.LAST):
            theirs.send(sampler.PIECE_HEAD.pack(7, kind) + b'{"who": "worker 3"' if kind == sampler.MORE else
                        sampler.PIECE_HEAD.pack(7, kind) + b"}")
        theirs.close()
        assert asyncio.run(pprof.receive(ours, 10)) == ([], ["worker 3 (pid 7): no answer"])


class Alone:
    """A profiler whose process has no supervisor."""

    def __init__(self, rate: int = 0) -> None:
        self.profiler = pprof.Profiler(control.gone(), rate)

    def get(self, path: str, query: str = "") -> pprof.Answer:
        return asyncio.run(self.profiler.answer(pprof.PREFIX + path, query))


def test_answers() -> None:
    alone = Alone()
    assert (alone.get("").status, dict(alone.get("").fields)["Location"]) == (302, "/debug/pprof/")
    page = alone.get("/")
    assert page.type == "text/html; charset=utf-8" and page.body.count(b"href") == len(pprof_views.LIST)
    assert b"(off)" in page.body and b"(off)" not in Alone(1).get("/").body
    assert alone.get("/cmdline").body
    assert alone.get("/symbol").body == b"num_symbols: 0\n"


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("/mutex", "", 404, "Unknown profile"),
        ("/cmdline/x", "", 404, "Unknown profile"),
        ("/heap", "seconds=0", 400, 'invalid value for "seconds" - must be a positive integer'),
        ("/heap", "seconds=x", 400, 'invalid value for "seconds" - must be a positive integer'),
        ("/block", "seconds=-1", 400, 'invalid value for "seconds" - must be a positive integer'),
        ("/goroutine", "seconds=1", 400, '"seconds" makes no sense for goroutine'),
        ("/profile", "seconds=301", 400, "profile duration exceeds 300 seconds"),
        ("/heap", "seconds=999999999", 400, "profile duration exceeds 300 seconds"),
        ("/trace", "seconds=1e9", 400, "profile duration exceeds 300 seconds"),
        ("/trace", "seconds=inf", 400, "profile duration exceeds 300 seconds"),
    ],
)
def test_refusals(path: str, query: str, status: int, text: str) -> None:
    answer = Alone(1).get(path, query)
    assert (answer.status, answer.body.decode()) == (status, f"{text}\n")
    assert dict(answer.fields)["X-Go-Pprof"] == "1"


def test_profiles_of_one_process() -> None:
    alone = Alone(1)
    kinds, samples = decode(alone.get("/profile", "seconds=1").body)
    assert kinds == ["samples", "cpu"] and samples
    assert {labels["process"] for _, _, labels in samples} >= {"web"}
    answer = alone.get("/heap", "seconds=1&gc=1")
    assert decode(answer.body)[0] == ["inuse_objects", "inuse_space"]
    assert dict(answer.fields)["Content-Disposition"] == 'attachment; filename="heap-delta"'
    kinds, samples = decode(alone.get("/block", "seconds=1").body)
    assert kinds == ["contentions", "delay"] and samples
    text = alone.get("/goroutine", "debug=1").body.decode()
    assert text.startswith("goroutine profile: total ") and "@ web/MainThread" in text
    assert json.loads(alone.get("/trace", "seconds=0.1").body)["traceEvents"]


def test_block_is_empty_while_it_is_off() -> None:
    assert decode(Alone(0).get("/block", "seconds=1").body) == (["contentions", "delay"], [])
    assert decode(Alone(-5).get("/block", "seconds=1").body)[1] == []


def test_one_at_a_time() -> None:
    alone = Alone(1)

    async def both() -> list[pprof.Answer]:
        one = asyncio.ensure_future(alone.profiler.answer("/debug/pprof/profile", "seconds=1"))
        await asyncio.sleep(0.2)
        rest = [await alone.profiler.answer(f"/debug/pprof/{name}", "") for name in ("profile", "goroutine", "trace")]
        return [await one, *rest, await alone.profiler.answer("/debug/pprof/goroutine", "")]

    answers = asyncio.run(both())
    assert [answer.status for answer in answers] == [200, 500, 500, 500, 200]
    assert answers[1].body == b"Could not enable CPU profiling: cpu profiling already in use\n"
    assert answers[3].body == b"Could not enable tracing: tracing is already enabled\n"
