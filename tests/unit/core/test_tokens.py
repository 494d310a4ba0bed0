"""Tokens: what the default scheme draws, and schemes of one's own."""

from hashlib import sha256
from zlib import crc32

import pytest

from clusterkit.core.tokens import SHA256, TOKENS_PER_WEIGHT, TokenScheme, key_bytes


def test_the_token_of_a_key_is_the_first_64_bits_of_its_sha256() -> None:
    assert SHA256.of_key("some key") == int.from_bytes(sha256(b"some key").digest()[:8], "big")


def test_a_str_key_is_its_utf8() -> None:
    assert SHA256.of_key("schlüssel") == SHA256.of_key("schlüssel".encode())


def test_a_subclass_of_str_is_a_str() -> None:
    class Label(str):
        __slots__ = ()

    assert SHA256.of_key(Label("k")) == SHA256.of_key("k")


def test_a_node_has_128_tokens_per_weight_four_of_each_digest() -> None:
    tokens = SHA256.of_node("node", 1)
    first = sha256(b"node_1").digest()
    assert len(tokens) == TOKENS_PER_WEIGHT == 128
    assert tokens[:4] == [int.from_bytes(first[i : i + 8], "big") for i in (0, 8, 16, 24)]
    assert tokens[4] == int.from_bytes(sha256(b"node_2").digest()[:8], "big")


def test_a_greater_weight_keeps_the_tokens_of_the_smaller() -> None:
    assert SHA256.of_node("node", 3)[:128] == SHA256.of_node("node", 1)


def test_names_that_run_together_do_not_share_tokens() -> None:
    assert not set(SHA256.of_node("a", 1)) & set(SHA256.of_node("a_1", 1))


@pytest.mark.parametrize("key", [1, 1.5, None, bytearray(b"k"), ["k"], True])
def test_a_key_of_another_type_is_refused(key: object) -> None:
    with pytest.raises(TypeError, match="a key is a str or bytes, not"):
        SHA256.of_key(key)  # type: ignore[arg-type]


def test_key_bytes() -> None:
    assert (key_bytes("k"), key_bytes(b"k")) == (b"k", b"k")


def test_a_scheme_of_one_hash_function() -> None:
    scheme = TokenScheme.hashing("crc32", crc32, bits=32, per_weight=3)
    assert scheme.of_key("k") == crc32(b"k")
    assert scheme.of_node("n", 2) == [crc32(f"n_{i}".encode()) for i in range(1, 7)]
    assert (scheme.name, scheme.bits) == ("crc32", 32)
    with pytest.raises(TypeError):
        scheme.of_key(7)  # type: ignore[arg-type]
