"""Everything that a log must never show, and a search that finds it in whatever spelling.

`Secrets` is told what went over each connection. As it holds the cookie it derives what
both ends derived: every key, every MAC that was right, and the one that would have been
right where it was not, which is what a forger would most like to read in a log.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator

from clusterkit.core.proof import AUTH_LENGTHS, OPENING_SIZE, expand, prepare_cookies
from tests.integration.hostile_wire import tag

HEAD = 8  # bytes of a secret that are enough to be one
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[:\- ]?){8,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{10,}")
_NUMBERS = re.compile(rb"\d{1,3}(?:\s*,\s*\d{1,3}){7,}")
_INTEGER = re.compile(rb"\d{17,}")
_ESCAPE = re.compile(rb"\\(?:(?:x|u00)([0-9a-fA-F]{2})|([\\'\"nrt0abfv]))")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


class Secrets:
    """What must not be seen; ``heads`` are the first bytes of each secret, with what it is."""

    def __init__(self, cookie: str) -> None:
        self.heads: dict[bytes, str] = {}
        self._prks: list[bytes] = []
        self.know(cookie)

    def know(self, cookie: str) -> None:
        """Take note of a cookie; what was learned before is not derived anew."""
        raw = cookie.encode()
        for place in range(len(raw) - HEAD + 1):  # any part of it
            self._add(raw[place:], "the cookie")
        self._add(hashlib.sha256(raw).digest(), "a plain hash of the cookie")
        self._prks += prepare_cookies(cookie)
        self._add(self._prks[-1], "PRK")

    def _add(self, secret: bytes, what: str) -> None:
        self.heads[secret[:HEAD]] = what

    # -- what went over a connection

    def learn(self, by_initiator: bytes, by_responder: bytes) -> None:
        """Derive all that one connection had under each cookie, as far as it came."""
        if len(by_initiator) >= OPENING_SIZE <= len(by_responder):
            for prk in self._prks:
                self._derive(prk, by_initiator, by_responder)

    def _derive(self, prk: bytes, by_initiator: bytes, by_responder: bytes) -> None:
        t1 = hashlib.sha256(by_initiator[:OPENING_SIZE] + by_responder[:OPENING_SIZE]).digest()
        key_i, key_r = expand(prk, b"clusterkit/1 auth", t1)
        self._add(key_i, "A_i")
        self._add(key_r, "A_r")
        auth_i, records_i = _proof(by_initiator[OPENING_SIZE:])
        auth_r, records_r = _proof(by_responder[OPENING_SIZE:])
        if auth_i:
            self._add(hmac.digest(key_i, auth_i[:-32], "sha256"), "mac_i")
        if auth_r:
            self._add(hmac.digest(key_r, auth_i + auth_r[:-32], "sha256"), "mac_r")
            t2 = hashlib.sha256(t1 + auth_i + auth_r).digest()
            keys = expand(prk, b"clusterkit/1 records", t2)
            for key, what, stream in zip(keys, ("K_ir", "K_ri"), (records_i, records_r), strict=True):
                self._add(key, what)
                for number, signed in enumerate(_signed(stream)):
                    self._add(tag(key, number, signed), "a tag")

    # -- the search

    def found_in(self, text: bytes) -> set[str]:
        """What of it can be read in a text: as it is, escaped, in hex, in base64, as numbers."""
        if text.isascii():
            text = b"\n".join(set(text.splitlines()))  # thousands of lines say the same
        heads, found = self.heads, set[str]()
        for part in _readings(text):
            found.update(heads[head] for n in range(len(part) - HEAD + 1) if (head := part[n : n + HEAD]) in heads)
        return found


def _proof(stream: bytes) -> tuple[bytes, bytes]:
    """AUTH_I or AUTH_R off the beginning of what follows the opening; nothing when it is not whole."""
    length = int.from_bytes(stream[:2], "big")
    if length not in AUTH_LENGTHS or len(stream) < 2 + length:
        return b"", b""
    return stream[: 2 + length], stream[2 + length :]


def _signed(stream: bytes) -> Iterator[bytes]:
    """What the tag of each record covers."""
    while len(stream) >= 4:
        end = 4 + int.from_bytes(stream[:4], "big")
        if len(stream) < end:
            return
        yield stream[:end]
        stream = stream[end + 16 :]


def _readings(text: bytes) -> Iterator[bytes]:
    """The bytes that a reader could make of a text."""
    plain = {text, text.decode("utf-8", "replace").encode("latin-1", "replace")}
    yield from plain | {_ESCAPE.sub(_unescape, each) for each in plain}
    for found in set(_HEX.findall(text)):
        digits = re.sub(rb"[:\- ]", b"", found)
        for shift in (0, 1):
            yield _from_hex(digits[shift:])
    for found in set(_BASE64.findall(text)):
        yield from _from_base64(found)
    for found in set(_NUMBERS.findall(text)):
        yield bytes(int(number) & 0xFF for number in found.split(b","))
    for found in set(_INTEGER.findall(text)):
        yield from _from_integer(int(found))


def _unescape(match: "re.Match[bytes]") -> bytes:
    code, sign = match.groups()
    return bytes((int(code, 16),)) if code else _PLAIN.get(sign, sign)


def _from_hex(digits: bytes) -> bytes:
    return bytes.fromhex(digits[: len(digits) & ~1].decode())


def _from_base64(word: bytes) -> Iterable[bytes]:
    word = word.translate(bytes.maketrans(b"-_", b"+/"))
    for shift in range(4):
        part = word[shift:]
        yield base64.b64decode(part[: len(part) - (len(part) % 4 == 1)] + b"==")


def _from_integer(number: int) -> Iterable[bytes]:
    size = (number.bit_length() + 7) // 8
    for order in ("big", "little"):
        for width in (size, (size + 7) // 8 * 8):
            yield number.to_bytes(width, order)
