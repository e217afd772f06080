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
    # Lines that are read as one: that nothing is left follows from the mistake.
    (". {\n    header {\n        response set ¦bogus\n    }\n    header\n    whoami\n}\n", "flag=bogus", ""),
    (". {\n    header\n    header {\n        ¦bogus set aa\n    }\n    whoami\n}\n", "invalid selector=bogus", "query"),
    (". {\n    header {\n    }\n    header x\n    header {\n        query ¦put rd\n    }\n    whoami\n}\n",
     "unknown flag action=put", "query set|clear FLAGS"),
    (". {\n    header\n    header ¦x\n    whoami\n}\n", "Wrong argument count", ""),
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
    # What the lexer makes of odd text.
    (". {\n    log ¦\"unclosed\n    whoami\n}\n", "expecting '}'", "line 1 is not closed"),
    (". {\n    ¦¦\"whoami\n}\n", "", ""),
    (". {\n    log . \"two\n    lines\" ¦}\n    whoami\n}\n", "Unexpected '}'", "on a line of its own"),
    (". {\n    log . \"two\nlines\"\n    ¦cahce\n}\n", "Unknown directive 'cahce'", "'cache'"),
    (". {\n    whoami#glued\n    ¦lgo#glued\n}\n", "Unknown directive 'lgo'", "'log'"),
    (". {\n    # whoami {\n    ¦lgo # log\n    whoami\n}\n", "Unknown directive 'lgo'", "'log'"),
    ("¦\ufefffoo..bar {\n    whoami\n}\n", "zone is not a valid domain name: foo..bar", ""),
    (". {\r\n    whoami\r\n    ¦lgo\r\n}\r\n", "Unknown directive 'lgo'", "'log'"),
    (". {\n\t\t¦l\u00f6g\n    whoami\n}\n", "Unknown directive 'l\u00f6g'", "'log'"),
    ("# \u65e5\u672c\n. {\n    log \"\u65e5\u672c\" ¦}\n    whoami\n}\n", "Unexpected '}'", ""),
    (". {\u00a0¦lgo\n    whoami\n}\n", "Unknown directive 'lgo'", "'log'"),
    # Braces, snippets, imports and variables again, where they do not belong.
    ("¦.{\n    whoami\n}\n", "zone is not a valid domain name: .{", "a blank stands in front"),
    (". {\n    ¦{\n    whoami\n    }\n}\n", "Unknown directive '{'", ""),
    ("(a)\n¦. {\n    whoami\n}\n", "Unexpected token '.', expecting '{'", "(a) {"),
    ("(a) {\n    log\n. {\n    import a\n    whoami\n¦}\n", "expecting '}'", "opened in line 1 is not closed"),
    (". {\n    ¦{$NOSUCH}\n    whoami\n}\n", "Unknown directive ''", ""),
    (". {\n    whoami\n    import ¦\"\"\n}\n", "Import requires a non-empty filepath", ""),
    (". {\n    cache {\n        import ¦nosuch\n    }\n    whoami\n}\n", "File to import not found: nosuch", ""),
    (". {\n    whoami\n}\nimport ¦nosuch\n", "File to import not found: nosuch", ""),
    ("(p) {\n    policy ¦sequental\n}\n. {\n    forward . 192.0.2.1 {\n        import p\n    }\n}\n",
     "unknown policy 'sequental'", "'sequential'"),
    # What is lost might have said who reaches a block: nothing is said about two of them.
    (". {\n    ¦bnid 127.0.0.1\n    whoami\n}\n. {\n    whoami\n}\n", "Unknown directive 'bnid'", "'bind'"),
    (". {\n    import ¦nosuch\n    whoami\n}\n. {\n    whoami\n}\n", "File to import not found", ""),
    (". {\n    acl {\n        ¦alow net 192.0.2.0/24\n    }\n    whoami\n}\n",
     "unexpected token \"alow\"", "'allow'"),
    (". {\n    bufsize ¦100\n    whoami\n}\n", "Wrong argument count", ""),
    # More keys.
    ("a.test:53 ¦A.TEST {\n    whoami\n}\n", "already defined", "line 1"),
    ("¦.:-1 {\n    whoami\n}\n", "address -1: invalid port", ""),
    (f"¦{'a' * 64}.test {{\n    whoami\n}}\n", "zone is not a valid domain name: aaa", ""),
    # A mistake or two for each plugin.
    (". {\n    bind 127.0.0.1 {\n        ¦exept 127.0.0.2\n    }\n    whoami\n}\n", "invalid option", "'except'"),
    (". {\n    cache ¦-5\n}\n", "cache TTL can not be zero or negative: -5", "at least 1"),
    (". {\n    cache {\n        success 10 ¦x\n        denial ¦y 5\n    }\n}\n", "strconv.Atoi: parsing", "CAPACITY"),
    (". {\n    cache {\n        serve_stale 1h ¦later\n    }\n}\n", "serve_stale refresh mode: later", "verify"),
    (". {\n    cache {\n        servfail ¦10m\n    }\n}\n", "over 5 minutes is not permitted", "0s to 5m0s"),
    (". {\n    cache {\n        disable ¦failure\n    }\n}\n", "must be \"success\" or \"denial\"", "success|denial"),
    (". {\n    cache {\n        prefetch 2 10m ¦91%\n    }\n}\n", "in range [10, 90]: 91", "10% to 90%"),
    (". {\n    cache 30\n    ¦cache 60\n}\n", "can only be used once per Server Block", ""),
    (". {\n    cancel ¦1\n    whoami\n}\n", "invalid duration", "1s"),
    (". {\n    cancel 1s ¦2s\n    whoami\n}\n", "after '2s'", "cancel [TIMEOUT]"),
    (". {\n    cookie ¦secret\n    whoami\n}\n", "after 'secret'", ""),
    (". {\n    debug ¦now\n    whoami\n}\n", "after 'now'", "the line is written: debug"),
    (". {\n    demo ¦now\n}\n", "after 'now'", "the line is written: demo"),
    (". {\n    errors {\n        consolidate ¦5m\n        ¦stacktraces\n    }\n    whoami\n}\n", "plugin/errors: ", ""),
    (". {\n    forward ¦foo..bar 192.0.2.1\n}\n", "unable to normalize 'foo..bar'", "a zone"),
    (". {\n    forward . 192.0.2.1 {\n        source_address ¦1.2.3\n    }\n}\n", "invalid IP address: 1.2.3", ""),
    (". {\n    forward . 192.0.2.1 {\n        next ¦NOCODE\n        max_concurrent ¦x\n        ¦except\n    }\n}\n",
     "", "the line is written"),
    (". {\n    health ¦8080\n    whoami\n}\n", "address 8080: missing port in address", "HOST:PORT"),
    (". {\n    local {\n        localhost_prefix ¦maybe\n    }\n    whoami\n}\n",
     "expects 'on' or 'off'", "one of: on"),
    (". {\n    log {\n        class all ¦} \n    whoami\n}\n", "invalid Class: }", ""),
    (". {\n    loop ¦again\n    whoami\n}\n", "after 'again'", "the line is written: loop"),
    (". {\n    metadata {\n        ¦x\n    }\n    whoami\n}\n", "after 'x'", "has no options"),
    (". {\n    multisocket ¦many\n    whoami\n}\n", "invalid num sockets", "1 to 1024"),
    (". {\n    nsid a\n    ¦nsid b\n    whoami\n}\n", "can only be used once per Server Block", ""),
    (". {\n    on ¦start echo\n    whoami\n}\n", "Wrong event name or event not supported: 'start'", ""),
    (". {\n    on ¦startup\n    whoami\n}\n", "no command contained in ''", ""),
    (". {\n    prometheus ¦9153\n    whoami\n}\n", "address 9153: missing port in address", "HOST:PORT"),
    (". {\n    ready {\n        monitor ¦never\n    }\n    whoami\n}\n",
     "monitor type 'never' not supported", "one of: "),
    (". {\n    reload 30s ¦10ms\n    whoami\n}\n", "jitter", ""),
    (". {\n    ¦root\n    whoami\n}\n", "after 'root'", "root PATH"),
    (". {\n    root / ¦/tmp\n    whoami\n}\n", "after '/tmp'", "root PATH"),
    (". {\n    rrl {\n        ¦respones 5\n    }\n    whoami\n}\n", "unknown property 'respones'", ""),
    (". {\n    timeouts {\n        read ¦soon\n        idle 10s\n    }\n    whoami\n}\n",
     "parse duration 'soon'", "1s to"),
    (". {\n    timeouts {\n        ¦reed 5s\n        idle 10s\n    }\n    whoami\n}\n",
     "unknown option: 'reed'", "'read'"),
    (". {\n    timeouts {\n        maxtcpqueries ¦0\n    }\n    whoami\n}\n", "needs to be -1", "at least -1"),
    (". {\n    cache 30\n    whoami ¦{\n        x\n    }\n}\n", "Unexpected token '{', expecting argument", ""),
    (". {\n    whoami ¦please\n}\n", "after 'please'", "the line is written: whoami"),
    # Several at once, in the order of the text.
    (". {\n    ¦cahce\n    forward . 192.0.2.1 {\n        ¦polcy x\n        expire ¦9\n    }\n    ¦lgo\n}\n", "", ""),
    ("a.test {\n    ¦whoamI\n}\n¦b..test {\n    log {\n        class ¦non\n    }\n}\n", "", ""),
    ("a.test {\n    ¦lgo\n    whoami\n\n¦b.test {\n    whoami\n}\n¦c..test {\n    cache {\n        ¦success\n}\n}\n",
     "", ""),
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
    assert len(BROKEN) >= 120
