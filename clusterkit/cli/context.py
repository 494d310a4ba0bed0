"""Named targets: several clusters, each with its address and with the paths of its cookie and certificates.

They stand in ``$XDG_CONFIG_HOME/clusterkit/contexts.toml`` (``~/.config`` without it)::

    current = "staging"

    [contexts.staging]
    host = "10.0.0.7"
    port = 7022
    cookie_file = "/home/ada/.staging-cookie"

Rules: a cookie never stands here, only the path of its file; the file is its owner's, and
one that others may write is refused, for it says whom to trust; it is replaced whole,
or not at all. What was typed comes before the environment, and that before the context,
and that before the default; a context that was typed with ``-c`` was typed.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from clusterkit.cli.failure import Exit, Failure, usage
from clusterkit.cli.settings import Settings

_HEADER = "# Written by `clusterkit context`; comments are not kept.\n"
_MOST = 1 << 20  # bytes of a file that is read
_OTHERS_WRITE = 0o022


@dataclass(frozen=True, slots=True)
class Context:
    """Where a node is and how to be trusted there; None: not said."""

    host: str | None = None
    port: int | None = None
    instance: str | None = None
    cookie_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None

    @property
    def cookie_files(self) -> tuple[str, ...]:
        """As `find_cookie` takes it."""
        return (self.cookie_file,) if self.cookie_file else ()


NAMES = tuple(each.name for each in fields(Context))
PATHS = ("cookie_file", "tls_cert", "tls_key", "tls_ca")
_DEFAULTS: Mapping[str, str | int] = {"host": "127.0.0.1", "port": 7022}


@dataclass(frozen=True, slots=True)
class Contexts:
    """All that the file says."""

    by_name: Mapping[str, Context] = field(default_factory=dict)
    current: str | None = None

    def get(self, name: str) -> Context:
        """Find one; raises `Failure`."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none yet: `clusterkit context add NAME` makes one"
            raise Failure(Exit.USAGE, "context", f"there is no context {name!r}", f"there are: {known}")
        return self.by_name[name]

    def put(self, name: str, context: Context) -> "Contexts":
        """With one more, or another under its name."""
        return replace(self, by_name={**self.by_name, name: context})

    def without(self, name: str) -> "Contexts":
        """Without one; if it was the current one there is none then. Raises `Failure`."""
        self.get(name)
        rest = {each: context for each, context in self.by_name.items() if each != name}
        return Contexts(rest, None if self.current == name else self.current)

    def use(self, name: str | None) -> "Contexts":
        """With another current one, or none; raises `Failure`."""
        if name is not None:
            self.get(name)
        return replace(self, current=name)


# -- which one, and what holds


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that holds, and where it comes from: ``--port``, ``CLUSTERKIT_PORT``, ``context staging``, ``default``."""

    value: Any
    origin: str


def find(settings: Settings, environ: Mapping[str, str]) -> Context:
    """The target that holds, each part from where it ranks highest; raises `Failure`.

    Its ``cookie_file`` is None when the cookie is in CLUSTERKIT_COOKIE, or nowhere.
    """
    found = effective(settings, environ)
    return Context(**{name: found[name].value for name in NAMES})


def effective(settings: Settings, environ: Mapping[str, str]) -> dict[str, Setting]:
    """Each part of the target and the name of the ``context``, with where they come from; raises `Failure`.

    The ``instance`` of a context is who answers at the context's address: it holds for no other.
    """
    chosen, context = _choose(settings, environ)
    origin = f"context {chosen.value}"
    kept = {name: Setting(value, origin) for name in NAMES if (value := getattr(context, name)) is not None}
    given = {name: each for name in NAMES if (each := _given(name, settings, environ)) is not None}
    if not _is_typed(chosen):
        found = kept | given
    else:
        found = given | kept | {name: each for name, each in given.items() if _is_typed(each)}
    elsewhere = any(name in found and found[name].origin != origin for name in ("host", "port"))
    if elsewhere and "instance" in found and found["instance"].origin == origin:
        del found["instance"]
    return {"context": chosen} | {name: found.get(name) or _default(name) for name in NAMES}


def _default(name: str) -> Setting:
    return Setting(_DEFAULTS.get(name), "default")


def _is_typed(setting: Setting) -> bool:
    return setting.origin.startswith("-")


def _choose(settings: Settings, environ: Mapping[str, str]) -> tuple[Setting, Context]:
    """The context that was named, or the current one, or none."""
    if settings.context:
        chosen = Setting(settings.context, settings.origins.get("context", "--context"))
        return chosen, read(path_of(environ)).get(settings.context)
    contexts = read(path_of(environ))
    if contexts.current is None:
        return Setting(None, "default"), Context()
    return Setting(contexts.current, "context use"), contexts.get(contexts.current)


def _given(name: str, settings: Settings, environ: Mapping[str, str]) -> Setting | None:
    if name == "cookie_file":
        return _given_cookie(settings, environ)
    value = getattr(settings, name)
    return None if value is None else Setting(value, settings.origins.get(name, f"--{name.replace('_', '-')}"))


def _given_cookie(settings: Settings, environ: Mapping[str, str]) -> Setting | None:
    """Where the cookie was given; of several files the first, which is what a client dials with."""
    if settings.cookie_file:
        return Setting(settings.cookie_file[0], settings.origins.get("cookie_file", "--cookie-file"))
    if environ.get("CLUSTERKIT_COOKIE"):
        return Setting(None, "CLUSTERKIT_COOKIE")
    files = [file for file in environ.get("CLUSTERKIT_COOKIE_FILE", "").split(os.pathsep) if file]
    return Setting(files[0], "CLUSTERKIT_COOKIE_FILE") if files else None


# -- the file


def path_of(environ: Mapping[str, str]) -> Path:
    """Where the file is, or would be; a base that is not absolute does not count, as its standard says."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not Path(base).is_absolute():
        home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
        base = str(Path(home, ".config"))
    return Path(base, "clusterkit", "contexts.toml")


def read(path: Path) -> Contexts:
    """Read the file; none there is none yet. Raises `Failure`."""
    try:
        with path.open("rb") as file:
            _check_trust(path, os.fstat(file.fileno()))
            _check_trust(path.parent, path.parent.stat())
            text = file.read(_MOST + 1)
    except OSError as error:
        if not _is_there(path):
            return Contexts()
        raise _bad(path, f"cannot be read: {error.strerror or error}") from None
    if len(text) > _MOST:
        raise _bad(path, f"is larger than {_MOST} bytes")
    return _parse(path, text)


def _is_there(path: Path) -> bool:
    """Whether there is such a file, as far as this user may know: a home that is somebody else's holds nothing of ours."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _check_trust(path: Path, status: os.stat_result) -> None:
    """Refuse what others may change: it says where to go, and with which cookie."""
    if os.name != "posix":
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS_WRITE:
        message = f"others may write {path} (mode {mode:04o})"
        raise Failure(Exit.USAGE, "context", message, f"chmod go-w {path}, once you have looked what stands there")
    if status.st_uid not in {0, os.geteuid()}:
        hint = "set XDG_CONFIG_HOME to a folder of your own, or have it given to you"
        raise Failure(Exit.USAGE, "context", f"{path} is another user's (uid {status.st_uid})", hint)


def _bad(path: Path, why: str) -> Failure:
    return Failure(Exit.USAGE, "context", f"the contexts of {path}: it {why}", "correct it, or put it away")


def _parse(path: Path, text: bytes) -> Contexts:
    import tomllib  # noqa: PLC0415 - so that a command costs only what it needs

    try:
        found = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, f"is no TOML: {error}") from None
    try:
        return _contexts(found, path.parent)
    except ValueError as error:
        raise _bad(path, str(error)) from None


def _contexts(found: dict[str, Any], folder: Path) -> Contexts:
    current, tables = found.pop("current", None), found.pop("contexts", {})
    if found:
        raise ValueError(f"has {next(iter(found))!r}, which is neither current nor contexts")
    if not isinstance(tables, dict):
        raise ValueError("has contexts that are no tables")  # noqa: TRY004 - one error for all that is wrong in it
    by_name = {name: _context(name, table, folder) for name, table in tables.items()}
    if current is not None and current not in by_name:
        raise ValueError(f"says that {current!r} is current, and has no such context")
    return Contexts(by_name, current)


def _context(name: str, table: Any, folder: Path) -> Context:
    if not name or not isinstance(table, dict):
        raise ValueError(f"has a context {name!r} that is no table with a name")
    for key, value in table.items():
        if key == "cookie":
            raise ValueError(f"has a cookie in {name!r}: write it to a file of mode 0600, and its path as cookie_file")
        if key not in NAMES:
            raise ValueError(f"has {key!r} in {name!r}: there are {', '.join(NAMES)}")
        if key == "port":
            if type(value) is not int or not 1 <= value <= 65535:
                raise ValueError(f"has port {value!r} in {name!r}, which is not from 1 to 65535")
        elif not isinstance(value, str) or not value:
            raise ValueError(f"has {key} {value!r} in {name!r}, which is no text")
    values: dict[str, Any] = {key: _whole(value, folder) if key in PATHS else value for key, value in table.items()}
    return Context(**values)


def _whole(path: str, folder: Path) -> str:
    """A path as a hand may have written it, whole."""
    return os.path.join(folder, os.path.expanduser(path))  # noqa: PTH111, PTH118 - a Path would drop what it finds needless


@contextmanager
def changing(environ: Mapping[str, str]) -> Iterator["Draft"]:
    """Read, change and replace the file, as the only one who does; raises `Failure`.

    When the body raises nothing is written.
    """
    path = Path(os.path.realpath(path_of(environ)))
    try:
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _unwritten(path, error) from None
    try:
        _alone(folder, path)
        draft = Draft(read(path))
        yield draft
        _write(path, draft.contexts)
    except OSError as error:
        raise _unwritten(path, error) from None
    finally:
        os.close(folder)


@dataclass(slots=True)
class Draft:
    """What the file will say."""

    contexts: Contexts


def _unwritten(path: Path, error: OSError) -> Failure:
    return Failure(Exit.REFUSED, "file", f"cannot write {path}: {error.strerror or error}")


def _alone(folder: int, path: Path) -> None:
    """Hold the folder until it is closed; whoever else holds it is not waited for."""
    if os.name != "posix":
        return
    import fcntl  # noqa: PLC0415 - not everywhere

    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failure(Exit.REFUSED, "busy", f"another process is writing {path} now", "try again") from None


def _write(path: Path, contexts: Contexts) -> None:
    text = dump(contexts).encode()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)  # of a process with this number that was killed
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


# -- TOML, as much as is needed


def dump(contexts: Contexts) -> str:
    """Write it as TOML; raises `Failure` for a text that TOML cannot hold.

    >>> print(dump(Contexts({"a": Context("h", 7022)}, "a")).partition("kept.")[2].strip())
    current = "a"
    <BLANKLINE>
    [contexts."a"]
    host = "h"
    port = 7022
    """
    lines = [_HEADER]
    if contexts.current is not None:
        lines.append(f"current = {_quoted(contexts.current)}\n")
    for name, context in sorted(contexts.by_name.items()):
        lines.append(f"\n[contexts.{_quoted(name)}]\n")
        values = {each: getattr(context, each) for each in NAMES}
        lines += [f"{each} = {_value(value)}\n" for each, value in values.items() if value is not None]
    return "".join(lines)


def _value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else _quoted(value)


def _quoted(text: str) -> str:
    """A basic string: what TOML forbids in one is escaped, and nothing else."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise usage(f"{text!r} is no UTF-8, and cannot stand in the contexts") from None
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return f"\\u{ord(char):04x}" if char < " " or char == "\x7f" else char
