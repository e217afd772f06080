# SPDX-License-Identifier: Apache-2.0
"""The hashes of TSIG against Python's, and the vectors of the RFCs."""

import hashlib
import hmac as reference

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._hmac import NAMES, digest, hmac

KINDS = range(len(NAMES))
ODD = bytes(range(256)) * 5


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_every_length_around_the_end_of_a_block(kind):
    for length in range(600):
        assert digest(kind, ODD[:length]) == hashlib.new(NAMES[kind], ODD[:length]).digest(), length


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_long_message(kind):
    data = ODD * 52
    assert digest(kind, data) == hashlib.new(NAMES[kind], data).digest()


@given(st.sampled_from(KINDS), st.binary(max_size=600), st.lists(st.integers(0, 600), max_size=6))
def test_pieces_come_to_the_same(kind, data, cuts):
    assert digest(kind, data, cuts) == hashlib.new(NAMES[kind], data).digest()


@given(st.sampled_from(KINDS), st.binary(max_size=300), st.binary(max_size=600))
@settings(max_examples=500)
def test_hmac_of_any_secret(kind, secret, data):
    assert hmac(kind, secret, data) == reference.digest(secret, data, NAMES[kind])


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_secrets_around_the_end_of_a_block(kind):
    for length in range(140):
        assert hmac(kind, ODD[:length], b"x") == reference.digest(ODD[:length], b"x", NAMES[kind])


# RFC 2202 3 and RFC 4231 4: cases 1, 2 and 6.
LONG = b"Test Using Larger Than Block-Size Key - Hash Key First"
VECTORS = [
    ("sha1", b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    ("sha1", b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    ("sha1", b"\xaa" * 80, LONG, "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
    ("sha224", b"\x0b" * 20, b"Hi There", "896fb1128abbdf196832107cd49df33f47b4b1169912ba4f53684b22"),
    ("sha224", b"\xaa" * 131, LONG, "95e9a0db962095adaebe9b2d6f0dbce2d499f112f2d2b7273fa6870e"),
    ("sha256", b"Jefe", b"what do ya want for nothing?",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ("sha256", b"\xaa" * 131, LONG, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
    ("sha384", b"\x0b" * 20, b"Hi There",
     "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"),
    ("sha512", b"Jefe", b"what do ya want for nothing?",
     "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd"
     "caeab1a34d4a6b4b636e070a38bce737"),
]


@pytest.mark.parametrize(("name", "secret", "data", "wanted"), VECTORS)
def test_vectors(name, secret, data, wanted):
    assert hmac(NAMES.index(name), secret, data).hex() == wanted


@pytest.mark.parametrize("kind", [-1, 5])
def test_there_are_no_others(kind):
    with pytest.raises(ValueError, match="no such hash"):
        digest(kind, b"")
    with pytest.raises(ValueError, match="no such hash"):
        hmac(kind, b"", b"")
