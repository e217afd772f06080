# SPDX-License-Identifier: Apache-2.0
"""metadata: labels from compiled stages and from Python, in lines of log."""

from __future__ import annotations

import pytest

from fastdns import chain
from fastdns.corefile import Dispenser, load_source, tokenize
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError
from fastdns.labels import LABELS_MAX, NOWHERE, Labels
from fastdns.numbers import NXDOMAIN, SERVFAIL, A
from fastdns.plugins.metadata import Metadata
from fastdns.testing import Server, Worker
from tests.faults.upstream import Asked, Upstream, reply
from tests.probes import installed

FORMAT = "{name} {rcode} up={/forward/upstream} type={/log/type} class={/log/class} none={/not/set}"
COLLECTED = "{/label/name} {/label/lazy}|{/label/down}|{/label/up}|{/label/empty}|{/label/broken}|{/forward/upstream}"


def script(asked: Asked) -> list[bytes]:
    if asked.name.lower().startswith("missing"):
        return [reply(asked, rcode=NXDOMAIN, answers=0)]
    return [reply(asked, answers=1)]


@pytest.fixture(scope="module")
def upstream():
    with Upstream(script) as upstream:
        yield upstream


def block(upstream: Upstream, line: str, shown: str) -> str:
    """A block with the plugin that sets labels."""
    return f'. {{\n{line}\nlog . "{shown}"\nlabel\nforward . 127.0.0.1:{upstream.port}\n}}\n'


# What CoreDNS prints with the same Corefile and such an upstream.
@pytest.mark.parametrize(
    ("lines", "name", "printed"),
    [
        ("metadata", "there.example.", "NOERROR up=HERE type=NOERROR class=success none=-"),
        ("metadata", "missing.example.", "NXDOMAIN up=HERE type=NXDOMAIN class=denial none=-"),
        ("metadata example.org", "elsewhere.example.", "NOERROR up=HERE type=NOERROR class=success none=-"),
        ("", "there.example.", "NOERROR up=- type=- class=- none=-"),
    ],
)
def test_labels_of_compiled_stages(upstream, lines, name, printed):
    corefile = f'. {{\n{lines}\nlog . "{FORMAT}"\nforward . 127.0.0.1:{upstream.port}\n}}\n'
    with Server(corefile) as server:
        for proto in ("udp", "tcp"):
            server.ask(name, A, proto)
            line = server.wait_for(f"{name} ")
            assert line == f"[INFO] {name} {printed.replace('HERE', f'127.0.0.1:{upstream.port}')}"
            server.output.clear()


def test_a_hit_of_the_cache_has_no_upstream(upstream):
    corefile = f'. {{\nmetadata\nlog . "{FORMAT}"\ncache\nforward . 127.0.0.1:{upstream.port}\n}}\n'
    with Server(corefile) as server:
        server.ask("hit.example.", A)
        assert f"up=127.0.0.1:{upstream.port} " in server.wait_for("hit.example. ")
        server.output.clear()
        server.ask("hit.example.", A)
        assert "up=- type=NOERROR class=success" in server.wait_for("hit.example. ")


def test_the_upstream_that_was_tried_last(upstream):
    corefile = f'. {{\nmetadata\nlog . "{FORMAT}"\nforward . 127.0.0.1:1 {{\nmax_connect_attempts 1\n}}\n}}\n'
    with Server(corefile) as server:
        assert server.ask("dead.example.", A, seconds=8).rcode == SERVFAIL
        assert "SERVFAIL up=127.0.0.1:1 type=SERVERERROR class=error" in server.wait_for("dead.example. ")


def test_each_waiter_has_its_label(upstream):
    # Equal questions in flight are one question: all who waited learn who answered.
    import socket

    from fastdns.testing import question

    corefile = f'. {{\nmetadata\nlog . "{{>id}} {{/forward/upstream}}"\nforward . 127.0.0.1:{upstream.port}\n}}\n'
    with Server(corefile) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", server.port))
        for ident in range(1, 9):
            sock.send(question("same.example.", A, id=ident))
        for _ in range(8):
            sock.recv(512)
        for ident in range(1, 9):
            server.wait_for(f"[INFO] {ident} 127.0.0.1:{upstream.port}")


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("a.example.org.", "a.example.org. type 1|\u00fc?|after HERE|||HERE"),
        ("a.example.net.", "- -|\u00fc?|after HERE||-|HERE"),
    ],
)
def test_labels_cross_between_python_and_compiled_stages(upstream, tmp_path, name, printed):
    corefile = block(upstream, "metadata example.org", COLLECTED)
    with installed(tmp_path) as environ, Server(corefile, environ=environ) as server:
        for proto in ("udp", "tcp"):
            assert server.ask(name, A, proto).rcode == 0
            line = server.wait_for("after ")
            assert line == f"[INFO] {printed.replace('HERE', f'127.0.0.1:{upstream.port}')}"
            server.output.clear()


def test_a_value_is_cut(upstream, tmp_path):
    corefile = block(upstream, "metadata", "long {/label/long} {/label/name}")
    with installed(tmp_path) as environ, Server(corefile, environ=environ) as server:
        assert server.ask("cut.example.", A).rcode == 0
        assert server.wait_for("long ") == "[INFO] long " + "x" * 1024 + " cut.example."


def test_without_metadata_nothing_is_kept(upstream, tmp_path):
    corefile = block(upstream, "", COLLECTED)
    with installed(tmp_path) as environ, Server(corefile, environ=environ) as server:
        assert server.ask("a.example.", A).rcode == 0
        assert server.wait_for("- -|") == "[INFO] - -|-|-|-|-|-"


def test_a_panic_of_a_value_costs_the_value_alone(upstream, tmp_path):
    corefile = block(upstream, "metadata", COLLECTED)
    with installed(tmp_path), Worker(corefile) as worker:
        assert worker.ask("a.example.", A).rcode == 0
        assert worker.counter("coredns_panics_total") > 0
        for _ in range(200):
            worker.ask("a.example.", A)
        assert worker.engine.in_flight == 0


def parse(text: str) -> list:
    return Metadata.parse(Dispenser("Corefile", tokenize(text), ("dns://example.org.:53",), "metadata"))


@pytest.mark.parametrize(
    ("text", "zones"),
    [
        ("metadata", ("example.org.",)),
        ("metadata a.example B.Example.", ("a.example.", "b.example.")),
        ("metadata 10.0.0.0/8", ("10.in-addr.arpa.",)),
        ("metadata a {\n}", ("a.",)),
    ],
)
def test_zones(text, zones):
    (config,) = parse(text)
    assert config.zones == zones


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [("metadata {\n x\n}", 2, "x"), ("metadata a\nmetadata b", 2, "metadata")],
)
def test_a_second_one_and_a_block_are_refused(text, line, word):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == (
        f"plugin/metadata: Corefile:{line} - Error during parsing: Wrong argument count or unexpected line ending "
        f"after '{word}'"
    )


def test_only_what_is_read_is_kept():
    labels = Labels(kept=True)
    assert [labels.read(name) for name in ("a/b", "c/d", "a/b")] == [0, 1, 0]
    assert [labels.place(name) for name in ("c/d", "e/f")] == [1, NOWHERE]
    assert Labels().read("a/b") == Labels().place("a/b") == NOWHERE


def test_too_many_labels_are_refused():
    text = " ".join(f"{{/label/{n}}}" for n in range(LABELS_MAX + 1))
    source = Source("Corefile", f'.:53 {{\nmetadata\nlog . "{text}"\nwhoami\n}}\n'.encode())
    generation = chain.load(load_source(source, chain.known(), chain.not_built()))
    from fastdns._stats import Stats

    with pytest.raises(ConfigError, match=f"plugin/log: a block reads at most {LABELS_MAX} metadata labels"):
        generation.build(Stats.create(4), None, [1], 1)
