# SPDX-License-Identifier: Apache-2.0
"""`fastdns top` and the directive `top` on a whole server: workers, readers, reloads, deaths, and who is told."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastdns import cli, ctl
from fastdns.top import cli as top_cli

from .serving import Server, free_port, page, query, wait_for
from .test_ctl import name
from .upstream import Asked, Upstream, reply

COREFILE = """
.:{port} {
    bind 127.0.0.1
    multisocket 2
    top {
        window 10m
        OPTIONS
    }
    prometheus 127.0.0.1:METRICS
    cache
    forward . 127.0.0.1:UP
}
other.test:{port} {
    bind 127.0.0.1
    top {
        window 10m
        OPTIONS
    }
    cache
    forward . 127.0.0.1:UP
}
"""
BARE = """
.:{port} {
    bind 127.0.0.1
    cache
    forward . 127.0.0.1:UP
}
"""


def script(asked: Asked) -> Sequence[bytes | float]:
    """An address; nothing below missing.test and lan."""
    if b"\7missing\4test\0" in asked.wire or b"\3lan\0" in asked.wire:
        return [asked.wire[:2] + b"\x81\x83" + asked.wire[4:6] + bytes(6) + asked.wire[12:asked.end]]
    return [reply(asked)]


class Running:
    """A server and its upstream, and `fastdns top` at its socket."""

    def __init__(self, server: Server, folder: Path, metrics: int, upstream: int) -> None:
        self.server, self.path, self.metrics, self.upstream = server, folder / "s", metrics, upstream

    def ask(self, names: Sequence[str], clients: Sequence[str] = ("127.0.0.1",)) -> None:
        """Each name once, by the clients in turn; every answer is waited for."""
        socks = []
        for client in clients:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((client, 0))
            sock.settimeout(10)
            sock.connect(("127.0.0.1", self.server.port))
            socks.append(sock)
        for number, text in enumerate(names):
            sock = socks[number % len(socks)]
            sock.send(query(number, name(text)))
            sock.recv(4096)
        for sock in socks:
            sock.close()

    def top(self, *words: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        status = top_cli.main(["--socket", str(self.path), "--interval", "0.1", "--once", *words], out, err)
        return status, out.getvalue(), err.getvalue()

    def json(self, *words: str) -> dict[str, Any]:
        status, out, err = self.top("--json", *words)
        assert (status, err) == (0, "")
        return dict(json.loads(out))

    def lists(self, count: int = 10) -> dict[str, Any]:
        """The lists, alone."""
        return dict(top_cli.ask(self.path, count)["observed"])

    def names(self) -> dict[str, int]:
        return {row["name"]: row["least"] for row in self.lists()["names"]}

    def scrape(self) -> str:
        return page(self.metrics)


def filled(text: str, metrics: int, upstream: int, options: str = "depth 3") -> str:
    return text.replace("UP", str(upstream)).replace("METRICS", str(metrics)).replace("OPTIONS", options)


@contextlib.contextmanager
def running(folder: Path, corefile: str = COREFILE, options: str = "depth 3") -> Iterator[Running]:
    metrics = free_port()
    with Upstream(script) as upstream:
        text = filled(corefile, metrics, upstream.port, options)
        with Server(folder, text, "-control", str(folder / "s")) as server:
            yield Running(server, folder, metrics, upstream.port)


def test_heavy_hitters_of_all_workers_and_blocks_are_found_in_order(tmp_path: Path) -> None:
    chance = random.Random(3)
    known = [f"z{i:03d}.{'other.test' if i % 3 else 'test'}" for i in range(200)]
    asked = chance.choices(known, [1 / (i + 1) for i in range(len(known))], k=2500)
    asked += [f"{i:x}.missing.test" for i in range(200)] + [f"printer{i % 3}.lan" for i in range(50)]
    with running(tmp_path) as found:
        found.ask(asked, ["127.0.0.1"] * 3 + ["127.0.0.7"] * 2 + ["127.0.0.9"])
        told = found.json("--count", "5")
        everything = found.json("--count", "100")
    truth = Counter(asked).most_common(4)
    lists = told["lists"]
    assert [(row["name"], row["least"]) for row in lists["names"]][:4] == [(f"{n}.", count) for n, count in truth]
    assert all(row["least"] <= row["most"] for row in lists["names"]) and len(lists["names"]) == 5
    assert [row["client"] for row in lists["clients"]] == ["127.0.0.1", "127.0.0.7", "127.0.0.9"]
    assert sum(row["least"] for row in lists["clients"]) == lists["queries"] == 2750
    assert [row["suffix"] for row in lists["suffixes"]] == ["missing.test.", "lan."]
    assert lists["nxdomain"] == 250 and lists["suffixes"][0]["least"] == 200
    assert len(everything["lists"]["names"]) == 100
    assert [one["index"] for one in told["workers"]] == [0, 1]
    assert {"supervisor", "web", "keeper", "template", "spare"} <= {one["role"] for one in told["others"]}
    (upstream,) = told["upstreams"]
    assert upstream["to"].startswith("127.0.0.1:") and not upstream["drained"]
    assert told["notes"] == []


def test_figures_are_of_the_time_between_two_looks(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        found.ask(["a.test"] * 50)
        before = top_cli.ask(found.path, 10)
        found.ask(["a.test", "b.test", "c.missing.test", "a.test"])
        after = top_cli.ask(found.path, 10)
    read = [{one["pid"]: one["queries"] for one in answer["processes"] if one["role"] == "worker"}
            for answer in (before, after)]
    assert sum(read[0].values()) == 50 and sum(read[1].values()) == 54 and read[0].keys() == read[1].keys()
    assert before["responses"] == {"NOERROR": 50}
    assert after["responses"] == {"NOERROR": 53, "NXDOMAIN": 1}
    assert (before["cache_hits"], before["cache_misses"]) == (49, 1)
    assert (after["cache_hits"], after["cache_misses"]) == (51, 3)
    assert sum(after["durations"]["counts"]) == 54 and sum(after["upstreams"][0]["times"]["counts"]) == 3
    assert all(one["cpu_seconds"] > 0 for one in after["processes"] if one["role"] == "worker")


def test_the_command_line_as_a_person_types_it(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        found.ask(["www.test"] * 20)
        out, err = io.StringIO(), io.StringIO()
        words = ["top", "-socket", str(found.path), "-once", "-interval", "0.1"]
        assert cli.main(words, out, err) == 0 and err.getvalue() == ""
    assert out.getvalue().startswith("fastdns: up ") and "worker 0" in out.getvalue()
    assert "www.test." in out.getvalue() and "127.0.0.1" in out.getvalue()


def test_without_the_directive_everything_else_is_shown(tmp_path: Path) -> None:
    with running(tmp_path, BARE) as found:
        found.ask(["www.test"] * 20)
        status, out, err = found.top()
        told = found.json()
    assert (status, err) == (0, "") and "worker 0" in out and "127.0.0.1:" in out
    assert "no clients and names: write `top` into the server blocks" in out
    assert "no response codes and durations: write `prometheus`" in out
    assert told["lists"] is None and told["rcodes"] is None and len(told["notes"]) == 2


def test_no_server_is_said(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["top", "--socket", str(tmp_path / "none"), "--once"], out, err) == 1
    assert out.getvalue() == "" and err.getvalue() == f"fastdns top: {tmp_path / 'none'}: no such file or directory\n"


@pytest.mark.parametrize("count", [0, 101])
def test_too_many_rows_are_refused(tmp_path: Path, count: int) -> None:
    with running(tmp_path, BARE) as found, pytest.raises(top_cli.TalkError, match="count is 1 to 100"):
        top_cli.ask(found.path, count)


def test_two_readers_at_once_see_the_same_while_it_is_written(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        with ThreadPoolExecutor(3) as pool:
            load = pool.submit(found.ask, [f"n{i % 300}.test" for i in range(3000)])
            looks = [pool.submit(lambda: [found.json() for _ in range(8)]) for _ in range(2)]
            seen = [look.result() for look in looks]
            load.result()
        first, second = found.lists(100), found.lists(100)
    for told in seen:
        assert len(told) == 8
        assert [one["lists"]["queries"] for one in told] == sorted(one["lists"]["queries"] for one in told)
    assert first | {"seconds": 0} == second | {"seconds": 0} and first["queries"] == 3000


def test_lists_outlive_processes_and_a_reload_that_leaves_the_settings(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        found.ask(["a.test"] * 30, [f"127.0.0.{i}" for i in range(1, 30)])
        assert found.names() == {"a.test.": 30}
        old = found.server.children("worker")
        os.kill(old[0], signal.SIGKILL)
        wait_for(lambda: len([one for one in found.json()["workers"] if one["pid"] not in old[:1]]) == 2,
                 "the spare to take over")
        assert found.names() == {"a.test.": 30}, "nothing is lost"
        found.ask(["a.test"] * 10, [f"127.0.0.{i}" for i in range(1, 11)])
        assert found.names() == {"a.test.": 40}
        for role in ("web", "formatter"):
            for pid in found.server.children(role):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: found.top()[0] == 0, "another web process")
        assert found.names() == {"a.test.": 40}
        (template,) = found.server.children("templat")
        os.kill(template, signal.SIGKILL)
        wait_for(lambda: set(found.server.children("templat")) - {template}, "another template")
        # Of two workers one is of the template before, and the web process is of the new one.
        for role in ("worker", "web"):
            gone = found.server.children(role)[0]
            os.kill(gone, signal.SIGKILL)
            wait_for(lambda gone=gone: gone not in found.server.children() and found.top()[0] == 0, "the end of one")
            wait_for(lambda: len(found.json()["workers"]) == 2, "its successor")
        assert found.names() == {"a.test.": 40}
        found.ask(["a.test"] * 20, [f"127.0.0.{i}" for i in range(1, 21)])
        assert found.names() == {"a.test.": 60}
        out = io.StringIO()
        found.server.write(filled(COREFILE, found.metrics, found.upstream, "depth 3\n        metrics 5"))
        assert ctl.main(["--socket", str(found.path), "reload"], out, out) == 0
        wait_for(lambda: found.json()["generation"] == 2, "the new web process")
        found.ask(["a.test"] * 5)
        assert found.names() == {"a.test.": 65} and found.lists()["seconds"] > 0
        found.server.write(filled(COREFILE, found.metrics, found.upstream, "depth 2"))
        assert ctl.main(["--socket", str(found.path), "reload"], out, out) == 0
        wait_for(lambda: found.json()["generation"] == 3, "the new web process")
        assert found.names() == {}
        found.ask(["b.test"] * 3)
        assert found.names() == {"b.test.": 3}
        # A Corefile without the directive lets go of everything.
        found.server.write(filled(BARE, found.metrics, found.upstream))
        assert ctl.main(["--socket", str(found.path), "reload"], out, out) == 0
        wait_for(lambda: found.json()["generation"] == 4, "the new web process")
        assert found.json()["lists"] is None


def test_clients_are_told_where_it_was_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    client = "127.0.0.77"
    with running(tmp_path) as found:
        found.ask(["secret.test"] * 5, [client])
        assert client in found.top()[1]
        out = io.StringIO()
        for words in (["report"], ["stats"], ["workers"]):
            assert ctl.main(["--socket", str(found.path), "--json", *words], out, out) == 0
        text = out.getvalue() + found.scrape()
        assert "fastdns_top_counted_total 5" in text
        assert client not in text and "secret" not in text and "queries_per_second" not in text


def test_metrics_are_bounded(tmp_path: Path) -> None:
    with running(tmp_path, options="metrics 3") as found:
        found.ask([f"n{i}.{'missing.' if i % 2 else ''}test" for i in range(40)] + ["hot.test"] * 5,
                  [f"127.0.0.{i}" for i in range(1, 9)])
        lines = [line for line in found.scrape().splitlines() if line.startswith("fastdns_top_")]
    rows = Counter(line.split("{")[0] for line in lines)
    assert rows == {"fastdns_top_client_queries_per_second": 3, "fastdns_top_name_queries_per_second": 3,
                    "fastdns_top_nxdomain_queries_per_second": 1,
                    "fastdns_top_counted_total 45": 1, "fastdns_top_evictions_total 0": 1}
    assert any('name="hot.test."' in line for line in lines)
    assert any('suffix="missing.test."' in line for line in lines)
