# SPDX-License-Identifier: Apache-2.0
"""loop: the probe of a running server comes back, or does not."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path

import pytest

from fastdns.plugins.loop._loop import WORDS, probe, stage
from tests.faults.serving import Server, query, wait_for

COREFILE = "{zone}:{port} {\n bind 127.0.0.1\n multisocket 2\n loop\n log\n whoami\n}\n"


def wire(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".")) + b"\0"


def probed(server: Server) -> str:
    """The name that the server asked itself for, from its query log."""
    found: list[str] = []

    def there() -> bool:
        found[:] = re.findall(r'"HINFO IN (\S+) udp ', server.out)
        return bool(found)

    wait_for(there, "the probe")
    return found[0]


@pytest.mark.parametrize("zone", [".", "example.org."])
def test_a_probe_that_comes_back_ends_the_server(tmp_path: Path, zone: str) -> None:
    with Server(tmp_path, COREFILE.replace("{zone}", zone)) as server:
        name = probed(server)
        assert re.fullmatch(r"\d+\.\d+\." + ("" if zone == "." else re.escape(zone)), name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.1", 0))
            # Twice more: seen three times in all, whichever worker each of them lands on. Letter case does not matter.
            for number in range(2):
                client.sendto(query(number, wire(name.upper()), 13), ("127.0.0.1", server.port))
            assert server.process.wait(20) == 1
            remote = client.getsockname()
        assert (f"[FATAL] plugin/loop: Loop ({remote[0]}:{remote[1]} -> 127.0.0.1:{server.port}) detected for zone "
                f'"{zone}", see https://coredns.io/plugins/loop#troubleshooting. Query: "HINFO {name}"\n') in server.out


@pytest.mark.parametrize("sockets", [1, 2])
@pytest.mark.parametrize("more", ["", "cache", "errors\n log\n cancel"])
def test_a_server_that_forwards_to_itself_ends(tmp_path: Path, sockets: int, more: str) -> None:
    # A lap may land where the lap before is in flight: equal questions are asked once, this one is not.
    lines = (f"bind 127.0.0.1\n multisocket {sockets}", more, "loop\n forward . 127.0.0.1:{port}")
    with Server(tmp_path, ".:{port} {\n " + "\n ".join(lines) + "\n}\n") as server:
        assert server.process.wait(20) == 1
        assert " detected for zone \".\", see " in server.out


@pytest.mark.parametrize("sockets", [1, 2])
def test_a_reload_into_a_loop_ends_the_server(tmp_path: Path, sockets: int) -> None:
    # The workers of before still read for a moment: a probe that they answer says nothing.
    before = f".:{{port}} {{\n bind 127.0.0.1\n multisocket {sockets}\n loop\n whoami\n}}\n"
    with Server(tmp_path, before) as server:
        corefile = tmp_path / "Corefile"
        corefile.write_text(corefile.read_text().replace("whoami", f"forward . 127.0.0.1:{server.port}"))
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.wait(20) == 1
        assert " detected for zone \".\", see " in server.out


def test_other_questions_and_two_probes_are_no_loop(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE.replace("{zone}", ".")) as server:
        name = probed(server)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(query(0, wire(name), 13), ("127.0.0.1", server.port))
            for number in range(5):
                client.sendto(query(number, wire(name), 1), ("127.0.0.1", server.port))
                client.sendto(query(number, wire("1." + name), 13), ("127.0.0.1", server.port))
        time.sleep(0.5)
        assert server.process.poll() is None


def test_after_two_seconds_the_check_is_over(tmp_path: Path) -> None:
    with Server(tmp_path, COREFILE.replace("{zone}", ".")) as server:
        name = probed(server)
        time.sleep(2.5)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for number in range(5):
                client.sendto(query(number, wire(name), 13), ("127.0.0.1", server.port))
        time.sleep(0.5)
        assert server.process.poll() is None


def test_the_probe_is_a_recursive_hinfo_question() -> None:
    ident, message = probe("1.2.example.org.")
    assert message == ident + bytes.fromhex("01000001000000000000") + wire("1.2.example.org.") + b"\0\x0d\0\1"


@pytest.mark.parametrize("name", ["", "a..b.", "x" * 64 + "."])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        stage(name, [1] * len(WORDS))


def test_the_number_of_words_is_checked() -> None:
    with pytest.raises(ValueError):
        stage("a.", [1])
