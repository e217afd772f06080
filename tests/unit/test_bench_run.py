# SPDX-License-Identifier: Apache-2.0
"""`fastdns bench` for real: against our own server and knotd, over UDP and TCP; its outputs and its exit statuses."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fastdns import cli
from fastdns.bench import formats, owned, plot
from fastdns.bench.arguments import read
from fastdns.bench.errors import BenchError
from fastdns.bench.loads import course, together
from fastdns.bench.progress import Live, Now, Silent, progress
from fastdns.bench.questions import query
from fastdns.bench.report import Report
from fastdns.bench.session import Places, Session, place
from fastdns.bench.tally import Tally
from fastdns.bench.target import Target
from fastdns.corefile.source import Source, load_source
from fastdns.ports import free_port
from tests.machine import needs, program
from tests.made_reports import report

SHORT = ["-l", "0.3", "--rounds", "2", "--warm", "0.1", "--names", "50", "-c", "4"]
KNOT = program("knotd") or "knotd"
ZONE = "$TTL 60\n@ SOA ns hostmaster 1 600 600 600 60\n@ NS ns\nns A 192.0.2.1\n* A 192.0.2.2\nmissing TXT none\n"


def bench(*words: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of the command in a process of its own."""
    command = [sys.executable, "-m", "fastdns", "bench", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def corefile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our own server: whoami below `example.org`, whose block is imported from a file beside the Corefile."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "rest").write_text("whoami\n")
    path = folder / "Corefile"
    path.write_text("# for the bench\nexample.org {\n    bind 127.0.0.1\n    import rest\n}\n")
    return str(path)


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """knotd with a wildcard in example.org."""
    folder = tmp_path_factory.mktemp("knot")
    port = free_port()
    (folder / "example.org.zone").write_text(ZONE)
    (folder / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {folder}\ndatabase:\n  storage: {folder}\n"
        f"zone:\n- domain: example.org\n  storage: {folder}\n"
    )
    with Target([KNOT, "-c", str(folder / "knot.conf")], port) as target:
        yield target


def checked(text: str) -> Report:
    """The report, its counts consistent and without anything wrong."""
    found = formats.from_json(text, "output")
    for one in found.server.rounds:
        tally = one.tally
        assert tally.sent == tally.completed + tally.lost and tally.completed > 0
        assert tally.wrong == 0 and sum(tally.rcodes.values()) == tally.completed == tally.latency.count
        assert one.course and all(point.qps >= 0 for point in one.course)
    return found


@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_our_own_server(corefile, mode):
    spin = ["--spin"] if mode == "udp" else []
    status, out, err = bench("-conf", corefile, "-m", mode, *spin, *SHORT, "--json", "-")
    assert (status, err) == (0, "")
    found = checked(out)
    assert found.scenario.server == "corefile" and found.scenario.protocol == mode and found.scenario.count == 50
    assert len(found.server.rounds) == 2 and found.floor is None
    assert all(one.tally.rcodes.keys() == {0} and one.server_cpu for one in found.server.rounds)


@pytest.mark.real_servers
@needs("knotd")
@pytest.mark.parametrize("mode", ["udp", "tcp"])
def test_knotd(knot, mode):
    pids = ",".join(map(str, knot.pids()))
    status, out, err = bench(f"{mode}://127.0.0.1:{knot.port}", "--pids", pids, *SHORT, "--json", "-")
    assert (status, err) == (0, "")
    found = checked(out)
    assert found.scenario.server == "local" and found.scenario.corefile == ""
    assert all(one.tally.rcodes.keys() == {0} and one.server_cpu for one in found.server.rounds)


@pytest.mark.real_servers
@needs("knotd")
def test_a_mix_against_knotd_is_answered_as_expected(knot):
    words = ["--mix", "500", "--miss", "0.3", "--nxdomain", "0.5", "--type", "A=2,AAAA", "-D"]
    status, out, _ = bench(f"127.0.0.1:{knot.port}", *SHORT, *words, "--json", "-")
    found = checked(out)
    assert status == 0 and found.server.total().rcodes.keys() == {0, 3} and found.scenario.count == 500
    assert [remark.kind for remark in found.remarks if remark.kind == "cpu"] == ["cpu"]


@pytest.mark.real_servers
@needs("knotd")
def test_a_query_file_once_each(knot, tmp_path):
    file = tmp_path / "queries"
    file.write_text("".join(f"n{number}.example.org A\nn{number}.example.org TXT\n" for number in range(2_000)))
    words = ["-d", str(file), "--once", "-l", "30", "--warm", "0", "--rounds", "3"]
    status, out, _ = bench(f"127.0.0.1:{knot.port}", *words, "--json", "-")
    found = checked(out)
    assert status == 0 and found.server.total().sent == 4_000 and len(found.server.rounds) == 1
    assert found.remarks[0].text.startswith("all 4000 questions were asked")
    file.write_text("example.org A\nexample.org NOSUCH\n")
    status, out, err = bench(f"127.0.0.1:{knot.port}", "-d", str(file))
    assert (status, out) == (2, "") and err == f"fastdns bench: {file}:2 - unknown type 'NOSUCH'\n"


def test_every_output_at_once_and_the_floor(corefile, tmp_path):
    names = {name: str(tmp_path / f"out.{name}") for name in ("json", "csv", "markdown", "hdr", "png")}
    words = ["--json", names["json"], "--csv", names["csv"], "--markdown", names["markdown"], "--hdr", names["hdr"]]
    status, out, err = bench("-conf", corefile, *SHORT, "--floor", "--histogram", *words, "--plot", names["png"])
    assert (status, err) == (0, "")
    assert "\x1b" not in out and out.startswith("Statistics:\n\n  Queries sent:") and "latency (ms), log scale" in out
    found = checked(Path(names["json"]).read_text())
    assert found.floor is not None and len(found.floor.rounds) == 2 and "CPU, ratio to the floor" in out
    assert len(Path(names["csv"]).read_text().splitlines()) == 5
    assert Path(names["hdr"]).read_text().split()[:2] == ["Value", "Percentile"]
    assert "| Queries per second |" in Path(names["markdown"]).read_text()
    assert Path(names["png"]).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_compare_from_first_to_last(corefile, tmp_path):
    old = tmp_path / "old.json"
    words = ["-conf", corefile, *SHORT, "--compare", str(old)]
    assert bench("-conf", corefile, *SHORT, "--json", str(old))[::2] == (0, "")
    # A machine that is busy with other things may be slower by half, not by a factor of fifty.
    status, _, err = bench(*words, "--threshold", "98")
    assert status == 0, err
    faster = json.loads(old.read_text())
    for one in faster["server"]["rounds"]:
        for count in ("in_window", "completed", "sent"):
            one["tally"][count] *= 100
    old.write_text(json.dumps(faster))
    status, out, err = bench(*words, "--threshold", "98")
    assert status == 1, err
    assert "Verdict: REGRESSION" in out and "queries per second" in out.lower()
    status, out, err = bench(*words, "--json", "-")
    assert status == 1, err
    assert checked(out) and "Verdict: REGRESSION" in err
    status, out, err = bench(*words[:-2], "--compare", str(old), "--edns", "4096")
    assert (status, out) == (2, "")
    assert err.startswith("fastdns bench: cannot compare (--force does it nevertheless):\n")
    assert "scenario.questions" in err and "scenario.sockets" not in err
    assert bench(*words, "--edns", "4096", "--force", "--threshold", "1000")[0] in (0, 1)


def test_nobody_answers():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        status, out, err = bench(f"127.0.0.1:{port}", *SHORT, "-t", "0.1")
    assert (status, out) == (2, "")
    assert err.startswith(f"fastdns bench: no answer from 127.0.0.1 port {port}: ")


def test_a_port_that_is_taken(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        path = tmp_path / "Corefile"
        path.write_text(f".:{port} {{\n    bind 127.0.0.1\n    whoami\n}}\n")
        status, out, err = bench("-conf", str(path), *SHORT)
    assert (status, out) == (2, "")
    assert err == f"fastdns bench: 127.0.0.1 port {port} is taken: another server would be measured\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (". {\n    whoami\n", "{path}:2 - Syntax error: Unexpected token 'whoami', expecting '}}'"),
        ("tls://. {\n    whoami\n}\n", "{path}: no server block speaks dns://"),
        (". {\n    bind nosuch0\n    whoami\n}\n", "{path}: bind names no address; say as ADDRESS where to ask"),
    ],
)
def test_corefiles_that_cannot_be_measured(tmp_path, text, why):
    path = tmp_path / "Corefile"
    path.write_text(text)
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["bench", "-conf", str(path)], out, err) == 2
    assert err.getvalue() == f"fastdns bench: {why.format(path=path)}\n"


def test_a_server_that_does_not_start_shows_its_words(tmp_path):
    path = tmp_path / "Corefile"
    path.write_text(". {\n    bind 127.0.0.1\n    nosuch\n}\n")
    status, out, err = bench("-conf", str(path), *SHORT)
    assert (status, out) == (2, "") and "Unknown directive 'nosuch'" in err


def test_files_are_looked_at_before_the_measurement(corefile, tmp_path):
    for words, why in (
        (["--json", str(tmp_path)], f"--json {tmp_path}: cannot be written"),
        (["--plot", "/nosuch/x.png"], "--plot /nosuch/x.png: cannot be written"),
        (["--compare", "/nosuch/x.json"], "/nosuch/x.json: No such file or directory"),
    ):
        assert bench("-conf", corefile, *words) == (2, "", f"fastdns bench: {why}\n")


@pytest.mark.parametrize(
    ("option", "module"), [("--plot=x.png", "matplotlib"), ("--hdr=x", "hdrh"), ("--histogram", "plotext")]
)
def test_a_missing_library_is_named_with_its_remedy(corefile, option, module, tmp_path):
    code = (
        "import sys, importlib.abc\n"
        "class Missing(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.split('.')[0] == {module!r}:\n"
        "            raise ModuleNotFoundError(name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from fastdns import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "bench", "-conf", corefile, option]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    name = option.split("=")[0]
    assert done.returncode == 2
    assert done.stderr == f'fastdns bench: {name}: this needs {module}: pip install "fastdns[bench]"\n'


class Impatient(Silent):
    """Sends this process an interrupt in a stage whose name begins with a word."""

    def __init__(self, word: str) -> None:
        self.word, self.words = word, ""

    def stage(self, words: str, seconds: float) -> None:
        self.words = words

    def update(self, now: Now) -> None:
        if self.words.startswith(self.word) and now.completed:
            self.word = "never"
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """A shell starts what it puts into the background with interrupts ignored; these tests need theirs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("word", ["round 1", "round 2"])
def test_an_interrupt_keeps_what_was_measured(corefile, word):
    options = read(["-conf", corefile, "-l", "20" if word == "round 1" else "0.3", "--warm", "0", "--rounds", "20"])
    assert options is not None
    session = Session(options)
    found = session.measure(Impatient(word))
    assert session.interrupted and len(found.server.rounds) == 1 and not found.quotable
    assert found.remarks[0].text == "interrupted: the figures cover less than was asked for"


@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_while_warming_measures_nothing(corefile):
    options = read(["-conf", corefile, "--warm", "20"])
    assert options is not None
    with pytest.raises(KeyboardInterrupt):
        Session(options).measure(Impatient("warming"))


def test_the_questions_run_out_while_warming(knot):
    words = [f"127.0.0.1:{knot.port}", "--once", "--names", "200", "--warm", "20"]
    status, out, err = bench(*words)
    assert (status, out) == (2, "")
    assert err == "fastdns bench: all 200 questions were asked before the first round: ask more of them, or warm less\n"


@pytest.mark.parametrize("name", ["x.png", "x.svg"])
def test_pictures(tmp_path, name):
    path = tmp_path / name
    plot.draw(report(), str(path))
    if name.endswith("png"):
        octets = path.read_bytes()
        width, height = (int.from_bytes(octets[at : at + 4], "big") for at in (16, 20))
        assert octets.startswith(b"\x89PNG\r\n\x1a\n") and width >= 1200 and height >= 600
    else:
        words = " ".join(ElementTree.parse(path).getroot().itertext())
        for text in ("200,000 queries per second", "2.00 × the floor", "Latency by percentile (ms)", "99.9"):
            assert text in words


def test_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(BenchError, match="No such file or directory"):
        plot.draw(report(), str(tmp_path / "nosuch" / "x.png"))


def test_the_curve_ends_at_the_slowest_answer():
    histogram = report().server.total().latency
    xs, ys = plot.curve(histogram)
    assert xs[0] == 1 and xs[-1] == pytest.approx(histogram.count) and ys == sorted(ys)
    assert ys[-1] == pytest.approx(histogram.max * 1e3, rel=2e-3)


def test_histogram_has_a_column_for_each_bin():
    lines = plot.histogram(report(), 60).splitlines()
    assert max(map(len, lines)) <= 60 and any("█" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "usable", "expected"),
    [
        (["-conf", "F"], [0], Places([0], [0])),
        (["-conf", "F"], [0, 1], Places([0], [1])),
        (["-conf", "F"], list(range(8)), Places([0, 1, 2, 3, 4, 5], [6, 7])),
        (["127.0.0.1"], [0, 1], Places([], [])),
    ],
)
def test_places(words, usable, expected):
    options = read(words)
    assert options is not None and place(options, usable) == expected


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_running_server_that_is_bound_leaves_another_cpu_to_the_load():
    first, *_, last = sorted(os.sched_getaffinity(0))
    with Target.floor(cpus=f"{first}") as floor:
        options = read([f"127.0.0.1:{floor.port}", "--pids", f"{floor.pids()[0]}"])
        assert options is not None and place(options, sorted(os.sched_getaffinity(0))) == Places([first], [last])


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        (". {\n}\n", "", ("127.0.0.1", 5)),
        (".:7 {\n}\n", "", ("127.0.0.1", 7)),
        ("tls://. {\n}\ndns://a:8 b:9 {\n bind 127.0.0.3\n}\n", "", ("127.0.0.3", 8)),
        (". {\n bind ::\n}\n", "", ("::1", 5)),
        (". {\n bind 0.0.0.0\n}\n", "", ("127.0.0.1", 5)),
        (". {\n bind lo\n}\n", "127.0.0.2", ("127.0.0.2", 5)),
    ],
)
def test_where_our_own_server_is_asked(text, address, expected):
    assert owned.asked(load_source(Source("Corefile", text.encode()), port=5), address) == expected


def test_a_port_that_was_taken_meanwhile_is_replaced(corefile, monkeypatch):
    options = read(["-conf", corefile])
    assert options is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder, contextlib.ExitStack() as stack:
        holder.bind(("127.0.0.1", 0))
        ports = [holder.getsockname()[1], free_port()]
        monkeypatch.setattr(owned, "free_port", iter(ports).__next__)
        server = owned.Owned(options, query("a.example.org", 1), []).start(stack)
        assert server.port == ports[1]


def test_the_digest_of_a_corefile_is_of_what_it_says():
    def of(text: str) -> str:
        return owned.digest(load_source(Source("Corefile", text.encode()), port=5))

    assert of(". {\n whoami\n}\n") == of("# a comment\n\n.  {\n\twhoami\n}\n")
    assert len({of(f"{key} {{\n {name}\n}}\n") for key in (".", ".:53") for name in ("whoami", "demo")}) == 4


def test_places_that_were_asked_for():
    options = read(["-conf", "F"])
    assert options is not None
    options.server_cpus = [1]
    assert place(options, [0, 1, 2, 3]) == Places([1], [3])
    options.server_cpus, options.load_cpus = [], [0]
    assert place(options, [0, 1, 2, 3]) == Places([1, 2, 3], [0])


def test_threads_of_load_are_one():
    one, other = Tally(seconds=2.0, sent=10, in_window=8), Tally(seconds=2.1, sent=5, in_window=5)
    both = together([one, other])
    assert (both.seconds, both.sent, both.in_window) == (2.1, 15, 13)
    assert [(point.at, point.qps) for point in course([[(0, 0), (1, 10), (2, 40)], [(0, 0), (2, 10)]])] == [(2, 15.0)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_two_threads_share_the_questions(knot):
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    words = [f"127.0.0.1:{knot.port}", "--load-cpus", cpus, "--once", "--names", "501", "--warm", "0", "-l", "30"]
    status, out, _ = bench(*words, "--json", "-")
    total = checked(out).server.total()
    assert status == 0 and total.sent == total.in_window == 501


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_progress_only_where_somebody_watches():
    for out, err in ((io.StringIO(), Terminal()), (Terminal(), io.StringIO()), (io.StringIO(), io.StringIO())):
        assert isinstance(progress(out, err), Silent)
        assert err.getvalue() == ""
    assert isinstance(progress(Terminal(), Terminal(), wanted=False), Silent)
    err = Terminal()
    live = progress(Terminal(), err)
    assert isinstance(live, Live)
    with contextlib.closing(live):
        live.stage("round 1 of 3, server", 5.0)
        live.update(Now(1.0, 123_456, 7, 100_000.0))
    assert "round 1 of 3, server" in err.getvalue()
