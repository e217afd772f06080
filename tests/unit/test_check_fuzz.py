# SPDX-License-Identifier: Apache-2.0
"""check and the server agree: what one refuses the other does, and what the server says first is among the findings."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdns import chain
from fastdns.check.examine import examine
from fastdns.check.show import Lines, Paint, text_of
from fastdns.corefile import Source, load_source
from fastdns.errors import ConfigError

ENVIRON = {"ZONE": "example.org", "LOOP": "{$LOOP}x"}
WORDS = st.sampled_from(
    ["cache", "forward", "log", "errors", "whoami", "bind", "prometheus", "ready", "health", "reload", "loop",
     "import", "multisocket", "loadbalance", "demo", "kubernetes", "cahce", "success", "denial", "prefetch",
     "serve_stale", "class", "policy", "sequential", "max_fails", "except", "expire", "consolidate",
     "stacktrace", "lameduck", "steer", "30", "5", "10s", "-1", "10%", "1h", ".", "example.org",
     "example.org:53", "192.0.2.1", "10.0.0.0/27", "tls://example.org", "127.0.0.1", "::1", ":9153",
     "foo..bar", "all", "error", "(snip)", "snip", "x,", "{$ZONE}", "{$NONE}", "{$LOOP}", '"a b"', '"', "#c",
     "{", "}", "{", "}", "\n", "\n", "\n", "\n"])  # fmt: skip
LINE = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)
BLOCK = st.tuples(
    st.sampled_from([".", "example.org", "example.net:54", "10.in-addr.arpa a.test", "(snip)", "tls://.", "{$ZONE}"]),
    st.lists(st.one_of(LINE, LINE.map(lambda text: f"cache {{\n {text}\n }}"),
                       LINE.map(lambda text: f"forward . 192.0.2.1 {{\n  {text}\n }}"),
                       st.sampled_from(["whoami", "log", "errors", "import snip", "bind 127.0.0.1"])), max_size=5),
).map(lambda pair: pair[0] + " {\n    " + "\n    ".join(pair[1]) + "\n}\n")  # fmt: skip
COREFILE = st.lists(st.one_of(BLOCK, BLOCK, BLOCK, LINE), max_size=4).map("\n".join)


def server_says(text: str) -> str:
    """The error with which a start ends before any plugin is set up, "" if there is none."""
    try:
        chain.load(load_source(Source("Corefile", text.encode()), chain.known(), chain.not_built(), environ=ENVIRON))
    except ConfigError as error:
        return str(error)
    return ""


def agree(text: str) -> None:
    seen = examine(Source("Corefile", text.encode()), environ=ENVIRON)
    first = server_says(text)
    said = [one.server for one in seen.findings.ordered() if one.level == "error"]
    if first:
        assert first in said
    else:
        # What only the set-up refuses comes from plugins, never from the text.
        assert all(text.startswith("plugin/") or "cannot be made" in text for text in said)
    lines = text.split("\n")
    shown = Lines(seen.source)
    for one in seen.findings.ordered():
        assert text_of(one, shown, Paint(NoTerminal(), "never"))
        if one.level == "error" and one.line:
            assert one.line <= len(lines) and 1 <= one.column <= len(lines[one.line - 1]) + 1


class NoTerminal:
    def isatty(self) -> bool:
        return False


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(COREFILE)
def test_check_and_the_server_agree(text):
    agree(text)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from(list('abc.{}(),"\\#: \n\r\t\x00\u00e9\ufeff$%*1')), max_size=80))
def test_any_text_is_judged(text):
    agree(text)


@pytest.mark.parametrize(
    "text", ["", "\ufeff", "{", "}", '"', ". {", "(a) {", "(a) {\n import a\n}\n", ", {\n}", "import x", "import"])
def test_corners(text):
    agree(text)
