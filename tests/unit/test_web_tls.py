# SPDX-License-Identifier: Apache-2.0
"""Metrics over TLS: the web configuration's grammar and texts, and real clients before the gate: curl, ssl, silence.

Strategy: the error texts are those that CoreDNS 1.14.7 printed for the same files; certificates are trustme's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from fastdns import metrics
from fastdns._stats import Stats
from fastdns.errors import StartError
from fastdns.server import http, web, webconfig
from fastdns.server.gate import Gate
from fastdns.server.http import Answer, Server
from tests.faults import serving
from tests.machine import needs

PAIR = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
pytestmark = [
    pytest.mark.unsanitized,
    needs("curl"),
]


class Site:
    """A folder with a certificate, its authority, and a client's certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.issue("server")
        client = self.authority.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
        self.write(PAIR)

    def issue(self, name: str) -> None:
        """A fresh certificate for localhost in NAME.pem and NAME.key, renamed into place as tools do."""
        made = self.authority.issue_cert("localhost", "127.0.0.1")
        for ending, blob in (("key", made.private_key_pem), ("pem", made.cert_chain_pems[0])):
            blob.write_to_path(str(self.folder / "new"))
            (self.folder / "new").rename(self.folder / f"{name}.{ending}")

    def write(self, text: str) -> Path:
        (self.folder / "web.yml").write_text(text)
        return self.folder / "web.yml"

    @property
    def path(self) -> str:
        return str(self.folder / "web.yml")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    metrics.attach(Stats.create(8), 2)
    return Site(tmp_path)


def failures() -> int:
    return sum(int(series.values[0]) for series in metrics.read(metrics.table())
               if series.name == "fastdns_prometheus_tls_failures_total")


class Running:
    """A Server behind a gate, in a thread."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.sock = web.bind("127.0.0.1:0")[0]
        self.port = self.sock.getsockname()[1]
        self.gate = Gate(site.path)
        self.up = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True)
        self.thread.start()
        assert self.up.wait(10)

    async def main(self) -> None:
        async def metrics() -> Answer:
            return Answer(200, b"coredns_panics_total 0\n")

        self.loop, self.end = asyncio.get_running_loop(), asyncio.Event()
        self.server = Server({"/metrics": metrics}, self.gate)
        await self.server.start([self.sock])
        self.up.set()
        await self.end.wait()
        await self.server.stop()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(10)
        self.sock.close()
        assert not self.thread.is_alive()

    def curl(self, *options: str, path: str = "/metrics", scheme: str = "https") -> tuple[int, int, str]:
        """(curl's exit status, HTTP status, headers and body)."""
        done = subprocess.run(
            ["curl", "-sS", "-i", "--max-time", "10", "--cacert", str(self.site.folder / "ca.pem"), *options,
             "-w", "\n%{http_code}", f"{scheme}://localhost:{self.port}{path}"], capture_output=True, text=True)
        body, _, status = done.stdout.rpartition("\n")
        return done.returncode, int(status or 0), body + done.stderr


@pytest.fixture
def start(site: Site) -> Iterator:
    running: list[Running] = []

    def begin(text: str = PAIR) -> Running:
        site.write(text)
        running.append(Running(site))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


def test_curl_over_tls(start) -> None:
    running = start()
    code, status, text = running.curl()
    assert (code, status) == (0, 200) and text.endswith("coredns_panics_total 0\n")
    assert running.curl(path="/other")[1] == 404
    assert running.curl("--tls-max", "1.2")[1] == 200
    assert running.curl("--http2")[1] == 200  # offered by the client, HTTP/1.1 is chosen
    assert running.curl(scheme="http")[1] == 0  # nobody speaks plain HTTP there
    assert running.curl()[1] == 200


def test_a_new_certificate_is_used_at_once_and_a_bad_one_never(start, site: Site, caplog) -> None:
    running = start()
    assert running.curl()[1] == 200
    (site.folder / "server.pem").write_text("half a certif")
    assert running.curl()[1] == 200
    assert "what was read before goes on" in caplog.text
    assert failures() == 1
    site.authority = trustme.CA()
    site.authority.cert_pem.write_to_path(str(site.folder / "ca.pem"))
    site.issue("server")
    assert running.curl()[1] == 200  # signed by the new authority alone
    site.write("basic_auth_users: {}\n")
    assert running.curl()[1] == 200
    assert "TLS cannot be turned on or off without a reload" in caplog.text


@pytest.mark.parametrize("raised", [KeyError("x"), OSError(5, "input/output error"), RecursionError("deep")])
def test_whatever_goes_wrong_when_a_file_is_read_again_is_counted_and_costs_nothing(
        start, site: Site, caplog, monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def fail(_path: str) -> None:
        raise raised

    running = start()
    monkeypatch.setattr(webconfig, "load", fail)
    site.write(PAIR + "\n")
    assert running.curl()[1] == running.curl()[1] == 200
    assert f"web.yml: {type(raised).__name__}: " in caplog.text
    assert failures() == 1  # what has failed is not tried again until it changes
    monkeypatch.undo()
    site.write(PAIR + "\n\n")
    assert running.curl()[1] == 200
    assert failures() == 1


@pytest.mark.parametrize("number", ["1:30", "09"])
def test_an_integer_that_go_does_not_have_is_an_error(number: str) -> None:
    with pytest.raises(StartError, match="cannot unmarshal !!"):
        webconfig.parse(f"rate_limit:\n  burst: {number}\n")


CLIENT = PAIR + "  client_ca_file: ca.pem\n  client_auth_type: {}\n"


def test_clients_show_certificates(start, site: Site) -> None:
    known = ("--cert", str(site.folder / "client.pem"))
    stranger = site.folder / "stranger.pem"
    trustme.CA().issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(stranger))
    strict = start(CLIENT.format("RequireAndVerifyClientCert"))
    assert strict.curl(*known)[1] == 200
    assert strict.curl()[1] == strict.curl("--cert", str(stranger))[1] == 0
    loose = start(CLIENT.format("VerifyClientCertIfGiven"))
    assert loose.curl(*known)[1] == loose.curl()[1] == 200
    assert loose.curl("--cert", str(stranger))[1] == 0
    for names, status in (("client.example", 200), ("x.example", 0)):
        named = start(CLIENT.format("RequireAndVerifyClientCert") + f"  client_allowed_sans: [{names}]\n")
        assert named.curl(*known)[1] == status


def test_passwords_headers_and_rate(start) -> None:
    secret = bcrypt.hashpw(b"geheim", bcrypt.gensalt(4)).decode()
    running = start(f"basic_auth_users:\n  ops: {secret}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n")
    code, status, text = running.curl(scheme="http")
    assert (code, status) == (0, 401) and "WWW-Authenticate: Basic" in text and text.endswith("Unauthorized\n")
    for user, expected in (("ops:geheim", 200), ("ops:geheim", 200), ("ops:x", 401), ("x:geheim", 401), ("ops", 401)):
        assert running.curl("-u", user if ":" in user else user + ":", scheme="http")[1] == expected
    assert "X-Frame-Options: deny" in running.curl("-u", "ops:geheim", scheme="http")[2]
    assert running.curl("-H", "Authorization: Basic !!!", scheme="http")[1] == 401
    limited = start(PAIR + "rate_limit:\n  interval: 1h\n  burst: 2\n")
    assert [limited.curl()[1] for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("options, code", [(("--tls-max", "1.2"), 0), ((), 200)])
def test_versions(start, options: tuple[str, ...], code: int) -> None:
    assert start(PAIR + "  min_version: TLS13\n  curve_preferences: [CurveP384]\n").curl(*options)[1] == code


def test_suites(start) -> None:
    running = start(PAIR + "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
                           "  prefer_server_cipher_suites: false\n")
    assert running.curl("--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256")[1] == 0
    assert running.curl("--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")[1] == 200


def test_handshakes_are_bounded_in_number_and_time(start, monkeypatch) -> None:
    """Who connects and says nothing, or nonsense, is closed; others are served meanwhile."""
    monkeypatch.setattr(http, "SECONDS", 0.5)
    monkeypatch.setattr(http, "CONNECTIONS", 4)
    running = start()
    silent = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(3)]
    assert running.curl()[1] == 200
    more = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(5)]
    for sock in silent + more:
        assert sock.recv(100) == b""
        sock.close()
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        sock.send(b"\x16\x03\x01\x02\x00" + os.urandom(512))
        while sock.recv(100):
            continue
    context = ssl.create_default_context(cafile=str(running.site.folder / "ca.pem"))
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as sock:
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            assert tls.recv(100) == b""  # the handshake alone is no request
    assert running.curl()[1] == 200


@pytest.mark.parametrize("text, error", [
    ("tls_server_config:\n  cert_file: server.pem\n", "missing one of key or key_file"),
    ("tls_server_config:\n  key_file: server.key\n", "missing one of cert or cert_file"),
    ("tls_server_config:\n  cert_fil: c\nfoo: 1\n",
     "yaml: unmarshal errors:\n  line 2: field cert_fil not found in type web.TLSConfig\n"
     "  line 3: field foo not found in type web.Config"),
    (PAIR + "  prefer_server_cipher_suites: maybe\nhttp_server_config: 5\nrate_limit: {burst: x, interval: 3}\n",
     "yaml: unmarshal errors:\n  line 4: cannot unmarshal !!str `maybe` into bool\n"
     "  line 5: cannot unmarshal !!int `5` into web.HTTPConfig\n  line 6: cannot unmarshal !!str `x` into int"),
    (PAIR + "  cert_file: d.pem\n",
     "yaml: unmarshal errors:\n  line 4: field cert_file already set in type web.TLSConfig"),
    (PAIR + "  min_version: TLS9\n", "unknown TLS version: TLS9"),
    (PAIR + "  cipher_suites: [FOO]\n", "unknown cipher: FOO"),
    (PAIR + "  curve_preferences: [BAR]\n", "unknown curve: BAR"),
    (PAIR + "  client_auth_type: Foo\n", "invalid ClientAuth: Foo"),
    (PAIR + "  client_ca_file: ca.pem\n", "client CA's have been configured without a Client Auth Policy"),
    (PAIR + "  client_auth_type: RequestClientCert\n",
     "client_auth_type RequestClientCert: a certificate that nobody verifies is not asked for"),
    (PAIR + "  curve_preferences: [X25519, CurveP256]\n",
     "curve_preferences: this version of Python takes one curve only"),
    ("http_server_config:\n  headers:\n    X-Frame-Options: foo\n",
     'invalid value for X-Frame-Options. Expected one of: ["deny" "sameorigin"], but got: "foo"'),
    ("http_server_config:\n  headers:\n    X-Foo: foo\n", 'HTTP header "X-Foo" can not be configured'),
    ("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\r\\nb\"\n",
     'invalid value for X-XSS-Protection: "a\\r\\nb"'),
    ("basic_auth_users:\n  a: b\n", "crypto/bcrypt: hashedSecret too short to be a bcrypted password"),
])
def test_what_is_wrong_is_said_as_coredns_says_it(site: Site, text: str, error: str) -> None:
    site.write(text)
    with pytest.raises(StartError) as caught:
        Gate(site.path)
    assert str(caught.value) == error


def test_files_that_are_none(site: Site) -> None:
    with pytest.raises(StartError, match=r"^TLS config file does not exist: .*/none\.yml$"):
        web.open_gate(str(site.folder / "none.yml"))
    site.write(PAIR.replace("server.pem", "none.pem"))
    with pytest.raises(StartError) as caught:
        web.open_gate(site.path)
    path = site.folder / "none.pem"
    reason = f"failed to read cert_file ({path}): open {path}: no such file or directory"
    assert str(caught.value) == f"Failed to start HTTPS metrics server: {reason}"
    site.write(PAIR)
    site.issue("other")
    (site.folder / "other.key").rename(site.folder / "server.key")
    with pytest.raises(StartError, match="failed to load X509KeyPair: tls: private key does not match public key"):
        Gate(site.path)
    (site.folder / "server.key").write_text("")
    with pytest.raises(StartError, match="failed to load X509KeyPair: tls: "):
        Gate(site.path)
    (site.folder / "web.yml").write_bytes(b"a" * (webconfig.FILE_MAX + 1))
    with pytest.raises(StartError, match="more than 1048576 octets"):
        Gate(site.path)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_:-[]{}&*!|>'\"%@` \n#,?0123456789", max_size=200))
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    try:
        assert set(webconfig.parse(text)) >= {"tls_server_config"}
    except StartError as error:
        assert str(error)


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(StartError, match="yaml: "):
        webconfig.parse("[" * 100_000)


def test_pem_inside_the_file(start, site: Site) -> None:
    def block(name: str) -> str:
        return "".join(f"    {line}\n" for line in (site.folder / name).read_text().splitlines())

    running = start(f"tls_server_config:\n  cert: |\n{block('server.pem')}  key: |\n{block('server.key')}")
    assert running.curl()[1] == 200


def test_the_whole_server(site: Site) -> None:
    """The path is relative to where the server runs; what is no good is logged and the server goes on."""
    corefile = (".:{port} {\n bind 127.0.0.1\n multisocket 1\n prometheus localhost:{port2} {\n  tls web.yml\n }\n}\n"
                "a.test:{port} {\n bind 127.0.0.1\n prometheus localhost:{port3} {\n  tls none.yml\n }\n}\n")
    with serving.Server(site.folder, corefile, ports=3) as server:
        assert "[ERROR] TLS config file does not exist: none.yml\n" in server.out
        done = subprocess.run(["curl", "-sS", "--cacert", str(site.folder / "ca.pem"),
                               f"https://localhost:{server.ports[1]}/metrics"], capture_output=True, text=True)
        assert "coredns_build_info{" in done.stdout, done.stderr
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.ports[2]), timeout=5)
