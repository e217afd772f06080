# SPDX-License-Identifier: Apache-2.0
"""cookie: the vectors of RFC 9018, what each cookie gets over each transport, other servers with the same secret."""

from __future__ import annotations

import ipaddress
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastdns import testing
from fastdns._drive import Bench
from fastdns._stats import Stats
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import FORMERR, REFUSED, A
from fastdns.plugins.cookie._cookie import RESULTS, judged, stage
from fastdns.plugins.cookie.config import COOKIE
from fastdns.plugins.cookie.handler import drawn_secret
from fastdns.testing import Answer, Worker, exchange, question
from tests.faults import serving
from tests.faults.upstream import Upstream
from tests.machine import needs, needs_ipv6
from tests.probes import installed

OPTION = 10
BADCOOKIE = 23
MINE = b"\x12\x34\x56\x78\x9a\xbc\xde\xf0"
SECRET = "445536bcd2513298075a5d379663c962"
OLDER = "dd3bdf9344b678b185a6f5cb60fca715"
HOME = bytes([127, 0, 0, 1])
NOW = 1_800_000_000


def secrets(*texts: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def fresh(at: int, secret: str = SECRET, client: bytes = HOME) -> bytes:
    """The whole cookie that a server with this secret gives MINE at that second."""
    return judged(MINE, client, secrets(secret), at)[1]


def now() -> int:
    return int(time.time())


# ---- RFC 9018, appendix A

FIRST = "e5e973e5a6b2a43f48e7dc849e37bfcf"
VECTORS = [
    ("A.1", "2464c4abcf10c957", "198.51.100.100", (FIRST,), 0x5CF79F11, "client",
     "2464c4abcf10c957010000005cf79f111f8130c3eee29480"),
    ("A.2", "2464c4abcf10c957010000005cf79f111f8130c3eee29480", "198.51.100.100", (FIRST,), 0x5CF7A871, "renewed",
     "2464c4abcf10c957010000005cf7a871d4a564a1442aca77"),
    ("A.3 in its time", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203", (FIRST,), 0x5CF78F71,
     "good", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5"),
    ("A.3 too late", "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", "203.0.113.203", (FIRST,), 0x5CF7A9AC, "bad",
     "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e"),
    ("A.4", "22681ab97d52c298010000005cf7c57926556bd0934c72f8", "2001:db8:220:1:59de:d0f4:8769:82b8", (SECRET, OLDER),
     0x5CF7C609, "renewed", "22681ab97d52c298010000005cf7c609a6bb79d16625507a"),
]


@pytest.mark.parametrize(("name", "sent", "client", "keys", "now", "result", "wanted"), VECTORS,
                         ids=[vector[0] for vector in VECTORS])
def test_vectors_of_rfc_9018(name, sent, client, keys, now, result, wanted):
    got = judged(bytes.fromhex(sent), ipaddress.ip_address(client).packed, secrets(*keys), now)
    assert (got[0], got[1].hex()) == (result, wanted)


# ---- what a cookie is worth


@pytest.mark.parametrize(
    ("age", "result"),
    [(0, "good"), (1800, "good"), (1801, "renewed"), (3600, "renewed"), (3601, "bad"), (-300, "good"), (-301, "bad"),
     (1 << 31, "bad"), ((1 << 31) - 1, "bad")],
)
@pytest.mark.parametrize("now", [NOW, 5, (1 << 32) - 5])
def test_ages(age, result, now):
    """Times are serial numbers: 2106 is a second like any other."""
    sent = fresh((now - age) % (1 << 32))
    told, answer = judged(sent, HOME, secrets(SECRET), now)
    assert told == result
    assert answer == (sent if result == "good" else fresh(now))


@pytest.mark.parametrize("octets", [*range(8), *range(9, 16), 41, 44, 65000])
def test_lengths_that_no_cookie_has(octets):
    assert judged(bytes(octets), HOME, secrets(SECRET), NOW) == ("malformed", b"")


@pytest.mark.parametrize("octets", [16, 17, 23, 25, 40])
def test_cookies_of_other_makers_are_bad(octets):
    assert judged(fresh(NOW).ljust(octets, b"\0")[:octets], HOME, secrets(SECRET), NOW) == ("bad", fresh(NOW))


@given(st.binary(max_size=48), st.integers(0, (1 << 32) - 1))
@example(bytes(24), 0)
def test_any_octets(cookie, now):
    result, answer = judged(cookie, HOME, secrets(SECRET, OLDER), now)
    assert result in ("client", "bad", "malformed")
    if result != "malformed":
        assert answer[:8] == cookie[:8] and judged(answer, HOME, secrets(SECRET), now) == ("good", answer)


@given(st.integers(0, 24 * 8 - 1))
def test_each_bit_counts(bit):
    sent = bytearray(fresh(NOW))
    sent[bit // 8] ^= 1 << bit % 8
    assert judged(bytes(sent), HOME, secrets(SECRET), NOW)[0] == "bad"


@given(st.ip_addresses(), st.ip_addresses())
def test_a_cookie_is_good_at_its_own_address_only(one, other):
    sent = fresh(NOW, client=one.packed)
    assert judged(sent, other.packed, secrets(SECRET), NOW)[0] == ("good" if one == other else "bad")


def test_each_secret_is_known_and_the_first_makes():
    keys = [f"{n:032x}" for n in range(4)]
    for position, key in enumerate(keys):
        told, answer = judged(fresh(NOW, key), HOME, secrets(*keys), NOW)
        assert (told, answer) == ("renewed" if position else "good", fresh(NOW, keys[0]))
    assert judged(fresh(NOW, OLDER), HOME, secrets(*keys), NOW)[0] == "bad"


OPTIONS = st.lists(st.tuples(st.sampled_from([3, 8, 10, 10, 12, 65001]), st.binary(max_size=48)), max_size=6)


@given(OPTIONS, st.booleans(), st.booleans(), st.integers(0, 1))
def test_the_query_is_put_back_as_it_was(options, good, record, proto):
    """Whatever stands in the OPT and behind it; the stage works in the query's own octets."""
    if good:
        options = [*options, (OPTION, fresh(now()))]
    wire = question("a.test.", A, options=options, bufsize=1232)
    if record:
        wire = wire[:11] + b"\2" + wire[12:] + b"\1b\0\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
    before = bytearray(wire)
    bench = Bench(stage(secrets(SECRET), False, [range(2, 8)]), Stats.create(4))
    verdict, written, rcode, octets = bench.run(wire, client=HOME.ljust(16, b"\0"), proto=proto)
    assert wire == before
    first = next((data for code, data in options if code == OPTION), None)
    result = None if first is None else judged(first, HOME, secrets(SECRET), now())[0]
    if result == "malformed":
        assert (verdict, rcode) == ("rcode", FORMERR)
    elif result == "bad" and proto == 0:
        assert (verdict, written, rcode, octets[3] & 15) == ("reply", False, BADCOOKIE, BADCOOKIE & 15)
    else:
        assert verdict == "next"


# ---- over real sockets


def cookie_of(answer: Answer) -> bytes | None:
    """The one cookie of a reply."""
    edns = answer.message.edns
    found = [option.data for option in edns.rdata if option.code == OPTION] if edns else []
    assert len(found) < 2
    return found[0] if found else None


@pytest.fixture(scope="module", params=["", "require"])
def worker(request) -> Iterator[Worker]:
    with Worker(f". {{\nprometheus 127.0.0.1:0\ncookie {{\nsecret {SECRET} {OLDER}\n{request.param}\n}}\nwhoami\n}}\n"
                ) as worker:
        worker.require = bool(request.param)
        yield worker


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("sent", "result"),
    [
        (lambda: MINE, "client"),
        (lambda: fresh(now()), "good"),
        (lambda: fresh(now() - 2000), "renewed"),
        (lambda: fresh(now(), OLDER), "renewed"),
        (lambda: fresh(now() - 4000), "bad"),
        (lambda: fresh(now(), client=bytes([127, 0, 0, 2])), "bad"),
        (lambda: MINE + bytes(8), "bad"),
        (lambda: MINE[:7], "malformed"),
        (lambda: MINE + bytes(33), "malformed"),
    ],
)  # fmt: skip
def test_what_a_cookie_gets(worker, proto, sent, result):
    before = worker.counter("fastdns_cookie_queries_total", result=result)
    cookie = sent()
    got = worker.ask("A.test", A, proto, options=[(3, b""), (OPTION, cookie)])
    refused = proto == "udp" and (result == "bad" or (result == "client" and worker.require))
    assert got.rcode == (FORMERR if result == "malformed" else BADCOOKIE if refused else 0)
    assert bool(got.additional) == (got.rcode == 0)
    answer = cookie_of(got)
    if result == "malformed":
        assert answer is None
    else:
        assert judged(answer, HOME, secrets(SECRET), now())[0] == "good" and answer[:8] == MINE
        assert (answer == cookie) == (result == "good")
    assert [o.code for o in got.message.edns.rdata if o.code != OPTION] == [3]
    assert worker.counter("fastdns_cookie_queries_total", result=result) == before + 1


def test_badcookie_is_counted(worker):
    before = worker.counter("fastdns_cookie_badcookie_total")
    rcode = worker.counter("coredns_dns_responses_total", rcode="BADCOOKIE")
    worker.ask("a.", A, options=[(OPTION, MINE + bytes(16))])
    assert worker.counter("fastdns_cookie_badcookie_total") == before + 1
    assert worker.counter("coredns_dns_responses_total", rcode="BADCOOKIE") == rcode + 1


@pytest.mark.parametrize("options", [{}, {"bufsize": 1232}, {"options": [(12, bytes(9))]}])
def test_without_a_cookie_nothing_changes(worker, options):
    got = worker.ask("a.", A, **options)
    assert got.rcode == 0 and cookie_of(got) is None


def test_of_two_cookies_the_first_counts(worker):
    got = worker.ask("a.", A, options=[(OPTION, fresh(now())), (OPTION, MINE + bytes(16))])
    assert (got.rcode, judged(cookie_of(got), HOME, secrets(SECRET), now())[0]) == (0, "good")


def test_a_cookie_of_another_address_is_bad(worker):
    def cookie(host: str, sent: bytes) -> tuple[int, bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.bind((host, 0))
            sock.sendto(question("a.", A, options=[(OPTION, sent)]), ("127.0.0.1", worker.port))
            got = Answer.of(sock.recv(512))
            return got.rcode, cookie_of(got)

    _, theirs = cookie("127.0.0.7", MINE)
    assert cookie("127.0.0.7", theirs) == (0, theirs)
    rcode, mine = cookie("127.0.0.8", theirs)
    assert rcode == BADCOOKIE and mine != theirs
    assert cookie("127.0.0.8", mine) == (0, mine)


@pytest.mark.parametrize("proto", ["udp", "tcp"])
@pytest.mark.parametrize("before", [b"", b"\0" * 5])
@pytest.mark.parametrize("behind", [None, b"\1" * 11])
def test_an_upstream_sees_no_cookie_and_its_own_goes_no_further(proto, before, behind):
    """The log shows the client's query as it came all the same, and the reply has the client's other options."""

    def script(asked):
        got = Answer.of(asked.wire)
        assert cookie_of(got) is None
        wire = bytearray(asked.wire)
        wire[2:4] = b"\x81\x80"
        at = wire.index(b"\0\0\x29") + 9  # RDLENGTH of the OPT, which is last
        options = b"\0\x0f\0\2\0\3" + b"\0\x0a\0\x10" + bytes(16)
        return [bytes(wire[:at]) + len(options).to_bytes(2, "big") + options]

    options = [(12, before), (OPTION, fresh(now()))] + ([(65001, behind)] if behind else [])
    with Upstream(script) as up, testing.Server(
            f". {{\nlog . \"{{size}} {{rcode}}\"\ncookie {{\nsecret {SECRET}\n}}\nforward . 127.0.0.1:{up.port}"
            "\n}\n") as server:
        wire = question("a.test.", A, options=options)
        got = Answer.of(exchange(wire, server.port, proto))
        assert judged(cookie_of(got), HOME, secrets(SECRET), now())[0] == "good"
        assert [o.code for o in got.message.edns.rdata] == [15, OPTION]
        (asked,) = up.asked
        left = [(o.code, o.data) for o in Answer.of(asked.wire).message.edns.rdata]
        assert left == [pair for pair in options if pair[0] != OPTION] and len(asked.wire) == len(wire) - 28
        server.wait_for(f"{len(wire)} NOERROR")


@pytest.mark.parametrize("others", [[MINE], [b""], [bytes(99), MINE, b"\1"]])
@pytest.mark.parametrize("between", [[], [(12, b"\0" * 5)]])
def test_no_further_cookie_goes_upstream_either(others, between):
    """Only the first is looked at (RFC 7873 5.2); none of the others is an upstream's business."""
    options = [(OPTION, fresh(now())), *between, *((OPTION, other) for other in others), (65001, b"x")]
    with Upstream() as up, testing.Server(
            f". {{\nlog . \"{{size}} {{rcode}}\"\ncookie {{\nsecret {SECRET}\n}}\nforward . 127.0.0.1:{up.port}"
            "\n}\n") as server:
        wire = question("a.test.", A, options=options)
        got = Answer.of(exchange(wire, server.port))
        assert got.answer and judged(cookie_of(got), HOME, secrets(SECRET), now())[0] == "good"
        (asked,) = up.asked
        left = [(o.code, o.data) for o in Answer.of(asked.wire).message.edns.rdata]
        assert left == [*between, (65001, b"x")]
        server.wait_for(f"{len(wire)} NOERROR")


def test_a_plugin_in_python_sees_the_query_without_it(tmp_path, monkeypatch):
    async def seen(_plugin, query, _next):
        codes = [option.code for option in query.message.edns.rdata]
        return query.reply().txt(f"{query.size} {len(query.wire)} {codes}")

    with installed(tmp_path):
        import fastdns_probes  # type: ignore[import-not-found]

        monkeypatch.setitem(fastdns_probes.BEHAVIOURS, "seen", seen)
        with Worker(f". {{\ncookie {{\nsecret {SECRET}\n}}\nprobe\n}}\n") as worker:
            options = [(OPTION, MINE), (12, b"\0\0"), (OPTION, b"")]
            size = len(question("seen.test.", A, options=options)) - 4 - len(MINE) - 4
            got = worker.ask("seen.test.", A, options=options)
            assert got.answer[0].endswith(f'"{size} {size} [12]"')


def test_a_query_through_python_keeps_its_cookie():
    """The query goes to Python, and what stands behind goes on with a copy of it."""
    with Worker(f". {{\ncookie {{\nsecret {SECRET}\n}}\ndemo\n}}\n") as worker:
        got = worker.ask("a.", A, options=[(OPTION, MINE), (12, b"\0\0")])
        assert got.answer and judged(cookie_of(got), HOME, secrets(SECRET), now())[0] == "good"
        assert [o.code for o in got.message.edns.rdata] == [12, OPTION]


def test_a_kept_answer_bears_each_clients_own_cookie():
    """The cookie is the server's business: the answer of demo behind it is kept, and the option is never in it."""
    with Worker(f". {{\ncookie {{\nsecret {SECRET}\n}}\ndemo\n}}\n") as worker:
        for mine in (MINE, b"anothers", MINE):
            got = worker.ask("a.", A, options=[(OPTION, mine)])
            assert got.answer and cookie_of(got)[:8] == mine
            assert judged(cookie_of(got), HOME, secrets(SECRET), now())[0] == "good"
        assert worker.counter("fastdns_kept_hits_total") == 2
        assert worker.counter("fastdns_kept_passed_total") == 0


def test_refused_by_the_server_bears_the_cookie_too():
    with Worker(f". {{\ncookie {{\nsecret {SECRET}\n}}\nrrl {{\nqueries 1 1\n}}\nwhoami\n}}\n") as worker:
        answers = [worker.ask("a.", A, "tcp", options=[(OPTION, MINE)]) for _ in range(9)]
        assert answers[-1].rcode == REFUSED
        assert all(judged(cookie_of(got), HOME, secrets(SECRET), now())[0] == "good" for got in answers)


# ---- secrets


def served(port: int, cookie: bytes) -> tuple[int, bytes | None]:
    got = Answer.of(exchange(question("a.", A, options=[(OPTION, cookie)]), port))
    return got.rcode, cookie_of(got)


def test_a_secret_rolls_over_by_reload(tmp_path: Path):
    corefile = ".:{port} {\n bind 127.0.0.1\n multisocket 2\n cookie {\n  secret SECRETS\n }\n whoami\n}\n"
    with serving.Server(tmp_path, corefile.replace("SECRETS", OLDER)) as server:
        _, first = served(server.port, MINE)
        assert judged(first, HOME, secrets(OLDER), now())[0] == "good"
        for number, text in enumerate((f"{SECRET} {OLDER}", SECRET), 1):
            server.write(corefile.replace("SECRETS", text))
            server.process.send_signal(signal.SIGUSR1)
            server.wait_line("Reloading complete", number)
            wanted = 0 if number == 1 else BADCOOKIE

            def rolled(wanted: int = wanted, first: bytes = first) -> bool:
                """All old workers have gone; other ports, so both new ones."""
                told = [served(server.port, first) for _ in range(8)]
                return all(rcode == wanted and answer != first for rcode, answer in told)

            serving.wait_for(rolled, "the new secret")
            _, answer = served(server.port, first)
            assert judged(answer, HOME, secrets(SECRET), now())[0] == "good"
            assert all(served(server.port, answer) == (0, answer) for _ in range(8))


@needs_ipv6
def test_a_secret_of_its_own_is_shared_and_outlives_a_reload(tmp_path: Path):
    corefile = ".:{port} {\n bind 127.0.0.1 ::1\n multisocket 2\n cookie\n whoami\n}\n"
    with serving.Server(tmp_path, corefile) as server:
        _, mine = served(server.port, MINE)
        assert all(served(server.port, mine) == (0, mine) for _ in range(16))
        server.write(corefile + "# changed\nother.test:{port} {\n cookie\n whoami\n}\n")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        assert all(served(server.port, mine) == (0, mine) for _ in range(16))
        wire = question("a.", A, options=[(OPTION, MINE)])
        answer = cookie_of(Answer.of(exchange(wire, server.port, address="::1")))
        again = question("a.", A, options=[(OPTION, answer)])
        assert cookie_of(Answer.of(exchange(again, server.port, address="::1"))) == answer


def test_two_servers_draw_two_secrets_and_none_is_exported():
    one, other = Stats.create(4), Stats.create(4)
    assert drawn_secret(one) == drawn_secret(one) != drawn_secret(other)
    assert len(drawn_secret(one)) == 16 and all("cookie" not in series.name for series in one.snapshot())


# ---- other people's programs


@pytest.mark.real_servers
@needs("dig")
def test_dig(worker):
    command = ["dig", "@127.0.0.1", "-p", str(worker.port), "a.test.", "A", "+tries=1", f"+cookie={MINE.hex()}", "+qr"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "status: NOERROR" in out and "(good)" in out
    assert ("BADCOOKIE, retrying" in out) == worker.require


@pytest.mark.real_servers
@needs("kdig")
def test_kdig(worker):
    command = ["kdig", "@127.0.0.1", "-p", str(worker.port), "a.test.", "A", "+retry=1", f"+cookie={MINE.hex()}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "status: NOERROR" in out and f"COOKIE: {MINE.hex().upper()}01000000" in out
    assert ("status: BADCOOKIE" in out) == worker.require


ZONE = "$ORIGIN test.\n@ 60 SOA a b 1 1 1 1 1\n@ 60 NS a\n* 60 A 192.0.2.1\n"
OTHERS = {
    "knotd": (
        ["-c", "conf"],
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\ndatabase:\n  storage: {folder}\n"
        "mod-cookies:\n- id: c\n  secret: 0x{secret}\ntemplate:\n- id: default\n  global-module: mod-cookies/c\n"
        "zone:\n- domain: test\n  file: zone\n  storage: {folder}\n",
    ),
    "nsd": (
        ["-d", "-c", "conf"],
        'server:\n  ip-address: 127.0.0.1@{port}\n  zonesdir: "{folder}"\n  username: ""\n  chroot: ""\n'
        '  pidfile: "{folder}/pid"\n  database: ""\n  xfrdfile: "{folder}/xfrd"\n  xfrdir: "{folder}"\n'
        '  zonelistfile: "{folder}/list"\n  answer-cookie: yes\n  cookie-secret: {secret}\n'
        'remote-control:\n  control-enable: no\nzone:\n  name: "test"\n  zonefile: "zone"\n',
    ),
    "named": (
        ["-g", "-n", "1", "-c", "conf"],
        'options {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};'
        ' pid-file "{folder}/pid"; session-keyfile "{folder}/key"; managed-keys-directory "{folder}"; recursion no;'
        ' answer-cookie yes; require-server-cookie yes; cookie-algorithm siphash24; cookie-secret "{secret}"; }};\n'
        'controls {{ }};\nzone "test" {{ type primary; file "zone"; }};\n',
    ),
}


@contextmanager
def running(program: str, folder: Path) -> Iterator[int]:
    """Another server with SECRET for the zone test; its port."""
    path = shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if path is None:
        pytest.skip(f"needs {program}")
    arguments, text = OTHERS[program]
    port = testing.free_port()
    (folder / "zone").write_text(ZONE)
    (folder / "conf").write_text(text.format(port=port, folder=folder, secret=SECRET))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([path, *arguments], cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        serving.wait_for(lambda: serving.ask(port, seconds=0.2), (folder / "log").read_text())
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.real_servers
@pytest.mark.parametrize("program", OTHERS)
def test_servers_with_the_same_secret_know_each_others_cookies(program, tmp_path):
    with running(program, tmp_path) as port, Worker(
            f". {{\ncookie {{\nsecret {SECRET}\n}}\nwhoami\n}}\n") as worker:
        _, theirs = served(port, MINE)
        assert served(worker.port, theirs) == (0, theirs)
        _, ours = served(worker.port, MINE)
        wire = question("a.test.", A, rd=False, options=[(OPTION, ours)])
        got = Answer.of(exchange(wire, port))
        assert (got.rcode, got.answer) == (0, ["a.test. 60 IN A 192.0.2.1"])
        assert cookie_of(got) == ours
        wrong = ours[:-1] + bytes([ours[-1] ^ 1])
        got = Answer.of(exchange(question("a.test.", A, rd=False, options=[(OPTION, wrong)]), port))
        assert got.rcode == (0 if program == "nsd" else BADCOOKIE) and cookie_of(got) not in (None, wrong)


# ---- lines


def parsed(text: str):
    return COOKIE.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",)))[0]


def test_lines_of_secrets_are_joined():
    assert dict(parsed("cookie")) == {"secret": (), "require": False}
    got = parsed(f"cookie {{\nsecret {SECRET.upper()}\nsecret {OLDER}\nrequire\n}}")
    assert (got.secret, got.require) == ((SECRET, OLDER), True)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("secret", "2: Wrong argument count or unexpected line ending after 'secret'"),
        (f"secret {SECRET[:-1]}", "2: a secret has 32 hexadecimal digits"),
        (f"secret {SECRET[:-1]}g", "2: a secret has 32 hexadecimal digits"),
        (f"secret {SECRET}\nsecret {OLDER[:-1]}\u0661", "3: a secret has 32 hexadecimal digits"),
        (f"secret {SECRET} {SECRET.upper()}", "two secrets are the same"),
        ("secret " + " ".join(f"{n:032x}" for n in range(5)), "there are more than 4 secrets"),
        ("require all", "2: Wrong argument count or unexpected line ending after 'all'"),
        ("lifetime 5", "2: unknown property 'lifetime'"),
    ],
)
def test_bad_lines(lines, text):
    with pytest.raises(ConfigError) as error:
        parsed(f"cookie {{\n{lines}\n}}")
    line, colon, told = text.partition(": ")
    where = f"Corefile:{line} - Error during parsing: {told}" if colon else text
    assert str(error.value) == f"plugin/cookie: {where}"


@pytest.mark.parametrize("text", ["cookie x", "cookie\ncookie"])
def test_no_argument_and_once(text):
    with pytest.raises(ConfigError):
        parsed(text)


@pytest.mark.parametrize("keys", [[], [b"short"], [bytes(16)] * 5])
def test_the_stage_checks_its_secrets(keys):
    with pytest.raises(ValueError):
        stage(keys, False, [[1] * (len(RESULTS) + 1)])


def test_addresses_are_checked():
    with pytest.raises(ValueError):
        judged(MINE, bytes(5), secrets(SECRET), NOW)


def test_no_stage_in_python_stands_before_it(tmp_path):
    # `metadata` with a provider runs in Python: the cookie of a query would not come through.
    text = ". {\n metadata\n geotest\n cookie\n whoami\n}\n"
    (tmp_path / "early.py").write_text(
        "from fastdns.plugin import Directive, Plugin\n"
        "class Early(Plugin):\n    name, directive, before = 'geotest', Directive('geotest'), 'cookie'\n")
    info = tmp_path / "early-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: early\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastdns.plugins]\ngeotest = early:Early\n")
    with pytest.raises(AssertionError, match="plugin/cookie: cannot work behind 'geotest', which runs in Python"):
        testing.Server(text, environ={"PYTHONPATH": str(tmp_path)})
