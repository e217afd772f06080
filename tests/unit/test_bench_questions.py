# SPDX-License-Identifier: Apache-2.0
"""What a run asks: query files of dnsperf's format, synthetic names, mixes."""

from collections import Counter

import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench.questions import Edns, QuestionsError, mix, parse, query, read, synthetic, type_number


def shown(wire: bytes) -> str:
    message = dns.message.from_wire(wire)
    (question,) = message.question
    assert message.flags == dns.flags.RD and message.id == 0
    edns = f" {message.payload}{' DO' if message.ednsflags & dns.flags.DO else ''}" if message.edns >= 0 else ""
    return f"{question.name} {dns.rdatatype.to_text(question.rdtype)}{edns}"


FILE = """\
; a comment
# another
www.example.org A
www.example.org. aaaa

  mail.example.org\tMX
a\\.b.example.org TXT
a\\007b.example.org TYPE65
. NS
;www.example.org A
"""
QUESTIONS = [
    "www.example.org. A",
    "www.example.org. AAAA",
    "mail.example.org. MX",
    "a\\.b.example.org. TXT",
    "a\\007b.example.org. HTTPS",
    ". NS",
]


def test_a_query_file(tmp_path):
    path = tmp_path / "queries"
    path.write_text(FILE)
    questions = read(path)
    assert [shown(questions.wire(i)) for i in range(len(questions))] == QUESTIONS
    questions = read(path, Edns(4096, do=True))
    assert shown(questions.wire(0)) == "www.example.org. A 4096 DO"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("www.example.org SMOKE", "unknown type 'SMOKE'"),
        ("www.example.org TYPE65536", "unknown type 'TYPE65536'"),
        ("www.example.org TYPE", "unknown type 'TYPE'"),
        ("www.example.org A IN", "'IN' behind name and type"),
        ("www.example.org", "no type behind 'www.example.org'"),
        ("www..example.org A", "www..example.org"),
        ("x" * 64 + ".org A", "x" * 64),
        (".".join(["x" * 60] * 5) + " A", "x" * 60),
        ("x" * 5000, "a line of 5001 characters"),
    ],
)
def test_a_mistake_has_its_place(tmp_path, line, cause):
    path = tmp_path / "queries"
    path.write_text(f"; first\nwww.example.org A\n{line}\n")
    with pytest.raises(QuestionsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}:3 - ")
    assert cause in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(path), 3)


def test_a_file_without_questions(tmp_path):
    with pytest.raises(QuestionsError, match=r"absent: No such file"):
        read(tmp_path / "absent")
    (tmp_path / "empty").write_text("; nothing\n\n")
    with pytest.raises(QuestionsError, match=r"empty: no question in it"):
        read(tmp_path / "empty")


def test_octets_that_are_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"www.example.org A\n\xff\xfe\0\x80 A\n")
    with pytest.raises(QuestionsError, match=r"binary:2 - "):
        read(tmp_path / "binary")


@given(st.text(max_size=300))
def test_any_text_is_questions_or_a_mistake_with_its_place(text):
    lines = text.split("\n")
    try:
        wires = list(parse(lines, "F"))
    except QuestionsError as error:
        assert str(error).startswith("F:") and 1 <= error.line <= len(lines)
    else:
        for wire in wires:
            assert len(dns.message.from_wire(wire).question) == 1


LABEL = st.text(st.sampled_from("abcXYZ019-_"), min_size=1, max_size=63)


@given(st.lists(LABEL, min_size=1, max_size=3), st.integers(0, 65535))
def test_a_line_says_what_is_asked(labels, number):
    (wire,) = parse([f"{'.'.join(labels)} TYPE{number}"])
    question = dns.message.from_wire(wire).question[0] if number else None
    if question is not None:
        assert str(question.name) == ".".join(labels) + "." and question.rdtype == number
    assert wire[-4:] == number.to_bytes(2, "big") + b"\0\1"


@pytest.mark.parametrize(("text", "number"), [("A", 1), ("aaaa", 28), ("TYPE1", 1), ("type65280", 65280), ("ANY", 255)])
def test_types(text, number):
    assert type_number(text) == number


def test_synthetic_names():
    questions = synthetic(3, first=41, qtype="AAAA", zone="bench.test", edns=Edns(), rcode=3)
    expected = [f"h{number:07}.bench.test. AAAA 1232" for number in (41, 42, 43)]
    assert [shown(questions.wire(i)) for i in range(3)] == expected
    assert [questions.rcode(i) for i in range(3)] == [3, 3, 3]
    assert shown(synthetic(1).wire(0)) == "h0000000.example.org. A"
    assert synthetic(1).rcode(0) == -1
    assert query("h0000000.example.org", 1) == synthetic(1).wire(0)


def test_a_mix_has_its_shares():
    questions = mix(
        20_000, hit_ratio=0.8, hot=50, first=7, nxdomain=0.1, types={"A": 3, "AAAA": 1}, edns=0.5, do=0.2, seed=9
    )
    lines = [shown(questions.wire(i)).split() for i in range(len(questions))]
    names = [words[0] for words in lines]
    hot = [name for name in names if name.startswith("h")]
    cold = [name.partition(".")[0] for name in names if name.startswith("m")]
    missing = [name.endswith(".missing.example.org.") for name in names]
    assert len(hot) / 20_000 == pytest.approx(0.8, abs=0.02)
    assert {name.partition(".")[0] for name in hot} == {f"h{number:07}" for number in range(50)}
    assert cold == [f"m{7 + number:07}" for number in range(len(cold))]
    assert sum(missing) / 20_000 == pytest.approx(0.1, abs=0.02)
    assert [questions.rcode(i) for i in range(20_000)] == [3 if one else 0 for one in missing]
    types = Counter(words[1] for words in lines)
    assert types["A"] / 20_000 == pytest.approx(0.75, abs=0.02) and set(types) == {"A", "AAAA"}
    options = Counter(" ".join(words[2:]) for words in lines)
    assert options[""] / 20_000 == pytest.approx(0.5, abs=0.02)
    assert options["1232 DO"] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_a_mix_is_the_same_each_time():
    def drawn(seed: int) -> list[bytes]:
        questions = mix(200, hit_ratio=0.5, nxdomain=0.3, edns=0.5, seed=seed)
        return [questions.wire(i) for i in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert mix(5, check=False).rcode(0) == -1


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"hit_ratio": 1.1},
        {"nxdomain": -0.1},
        {"edns": 2},
        {"do": float("nan")},
        {"hot": 0},
        {"first": -1},
        {"types": {"A": -1, "AAAA": 2}},
        {"types": {"A": 0}},
        {"types": {"SMOKE": 1}},
        {"edns_size": 70000},
        {"zone": "a..b"},
    ],
    ids=str,
)
def test_a_mix_that_makes_no_sense(wrong):
    with pytest.raises(ValueError):
        mix(**{"count": 10, **wrong})


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 1, "first": -1}, {"count": 1, "rcode": 16}], ids=str)
def test_synthetic_names_that_make_no_sense(wrong):
    with pytest.raises(ValueError):
        synthetic(**wrong)
