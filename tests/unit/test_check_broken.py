# SPDX-License-Identifier: Apache-2.0
"""A table of broken Corefiles: each mark ¦ stands in front of a mistake, and check finds these and no others."""

import pytest

from fastdns import chain
from fastdns.check.examine import examine
from fastdns.corefile import Source, load_source
from fastdns.errors import ConfigError

MARK = "¦"
BROKEN = [
    # The text's shape.
    (". {\n    ¦cahce 30\n}\n", "Unknown directive 'cahce'", "did you mean 'cache'?"),
    (". {\n    ¦forwrad . 192.0.2.1 {\n        max_fails 3\n    }\n    whoami\n}\n", "Unknown directive", "'forward'"),
    (". {\n    ¦kubernetes cluster.local\n}\n", "directive 'kubernetes' is not built yet", ""),
    (". {\n    ¦prometeus :9153\n    whoami\n}\n", "Unknown directive 'prometeus'", "did you mean 'prometheus'?"),
    (". {\n    ¦zzzzzz\n}\n", "Unknown directive 'zzzzzz'", ""),
    (". {\n    whoami\n    log ¦}\n", "Unexpected '}' because no matching opening brace", "on a line of its own"),
    (". {\n    ¦whoami\n", "Unexpected token 'whoami', expecting '}'", "opened in line 1 is not closed"),
    (". {\n    whoami\n\n¦example.org {\n    whoami\n}\n", "Unknown directive 'example.org'", "line 1 is not closed"),
    (". {\n    cache {\n        success 10\n    ¦whoami\n    }\n}\n", "after 'whoami'", "brace that 'cache'"),
    (". {\n    cache {\n        success ¦10\n", "Unexpected EOF", "'cache' opens in line 2 is not closed"),
    ("example.org, ¦{\n    whoami\n}\n", "Expected another address but had '{'", "a comma is followed by one more key"),
    ("¦example.org,\n", "Unexpected EOF", "one more key"),
    # Snippets and imports.
    ("(a) {\n    log\n}\n¦(a) {\n    errors\n}\n. {\n    import a\n    whoami\n}\n", "redeclaration", "line 1"),
    ("(a) {\n    import a\n¦}\n. {\n    whoami\n}\n", "maximum snippet import depth", ""),
    (". {\n    whoami\n    import ¦nosuch\n}\n", "File to import not found: nosuch", ""),
    ("(common) {\n    log\n}\n. {\n    import ¦comon\n    whoami\n}\n", "File to import not found", "'common'"),
    (". {\n    whoami\n    ¦import\n}\n", "Wrong argument count", ""),
    (". {\n    whoami\n    import a ¦b\n}\n", "Import takes only one argument", ""),
    (". {\n    whoami\n    import ¦*/*\n}\n", "Glob pattern may only contain one wildcard", ""),
    ("(a) {\n    ¦cahce\n}\n. {\n    import a\n    whoami\n}\n", "Unknown directive 'cahce'", "'cache'"),
    # Keys.
    ("¦foo..bar {\n    whoami\n}\n", "zone is not a valid domain name: foo..bar", ""),
    ("example.org ¦foo..bar {\n    whoami\n}\n", "zone is not a valid domain name: foo..bar", ""),
    ("¦.:99999 {\n    whoami\n}\n", "address 99999: invalid port", ""),
    ("¦example.org: {\n    whoami\n}\n", "expecting data after last colon", ""),
    ("¦unix:///tmp/sock {\n    whoami\n}\n", "no server for scheme", ""),
    ("¦tls://. {\n    whoami\n}\n", "scheme 'tls' is not built yet", ""),
    (". {\n    whoami\n}\n¦. {\n    whoami\n}\n", "already defined", "served by the block in line 1"),
    ("a.test ¦a.test {\n    whoami\n}\n", "already defined", ""),
    (". {\n    bind 127.0.0.1\n    whoami\n}\n¦. {\n    whoami\n}\n", "zone overlap listener capacity", "line 1"),
    # Options and their words.
    (". {\n    cache {\n        ¦sucess 10\n    }\n}\n", "Wrong argument count", "did you mean 'success'?"),
    (". {\n    forward . 192.0.2.1 {\n        ¦polcy random\n    }\n}\n", "unknown property 'polcy'", "'policy'"),
    (". {\n    forward . 192.0.2.1 {\n        policy ¦sequental\n    }\n}\n", "unknown policy", "'sequential'"),
    (". {\n    forward . 192.0.2.1 {\n        expire ¦10\n    }\n}\n", "missing unit in duration", "10s"),
    (". {\n    forward . 192.0.2.1 {\n        max_fails ¦-1\n    }\n}\n", "invalid syntax", "max_fails NUMBER"),
    (". {\n    forward . 192.0.2.1 {\n        ¦max_fails\n    }\n}\n", "Wrong argument count", "max_fails NUMBER"),
    (". {\n    forward . 192.0.2.1 {\n        health_check 5s ¦no_rek\n    }\n}\n", "unknown option", "'no_rec'"),
    (". {\n    ¦forward . 192.0.2.1 {\n        max_age 1s\n        expire 5s\n    }\n}\n",
     "max_age (1s) must not be less than expire (5s)", ""),
    (". {\n    forward ¦.\n}\n", "Wrong argument count", "forward FROM TO..."),
    (". {\n    forward . ¦192.0.2.1:x 192.0.2.2 ¦192.0.2.3:99999\n}\n", "invalid port", ""),
    (". {\n    forward . 192.0.2.1 ¦tls://9.9.9.9\n}\n", "'tls' upstreams are not built yet", ""),
    (". {\n    bind 127.0.0.1 ¦nosuch0\n    whoami\n}\n", "not a valid IP address or interface name", ""),
    (". {\n    ¦bind\n    whoami\n}\n", "at least one address or interface name is expected", ""),
    (". {\n    log {\n        class ¦erorr\n    }\n}\n", "invalid Class: erorr", "did you mean 'error'?"),
    (". {\n    log {\n        class ¦erorr all ¦denail\n    }\n}\n", "invalid Class", "did you mean"),
    (". {\n    errors\n    ¦errors\n}\n", "can only be used once per Server Block", ""),
    (". {\n    errors {\n        consolidate 5m \"a.*\" ¦warn\n    }\n}\n", "unknown option in consolidate", "LEVEL"),
    (". {\n    errors {\n        consolidate 5m ¦\"(\"\n    }\n}\n", "missing closing )", ""),
    (". {\n    cache {\n        prefetch ¦a ¦b ¦c\n    }\n}\n", "", ""),
    (". {\n    multisocket ¦0\n    whoami\n}\n", "num sockets can not be zero or negative", ""),
    (". {\n    multisocket {\n        steer ¦cpus\n    }\n    whoami\n}\n", "unknown way to steer", "mean 'cpu'?"),
    (". {\n    reload ¦1s\n    whoami\n}\n", "interval value must be greater or equal to 2s", ""),
    (". {\n    loadbalance ¦roundrobin\n    whoami\n}\n", "unknown policy", ""),
    (". {\n    health {\n        lameduck ¦5\n    }\n    whoami\n}\n", "missing unit", "5s"),
    (". {\n    ready ¦8181\n    whoami\n}\n", "missing port in address", "HOST:PORT"),
    # Several at once, in the order of the text.
    (". {\n    ¦cahce\n    forward . 192.0.2.1 {\n        ¦polcy x\n        expire ¦9\n    }\n    ¦lgo\n}\n", "", ""),
    ("a.test {\n    ¦whoamI\n}\n¦b..test {\n    log {\n        class ¦non\n    }\n}\n", "", ""),
]  # fmt: skip


def split(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without marks, and their places (line, column)."""
    found: list[tuple[int, int]] = []
    for line, row in enumerate(text.split("\n"), 1):
        at = row.find(MARK)
        removed = 0
        while at >= 0:
            found.append((line, at + 1 - removed))
            removed += 1
            at = row.find(MARK, at + 1)
    return text.replace(MARK, ""), found


@pytest.mark.parametrize(("marked", "message", "hint"), BROKEN, ids=range(len(BROKEN)))
def test_every_mistake_at_its_place(marked, message, hint):
    text, places = split(marked)
    seen = examine(Source("Corefile", text.encode()), environ={})
    mistakes = [one for one in seen.findings.ordered() if one.level == "error"]
    assert [(one.line, one.column) for one in mistakes] == places, [one.message for one in mistakes]
    assert all(message in one.message for one in mistakes)
    assert not hint or all(hint in " ".join(one.hints) for one in mistakes), mistakes
    assert seen.generation is None
    with pytest.raises(ConfigError) as refused:
        chain.load(load_source(Source("Corefile", text.encode()), chain.known(), chain.not_built(), environ={}))
    assert str(refused.value) in [one.server for one in mistakes]


def test_the_table_is_long_enough():
    assert len(BROKEN) >= 40
