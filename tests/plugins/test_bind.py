# SPDX-License-Identifier: Apache-2.0
"""bind: grammar, errors, interfaces; and multisocket, reload and loop, whose grammar is as small."""

from __future__ import annotations

import pytest

from fastdns import chain
from fastdns.corefile.source import Source, load_source
from fastdns.errors import ConfigError
from fastdns.plugins.bind import handler as bind


def plan(directives: str) -> dict:
    source = Source("Corefile", f".:1053 {{\n{directives}\nwhoami\n}}\n".encode())
    return chain.load(load_source(source, chain.known(), chain.not_built())).plan()


def listen(directives: str) -> list[str]:
    return [at["address"] for at in plan(directives)["listeners"]]


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind, "interface_addresses", lambda: {
        "lo": ["127.0.0.1", "::1"], "eth0": ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"], "none": []})


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize(
    ("directives", "addresses"),
    [
        ("", [""]),
        ("bind 127.0.0.1", ["127.0.0.1"]),
        ("bind 127.0.0.1 ::1", ["127.0.0.1", "::1"]),
        ("bind 127.0.0.1\nbind ::1", ["127.0.0.1", "::1"]),
        ("bind lo", ["127.0.0.1", "::1"]),
        ("bind eth0", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]),
        ("bind lo {\nexcept 127.0.0.1\n}", ["::1"]),
        ("bind eth0 lo {\nexcept lo\n}", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"]),
        ("bind lo {\nexcept 127.0.0.1\n}\nbind 127.0.0.1", ["::1", "127.0.0.1"]),
    ],
)
def test_addresses(directives: str, addresses: list[str]) -> None:
    assert listen(directives) == addresses


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize(
    ("directives", "text"),
    [
        ("bind", "plugin/bind: at least one address or interface name is expected"),
        ("bind xx", 'plugin/bind: not a valid IP address or interface name: "xx"'),
        ("bind lo {\nexcept xx\n}", 'plugin/bind: not a valid IP address or interface name: "xx"'),
        ("bind lo {\nexcep 127.0.0.1\n}", 'plugin/bind: invalid option "excep"'),
        ("bind 127.0.0.1 127.0.0.1", "cannot serve dns://.:1053 on 127.0.0.1 - it is already defined"),
        ("bind none", "cannot serve dns://.:1053 - no address is left to bind to"),
        ("bind lo {\nexcept 127.0.0.1 ::1\n}", "cannot serve dns://.:1053 - no address is left to bind to"),
        ("bind lo {\nexcept\n}",
         "plugin/bind: at least one address or interface must be given to except subdirective"),
        ("multisocket 0", "plugin/multisocket: num sockets can not be zero or negative: 0"),
        ("multisocket -1", "plugin/multisocket: num sockets can not be zero or negative: -1"),
        ("multisocket 1025", "plugin/multisocket: num sockets exceeds maximum (1024): 1025"),
        ("multisocket x", 'plugin/multisocket: invalid num sockets: strconv.Atoi: parsing "x": invalid syntax'),
        ("multisocket 1 2", "plugin/multisocket: Corefile:2 - Error during parsing: "
                            "Wrong argument count or unexpected line ending after '2'"),
        ("multisocket 2 {\nx\n}", "plugin/multisocket: Corefile:2 - Error during parsing: "
                                  "Unexpected token '{', expecting argument"),
        ("multisocket 2 {\n}", "plugin/multisocket: Corefile:2 - Error during parsing: "
                               "Unexpected token '{', expecting argument"),
        ("multisocket 2 {\nsteer\n}", "plugin/multisocket: Corefile:3 - Error during parsing: "
                                      "Wrong argument count or unexpected line ending after 'steer'"),
        ("multisocket 2 {\nsteer flow cpu\n}", "plugin/multisocket: Corefile:3 - Error during parsing: "
                                               "Wrong argument count or unexpected line ending after 'cpu'"),
        ("multisocket 2 {\nsteer around\n}", "plugin/multisocket: unknown way to steer: around"),
        ("multisocket 2 {\nsteer cpu\nstir\n}", "plugin/multisocket: Corefile:4 - Error during parsing: "
                                                "unknown property 'stir'"),
        ("multisocket 0 {\nsteer cpu\n}", "plugin/multisocket: num sockets can not be zero or negative: 0"),
        ("multisocket 2 {\nsteer cpu\n}\nmultisocket", "plugin/multisocket: Corefile:5 - Error during parsing: "
         "Wrong argument count or unexpected line ending after 'multisocket'"),
        ("multisocket 2\nmultisocket 3", "plugin/multisocket: Corefile:3 - Error during parsing: "
                                         "Wrong argument count or unexpected line ending after 'multisocket'"),
        ("reload 1s", "plugin/reload: interval value must be greater or equal to 2s"),
        ("reload -5s", "plugin/reload: interval value must be greater or equal to 2s"),
        ("reload x", 'plugin/reload: time: invalid duration "x"'),
        ("reload 5s x", 'plugin/reload: time: invalid duration "x"'),
        ("reload 10s 500ms", "plugin/reload: jitter value must be 0 or greater or equal to 1s"),
        ("reload 10s 2s 3s", "plugin/reload: Corefile:2 - Error during parsing: "
                             "Wrong argument count or unexpected line ending after '3s'"),
        ("loop x", "plugin/loop: Corefile:2 - Error during parsing: "
                   "Wrong argument count or unexpected line ending after 'x'"),
        ("loop\nloop", "plugin/loop: this plugin can only be used once per Server Block"),
    ],
)
def test_errors_are_coredns_s(directives: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(directives)
    assert str(caught.value) == text


@pytest.mark.parametrize(("directives", "sockets"), [("", 0), ("multisocket", -1), ("multisocket 1024", 1024)])
def test_sockets(directives: str, sockets: int) -> None:
    assert plan(directives)["listeners"][0]["sockets"] == sockets


@pytest.mark.parametrize(
    ("directives", "sockets", "steer"),
    [
        ("", 0, "flow"),
        ("multisocket 3", 3, "flow"),
        ("multisocket 3 {\nsteer random\n}", 3, "random"),
        ("multisocket {\nsteer cpu\n}", -1, "cpu"),
        ("multisocket 3 {\nsteer cpu\nsteer flow\n}", 3, "flow"),
    ],
)
def test_steering(directives: str, sockets: int, steer: str) -> None:
    at = plan(directives)["listeners"][0]
    assert (at["sockets"], at["steer"]) == (sockets, steer)


@pytest.mark.parametrize(
    ("directives", "interval", "jitter"),
    [
        ("reload", 30.0, 15.0),
        ("reload 10s", 10.0, 5.0),
        ("reload 10s 0s", 10.0, 0.0),
        ("reload 10s 8s", 10.0, 5.0),
        ("reload 2s 1s", 2.0, 1.0),
        ("reload 10s\nreload 9s x y z", 10.0, 5.0),  # CoreDNS reads the first line only
    ],
)
def test_reload_times(directives: str, interval: float, jitter: float) -> None:
    assert plan(directives)["reload"] == {"interval": interval, "jitter": jitter}


def test_interfaces_of_this_host() -> None:
    assert "127.0.0.1" in bind.interface_addresses()["lo"]
