# SPDX-License-Identifier: Apache-2.0
"""The words of `fastdns bench`: what each becomes, and the sentence for each that cannot be meant."""

import io
import os
import subprocess
import sys

import pytest

from fastdns import cli
from fastdns.bench.arguments import Options, read
from fastdns.bench.cli import main as command
from fastdns.bench.errors import UsageError

USABLE = sorted(os.sched_getaffinity(0))


def options(*words: str) -> Options:
    found = read(words)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["127.0.0.1"], {"address": "127.0.0.1", "port": 53, "protocol": "udp", "sockets": 64, "in_flight": 4}),
        (["127.0.0.1:5300"], {"port": 5300}),
        (["udp://127.0.0.1:5300"], {"port": 5300, "protocol": "udp"}),
        (["tcp://127.0.0.1"], {"port": 53, "protocol": "tcp"}),
        (["TCP://127.0.0.1"], {"protocol": "tcp"}),
        (["::1"], {"address": "::1", "port": 53}),
        (["[::1]"], {"address": "::1", "port": 53}),
        (["tcp://[::1]:5300"], {"address": "::1", "port": 5300, "protocol": "tcp"}),
        (["-conf", "F"], {"conf": "F", "address": "", "protocol": "udp"}),
        (["-conf", "F", "127.0.0.1"], {"address": "127.0.0.1", "port": 0}),
        (["--conf=F", "-m", "tcp"], {"conf": "F", "protocol": "tcp"}),
        (["--conf", "F", "udp://127.0.0.1:1053"], {"conf": "F", "address": "127.0.0.1", "port": 1053}),
        (["::1", "-c", "7", "--in-flight", "9"], {"sockets": 7, "in_flight": 9, "segment": False}),
        (["::1", "-c7"], {"sockets": 7}),
        (["::1", "--shape", "512x1"], {"sockets": 512, "in_flight": 1, "segment": False}),
        (["::1", "--shape", "8x128"], {"sockets": 8, "in_flight": 128, "segment": True}),
        (["::1", "--segment", "--spin"], {"segment": True, "spin": True}),
        (["::1", "-l", "0.5", "-t", ".25", "-Q", "1000", "--warm", "0"],
         {"duration": 0.5, "timeout": 0.25, "rate": 1000.0, "warm": 0.0}),
        (["::1", "-e"], {"edns": 1232, "do": False}),
        (["-e", "::1"], {"edns": 1232, "address": "::1"}),
        (["::1", "-D"], {"edns": 1232, "do": True}),
        (["::1", "-D", "--edns", "4096"], {"edns": 4096, "do": True}),
        (["::1", "--type", "A,aaaa,TYPE65"], {"types": {"A": 1.0, "AAAA": 1.0, "TYPE65": 1.0}, "mix": 0}),
        (["::1", "--mix", "500", "--miss", "0.5", "--nxdomain", "1", "--type", "A=7,AAAA=.5"],
         {"mix": 500, "miss": 0.5, "nxdomain": 1.0, "types": {"A": 7.0, "AAAA": 0.5}}),
        (["::1", "--names", "5", "--first", "3", "--zone", "test", "--once"],
         {"names": 5, "first": 3, "zone": "test", "once": True}),
        (["::1", "-d", "F"], {"data": "F"}),
        (["127.0.0.1", "--pids", f"{os.getpid()}"], {"pids": [os.getpid()]}),
        (["-conf", "F", "--server-cpus", f"{USABLE[0]}"], {"server_cpus": USABLE[:1]}),
        (["::1", "--load-cpus", ",".join(map(str, USABLE))], {"load_cpus": USABLE}),
        (["::1", "--no-progress"], {"progress": False}),
        (["::1", "--compare", "old.json", "--threshold", "2.5", "--force"],
         {"compare": "old.json", "threshold": 2.5, "force": True}),
    ],
    ids=" ".join,
)
def test_good_words(words, expected):
    found = options(*words)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "no server: name an ADDRESS, or a Corefile with -conf"),
        (["localhost"], "localhost: not an IP address with or without a port"),
        (["udp://"], "udp://: not an IP address with or without a port"),
        (["127.0.0.1:0"], "127.0.0.1:0: no port from 1 to 65535"),
        (["127.0.0.1:65536"], "127.0.0.1:65536: no port from 1 to 65535"),
        (["127.0.0.1:dns"], "127.0.0.1:dns: no port from 1 to 65535"),
        (["tls://127.0.0.1"], "tls://127.0.0.1: tls:// is not spoken; udp:// and tcp:// are"),
        (["::1", "-m", "tls"], "argument -m/--mode: invalid choice: 'tls' (choose from 'udp', 'tcp')"),
        (["udp://::1", "-m", "tcp"], "-m tcp contradicts udp://"),
        (["::1", "127.0.0.1"], "unrecognized arguments: 127.0.0.1"),
        (["::1", "--sock", "3"], "unrecognized arguments: --sock 3"),
        (["::1", "-c", "0"], "argument -c/--sockets: '0' is no whole number from 1 to 65536"),
        (["::1", "-c", "many"], "argument -c/--sockets: 'many' is no whole number from 1 to 65536"),
        (["::1", "-l"], "argument -l/--duration: expected one argument"),
        (["::1", "-l", "0"], "argument -l/--duration: '0' is no number of seconds from 0.1 to 86400"),
        (["::1", "-l", "nan"], "argument -l/--duration: 'nan' is no number of seconds from 0.1 to 86400"),
        (["::1", "--edns", "511"], "argument --edns: '511' is no whole number from 512 to 65535"),
        (["::1", "--threshold", "x"], "argument --threshold: 'x' is no number of per cent from 0 to 1000"),
        (["::1", "--type", "A,NOSUCH"], "argument --type: unknown type 'NOSUCH'"),
        (["::1", "--type", "TYPE65536"], "argument --type: unknown type 'TYPE65536'"),
        (["::1", "--type", "A,a"], "argument --type: 'a' twice"),
        (["::1", "--type", "A=2"], "--type: only a --mix has weights"),
        (["::1", "--mix", "9", "--type", "A=0"], "argument --type: '0' is no number of queries from 0.001 to 1e+06"),
        (["::1", "--miss", "0.5"], "--miss: only a --mix has shares"),
        (["::1", "--nxdomain", "0.5"], "--nxdomain: only a --mix has shares"),
        (["::1", "--mix", "9", "--miss", "2"], "argument --miss: '2' is no number of queries, as a share, from 0 to 1"),
        (["::1", "--load-cpus", "1-"], "argument --load-cpus: '1-' is no list of CPUs such as 0,2-3"),
        (["::1", "--load-cpus", "3-1"], "argument --load-cpus: '3-1' runs backwards"),
        (["::1", "--load-cpus", "9999"], "argument --load-cpus: CPU 9999 cannot be used here"),
        (["::1", "--server-cpus", f"{USABLE[0]}"], "--server-cpus: only a server that -conf starts can be placed"),
        (["::1", "--pids", "999999999"], "argument --pids: '999999999' is no process of this machine"),
        (["::1", "--pids", "1;2"], "argument --pids: '1;2' is no process of this machine"),
        (["192.0.2.1", "--pids", f"{os.getpid()}"], "--pids: the server runs elsewhere"),
        (["-conf", "stdin"], "-conf stdin: the server could not read it again"),
        (["-conf", "F", "--pids", "1"], "--pids: the processes of our own server are known"),
        (["::1", "--shape", "64x4", "-c", "3"], "--shape says what --sockets and --in-flight say: use either"),
        (["tcp://::1", "--segment"], "--segment: TCP has no datagrams"),
        (["tcp://::1", "--shape", "8x128"], "--segment: TCP has no datagrams"),
        (["tcp://::1", "--floor"], "--floor: the floor speaks UDP only"),
        (["192.0.2.1", "--floor"], "--floor: the floor runs on this machine, the server elsewhere"),
        (["::1", "--force"], "--force: nothing to compare; --compare is missing"),
        (["::1", "-d", "F", "--names", "3"], "--names: the questions come from F"),
        (["::1", "-d", "F", "--type", "A"], "--type: the questions come from F"),
        (["::1", "--json", "-", "--csv", "-"], "only one output can be -"),
        (["::1", "--plot", "x.pdf"], "--plot x.pdf: the name must end in .png or .svg"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_words(words, why):
    with pytest.raises(UsageError) as error:
        read(words)
    assert str(error.value) == why
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["bench", *words], out, err) == 2
    assert err.getvalue() == f"fastdns bench: {why}\nfastdns bench --help lists the options\n"
    assert out.getvalue() == ""


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_option(word):
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["bench", word], out, err) == 0
    assert err.getvalue() == ""
    for name in ("ADDRESS", "-conf", "--pids", "--floor", "--data", "--shape", "--rate", "--json", "--compare"):
        assert name in out.getvalue()
    assert "Exit status" in out.getvalue()


def test_other_first_words_stay_an_error():
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["benchmark"], out, err) == 1
    assert err.getvalue() == "extra command line arguments: [benchmark]\n"
    err = io.StringIO()
    assert cli.main(["-quiet", "bench"], out, err) == 1
    assert err.getvalue() == "extra command line arguments: [bench]\n"


def test_coredns_flags_do_not_import_the_bench():
    code = "import sys, fastdns.cli as c; c.main(['-version']); print([m for m in sys.modules if '.bench' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_scaling_is_a_command_of_its_own():
    out, err = io.StringIO(), io.StringIO()
    assert command(["--scaling", "--cores", "none"], out, err) == 2
    assert "fastdns bench --scaling" in err.getvalue() and "cores" in err.getvalue()
