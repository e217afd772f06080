# SPDX-License-Identifier: Apache-2.0
"""The command line: Go's flag rules, texts and exit codes."""

import io
import sys

import pytest

from fastdns import cli
from fastdns.errors import StartError

USAGE = """Usage of fastdns:
  -conf string
    \tCorefile to load (default "Corefile")
  -control string
    \tPath of the control socket
  -dns.port string
    \tDefault port (default "53")
  -p string
    \tDefault port (default "53")
  -pidfile string
    \tPath to write pid file
  -plugins
    \tList installed plugins
  -quiet
    \tQuiet mode (no initialization output)
  -version
    \tShow version
A first word without a dash runs a command: bench, check, ctl, explain, top, tune; each has --help
"""


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = cli.main(words, out, err)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("words", [("-conf", "F"), ("--conf", "F"), ("-conf=F",), ("--conf=F",)])
def test_one_or_two_dashes_value_behind_blank_or_equals(words: tuple[str, ...]) -> None:
    assert cli.parse(words).conf == "F"


@pytest.mark.parametrize(
    ("words", "port"), [(("-p", "1"), "1"), (("-dns.port", "2"), "2"), (("-p", "1", "-dns.port=2"), "2"),
                        (("-dns.port=2", "-p=1"), "1"), ((), "53"), (("-p=",), "")])
def test_both_port_flags_are_one_and_the_last_wins(words: tuple[str, ...], port: str) -> None:
    assert cli.parse(words).port == port


@pytest.mark.parametrize("value", cli.TRUE)
def test_true_values(value: str) -> None:
    assert cli.parse([f"-quiet={value}"]).quiet is True


@pytest.mark.parametrize("value", cli.FALSE)
def test_false_values(value: str) -> None:
    assert cli.parse([f"--version={value}"]).version is False


def test_a_boolean_takes_no_word() -> None:
    options = cli.parse(["-quiet", "false"])
    assert options.quiet is True
    assert options.rest == ["false"]


@pytest.mark.parametrize("words", [["--", "-x"], ["-", "-x"]])
def test_flags_end_at_two_dashes_and_at_a_word(words: list[str]) -> None:
    rest = cli.parse(words).rest
    assert rest == (["-x"] if words[0] == "--" else ["-", "-x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-foo"], "flag provided but not defined: -foo"),
        (["--foo=1"], "flag provided but not defined: -foo"),
        (["-conf"], "flag needs an argument: -conf"),
        (["---x"], "bad flag syntax: ---x"),
        (["-=x"], "bad flag syntax: -=x"),
        (["-quiet=maybe"], 'invalid boolean value "maybe" for -quiet: parse error'),
    ],
)
def test_usage_errors(monkeypatch: pytest.MonkeyPatch, words: list[str], message: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fastdns"])
    assert run(*words) == (2, "", f"{message}\n{USAGE}")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fastdns"])
    assert run(word) == (0, "", USAGE)


def test_a_positional_argument_is_fatal_before_the_version() -> None:
    assert run("-version", "a", "b") == (1, "", "extra command line arguments: [a b]\n")


def test_version() -> None:
    status, out, err = run("-version")
    first, second = out.splitlines()
    assert (status, first, err) == (0, "fastdns-0.1.0", "")
    assert second.startswith("linux/")
    assert f"python{sys.version_info[0]}.{sys.version_info[1]}" in second


def test_plugins_are_listed_in_order_with_an_empty_line() -> None:
    status, out, _ = run("-plugins")
    names = out.split("\n")
    assert status == 0
    assert names[-2:] == ["", ""]
    # CoreDNS prints its generic `on` last.
    assert names[-3] == "on" and names[:-3] == sorted(names[:-3])
    assert {"bind", "loop", "multisocket", "reload"} <= set(names)


def test_a_missing_corefile_is_fatal() -> None:
    assert run("-conf", "/nonexistent/Corefile") == (
        1, "", "loading Caddyfile via flag: open /nonexistent/Corefile: no such file or directory\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "lookup tcp/abc: unknown port"),
        ("", "lookup tcp/: unknown port"),
        ("-1", "lookup tcp/-1: unknown port"),
        ("70000", "address 70000: invalid port"),
    ],
)
def test_bad_ports(text: str, message: str) -> None:
    with pytest.raises(StartError) as caught:
        cli.port_number(text)
    assert str(caught.value) == f"Listen: listen tcp: {message}"


def test_ports_at_the_bounds() -> None:
    assert (cli.port_number("0"), cli.port_number("65535")) == (0, 65535)
