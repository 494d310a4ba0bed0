"""Where cookies come from: files, or the environment; never the command line.

Rules: what others can see in ``ps`` is no secret, so there is no option for it; a
file that others may read is refused; from a file one final line end is removed and
nothing else, so what was written is what is used. Of several files the first is the
cookie to dial with, and the others are accepted too; a client only dials.
"""

import base64
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.core.proof import MOST_COOKIES, prepare_cookies
from clusterkit.errors import ConfigError
from clusterkit.runtime import entropy

_SIZE = 32
_OWNER_ONLY = 0o600
_KEYGEN = "`clusterkit keygen FILE` makes one"


@dataclass(frozen=True, slots=True)
class Cookies:
    """Where a node's cookies are found: in files, which may be read again, or else one ``value``."""

    files: tuple[str, ...] = ()
    value: bytes = b""

    def read(self) -> list[bytes]:
        """Read all files now, the first first, each cookie once; raises `Failure`."""
        if not self.files:
            return [_checked(self.value, "CLUSTERKIT_COOKIE")]
        return list(dict.fromkeys(_checked(read_cookie_file(Path(file)), file) for file in self.files))


def find_cookies(files: Sequence[str], environ: Mapping[str, str]) -> Cookies:
    """Look at ``--cookie-file``, CLUSTERKIT_COOKIE and CLUSTERKIT_COOKIE_FILE, in this order; nothing is read yet."""
    if not files and (given := environ.get("CLUSTERKIT_COOKIE")):
        return Cookies(value=os.fsencode(given))
    files = files or [file for file in environ.get("CLUSTERKIT_COOKIE_FILE", "").split(os.pathsep) if file]
    if not files:
        raise _refused("no cookie was given", f"set CLUSTERKIT_COOKIE, or give --cookie-file FILE; {_KEYGEN}")
    if len(files) > MOST_COOKIES:
        raise usage(f"{len(files)} cookie files were given: {MOST_COOKIES} are the most")
    return Cookies(tuple(files))


def find_cookie(files: Sequence[str], environ: Mapping[str, str]) -> bytes:
    """Read the one cookie that a client dials with: of several files the first."""
    found = find_cookies(files, environ)
    return Cookies(found.files[:1], found.value).read()[0]


def _checked(cookie: bytes, source: str) -> bytes:
    try:
        prepare_cookies(cookie)
    except ConfigError as error:
        raise _refused(f"the cookie of {source} cannot be used: {error}", _KEYGEN) from None
    return cookie


def read_cookie_file(path: Path) -> bytes:
    """Read a cookie that nobody but its owner may read."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(1 << 16)
    except OSError as error:
        raise _refused(f"cannot read the cookie file {path}: {error.strerror or error}", _KEYGEN) from None
    if os.name == "posix" and mode & 0o077:
        raise _refused(f"others may read or write the cookie file {path} (mode {mode:04o})", f"chmod 600 {path}")
    return text.removesuffix(b"\n").removesuffix(b"\r") if text.endswith(b"\n") else text


def _refused(message: str, hint: str) -> Failure:
    return Failure(Exit.COOKIE, "cookie", message, hint)


async def new_cookie() -> str:
    """Draw a cookie: 32 random bytes, as base64 text."""
    return base64.b64encode(entropy(_SIZE)).decode()


def write_cookie_file(path: Path, cookie: str, *, force: bool) -> None:
    """Write a new file that only its owner may read; ``force`` replaces one that is there."""
    if path.exists() and not force:
        raise usage(f"{path} is there already, and may be a cookie in use", "--force replaces it")
    fresh = path.with_name(f".{path.name}.{os.getpid()}") if force else path
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{cookie}\n")
        if force:
            fresh.replace(path)
    except OSError as error:
        raise Failure(Exit.REFUSED, "file", f"cannot write {path}: {error.strerror or error}") from None
