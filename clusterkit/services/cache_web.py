"""Caches over HTTP: an ASGI app that asks `CacheGroup`s. It needs the extra ``web``.

``GET /api/<group>?key=<key>``, with a single group ``GET /api?key=<key>`` too, and for other clients
``GET /_geecache/<group>/<key>``; HEAD as GET. docs/cache.md has the statuses and the types of values.

Rules: group and key are read from the raw path and query, so an escaped slash is part of a name
and never a border; what cannot be read as it was meant is refused, never guessed; an error is a
small JSON object that tells what the client may know, and the log has the rest.
"""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from math import inf
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from clusterkit.core.payload import encode
from clusterkit.errors import (
    CallError,
    CallTimeout,
    ClusterError,
    ConfigError,
    LoadFailed,
    UnknownKey,
    UnsupportedPayload,
    UsageError,
)
from clusterkit.services.cache import CacheGroup

try:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocketClose
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    raise ModuleNotFoundError(
        f'the HTTP front of a cache needs {missing}: pip install "clusterkit[web]"', name=missing
    ) from None

logger = logging.getLogger("clusterkit.cache")

_METHODS = ("GET", "HEAD")
_MOST_TOLD = 300  # characters of an error that names a type or a key
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_JSON_SCALARS = (str, int, float, bool, type(None))


def cache_app(*groups: CacheGroup, timeout: float = 5.0) -> Starlette:
    """Make an ASGI app that answers from these groups, to be served or mounted under any prefix.

    ``timeout`` is how long a request waits for its value, in seconds. The groups stay the
    caller's: an app that outlives them answers 503. Raises `ConfigError` without groups, or when
    two have one name.
    """
    by_name = {group.name: group for group in groups}
    if not groups:
        raise ConfigError("cache_app needs a CacheGroup to answer from")
    if len(by_name) < len(groups):
        raise ConfigError(f"two groups of one name: {', '.join(group.name for group in groups)}")
    if not 0 < timeout < inf:
        raise ConfigError(f"timeout is {timeout!r}: it must be a positive number of seconds")
    app = Starlette()
    app.router.redirect_slashes = False
    app.router.default = _Front(by_name, timeout)  # routes match the unescaped path, where a key's own slash is lost
    return app


class _Refused(Exception):
    """A request that gets no value."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def response(self) -> Response:
        body = json.dumps({"code": self.code, "message": str(self)}, ensure_ascii=False).encode()
        headers = {"Allow": ", ".join(_METHODS)} if self.status is HTTPStatus.METHOD_NOT_ALLOWED else None
        return Response(body, self.status, headers, "application/json")


def _closing() -> _Refused:
    return _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "closing", "this node is closing: ask another")


class _Front:
    """The app itself."""

    def __init__(self, groups: Mapping[str, CacheGroup], timeout: float) -> None:
        self._groups = groups
        self._timeout = timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        response = await self._answer(scope)
        await response(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        try:
            group, key = self._read(scope)
            return await self._fetch(group, key)
        except _Refused as refused:
            return refused.response()
        except asyncio.CancelledError:  # so a server ends what waits when it closes: who waits is told
            return _closing().response()
        except Exception:
            logger.exception("a fault in the HTTP front of the cache")
            return _Refused(
                HTTPStatus.INTERNAL_SERVER_ERROR, "fault", "a fault of the server; its log tells"
            ).response()

    def _read(self, scope: Scope) -> tuple[CacheGroup, str]:
        """Find out what is asked for."""
        match _steps(scope):
            case [b"api"]:
                name, keys = None, _keys_in_query(scope)
            case [b"api", step]:
                name, keys = _text(step, "the group"), _keys_in_query(scope)
            case [b"_geecache", step, *rest]:
                name, keys = _text(step, "the group"), [b"/".join(rest)]
            case _:
                where = "/api/<group>?key=<key> or /_geecache/<group>/<key>"
                raise _Refused(HTTPStatus.NOT_FOUND, "unknown-path", f"nothing is here: ask for {where}")
        if scope["method"] not in _METHODS:
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "method", "a cache answers GET and HEAD")
        group = self._group(name)
        if len(keys) > 1:
            raise _Refused(HTTPStatus.BAD_REQUEST, "bad-key", "several keys: one is asked for at a time")
        if not any(keys):
            raise _Refused(HTTPStatus.BAD_REQUEST, "bad-key", "the key is missing")
        return group, _text(keys[0], "the key")

    def _group(self, name: str | None) -> CacheGroup:
        if name is None and len(self._groups) > 1:
            raise _Refused(HTTPStatus.NOT_FOUND, "unknown-group", "which group? ask for /api/<group>?key=<key>")
        group = next(iter(self._groups.values())) if name is None else self._groups.get(name)
        if group is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "unknown-group", "no group has that name here")
        return group

    async def _fetch(self, group: CacheGroup, key: str) -> Response:
        try:
            fetched = await group.fetch(key, timeout=self._timeout)
            body, kind = _represent(fetched.value)
        except ClusterError as error:
            raise _refusal(error, group.name) from error
        return Response(body, headers={"X-Cache": fetched.source, "Content-Type": kind})


def _refusal(error: ClusterError, group: str) -> _Refused:
    """Tell a client why there is no value; what the loader itself said stays in the log."""
    match error:
        case UnknownKey():
            return _Refused(HTTPStatus.NOT_FOUND, "unknown-key", f"group {group} has no such key")
        case ConfigError():
            return _Refused(HTTPStatus.BAD_REQUEST, "bad-key", str(error))
        case CallTimeout():
            return _Refused(HTTPStatus.GATEWAY_TIMEOUT, "timeout", "no value came in time")
        case UsageError():
            return _closing()
    logger.warning("group %s: a request over HTTP failed: %s: %s", group, type(error).__name__, error)
    match error:
        case LoadFailed(__cause__=UnsupportedPayload() as why):
            return _Refused(HTTPStatus.BAD_GATEWAY, "bad-value", str(why)[:_MOST_TOLD])
        case LoadFailed(__cause__=CallError()):
            return _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "who would have to answer cannot be reached")
        case LoadFailed():
            return _Refused(HTTPStatus.BAD_GATEWAY, "load-failed", f"the source of group {group} failed")
    return _Refused(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "the cluster could not answer")


# -- what is asked for


def _steps(scope: Scope) -> list[bytes]:
    """The steps of the raw path below where the app is mounted; all but the first are still escaped."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    steps = raw.split(b"/")
    root = scope.get("root_path", "").rstrip("/").encode()
    mounted = (at for at in range(1, len(steps)) if unquote_to_bytes(b"/".join(steps[:at])) == root)
    first = next(mounted, 1)  # else a proxy has taken the prefix away
    return [unquote_to_bytes(each) for each in steps[first : first + 1]] + steps[first + 1 :]


def _keys_in_query(scope: Scope) -> list[bytes]:
    pairs = (part.replace(b"+", b" ").partition(b"=") for part in scope["query_string"].split(b"&"))
    return [value for name, _, value in pairs if unquote_to_bytes(name) == b"key"]


def _text(raw: bytes, what: str) -> str:
    if _BAD_ESCAPE.search(raw):
        raise _Refused(HTTPStatus.BAD_REQUEST, "bad-key", f"{what} has a % without two hex digits: write it as %25")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise _Refused(HTTPStatus.BAD_REQUEST, "bad-key", f"{what} is not UTF-8") from None


# -- what is answered


def _represent(value: Any) -> tuple[bytes, str]:
    """A value's bytes, and their content type."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    if _is_json(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(), "application/json"
    return encode(value, "value"), "application/msgpack"


def _is_json(value: Any) -> bool:
    """Whether JSON carries all of it, and gives it back as it was."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return -inf < value < inf
    return isinstance(value, _JSON_SCALARS)
