"""Classes that may cross the wire: dataclasses marked with `message`.

An object goes as the name of its class and a map of its fields. On arrival the class
is looked up by that name among the marked ones; nothing is imported. Each field is
checked against its annotation (`clusterkit.core.field_checks`), and an object that
does not fit is refused with the path of the part that does not.

Rules:

- All fields go, also those with ``init=False``. What arrives is made without
  ``__init__`` and ``__setattr__``: the fields are set, then ``__post_init__`` runs,
  and what it raises refuses the object.
- A field that is missing gets its default, if it has one. A field that is unknown is
  refused, unless it is None, which tells nothing: so ``new: int | None = None`` may
  be added while nodes of the old code run, and an old node refuses what it would
  misunderstand.
- A name belongs to one class, told by its module and qualified name. The same class
  defined again (a reload, a script that is imported too) takes the name: what
  arrives is of the newest, and objects of the older ones can still be sent.
- Annotations are read at the mark, and again at first use, when the names that stood
  for later classes have their meaning.
"""

import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import PurePath
from typing import Any, TypeVar, get_type_hints, overload

from clusterkit.core.field_checks import Check, Mismatch, compile_check, shown

T = TypeVar("T")

_MARK = "__clusterkit_message__"
_LONGEST_NAME = 255  # bytes
_SCRIPTS = frozenset({"__main__", "__mp_main__"})  # the second is what multiprocessing calls the first
_LONGEST_REASON = 1024

_types: dict[str, "MessageType"] = {}


@overload
def message(cls: type[T], /) -> type[T]: ...
@overload
def message(*, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
def message(cls: type[Any] | None = None, /, *, name: str | None = None) -> Any:
    """Let the objects of a dataclass cross the wire; stands above ``@dataclass``.

    ``name`` is what the class is called on the wire, the same on all nodes; by
    default its module and qualified name. A script's module is the file's stem, or
    what ``python -m`` was given, so that it is the same class where it is imported.
    Marked under two names, a class is sent under the upper and taken under both.

    Raises TypeError for what cannot cross: no dataclass, an annotation that cannot be
    checked, an `InitVar`, a ``__new__`` of its own, a name that another class has.

    >>> from dataclasses import dataclass
    >>> @message
    ... @dataclass
    ... class Price:
    ...     sku: str
    ...     cents: int
    """

    def mark(cls: type[T]) -> type[T]:
        kind = MessageType(cls, name)
        known = _types.get(kind.name)
        if known is not None and known.home != kind.home:
            raise TypeError(f"{kind.home}: the message name {kind.name!r} belongs to {known.home}")
        kind.check_annotations()
        setattr(cls, _MARK, kind)
        _types[kind.name] = kind
        return cls

    return mark if cls is None else mark(cls)


def find_type(name: str) -> "MessageType":
    """Find the marked class of that name; raises `Mismatch`."""
    if name not in _types:
        raise Mismatch(f"no message type {shown(name)} here; is its module imported, its class marked with @message?")
    return _types[name]


def type_of(value: object) -> "MessageType | None":
    """Tell how an object crosses; None when its very class is not marked."""
    return _type_of_class(type(value))


def _type_of_class(cls: type) -> "MessageType | None":
    kind = vars(cls).get(_MARK)
    return kind if isinstance(kind, MessageType) and kind.cls is cls else None


class MessageType:
    """How the objects of one class are taken apart and built."""

    __slots__ = ("_checks", "_fields", "_post_init", "cls", "home", "name")

    def __init__(self, cls: type[Any], name: str | None) -> None:
        _check_class(cls)
        self.cls = cls
        self.home = f"{_real_module(cls)}.{cls.__qualname__}"
        self.name = _check_name(self.home if name is None else name, self.home)
        self._fields: tuple[Field[Any], ...] = fields(cls)
        self._post_init: Callable[[Any], object] | None = getattr(cls, "__post_init__", None)
        self._checks: dict[str, Check] | None = None

    def check_annotations(self) -> None:
        """Raise TypeError for an annotation that cannot be checked, as far as names have a meaning yet."""
        try:
            hints = _hints(self.cls)
        except (NameError, AttributeError):
            return
        except Exception as error:
            raise TypeError(f"{self.home} has annotations that cannot be read: {_summary(error)}") from error
        self._compile(hints)

    def _compile(self, hints: dict[str, Any]) -> dict[str, Check]:
        return {each.name: self._compile_field(each.name, hints[each.name]) for each in self._fields}

    def _compile_field(self, name: str, annotation: Any) -> Check:
        try:
            return compile_check(annotation, lambda cls: cls is self.cls or _type_of_class(cls) is not None)
        except TypeError as error:
            raise TypeError(f"{self.home}.{name}: {error}") from None

    def _ready_checks(self) -> dict[str, Check]:
        if self._checks is None:
            try:
                self._checks = self._compile(_hints(self.cls))
            except Exception as error:  # an annotation in quotes is anybody's expression
                raise Mismatch(f"{self.home} has annotations that cannot be checked: {_summary(error)}") from error
        return self._checks

    def read(self, value: Any) -> dict[str, Any]:
        """Take an object apart, unchecked; raises `Mismatch` for a field that cannot be read."""
        told = {}
        for each in self._fields:
            try:
                told[each.name] = getattr(value, each.name)
            except Exception as error:
                raise Mismatch(f"cannot be read: {_summary(error)}", f".{each.name}") from error
        return told

    def check(self, told: dict[str, Any]) -> dict[str, Any]:
        """Give known fields as their annotations want them; raises `Mismatch`."""
        checks, checked = self._ready_checks(), {}
        for name, value in told.items():
            try:
                checked[name] = checks[name](value)
            except Mismatch as error:
                error.put_under(f".{name}")
                raise
        return checked

    def sift(self, told: dict[str, Any]) -> None:
        """Drop what tells nothing; raises `Mismatch` for another field that is unknown here."""
        known = self._ready_checks()
        for name in [each for each in told if each not in known]:
            if told.pop(name) is not None:
                raise Mismatch(f"{self.home} has no field {shown(name)} here")

    def build(self, told: dict[str, Any]) -> Any:
        """Make an object of what arrived, sifted; raises `Mismatch`."""
        checked = self.check(told)
        try:
            if len(checked) < len(self._fields):
                self._fill(checked)
            made = object.__new__(self.cls)
            for name, value in checked.items():
                object.__setattr__(made, name, value)
            if self._post_init is not None:
                self._post_init(made)
        except Mismatch:
            raise
        except Exception as error:
            raise Mismatch(f"{self.home} refused what came: {_summary(error)}") from error
        return made

    def _fill(self, checked: dict[str, Any]) -> None:
        """Add what a constructor would: defaults; the rest of ``init=False`` is for ``__post_init__``."""
        for each in self._fields:
            if each.name in checked:
                continue
            if each.default is not MISSING:
                checked[each.name] = each.default
            elif each.default_factory is not MISSING:
                checked[each.name] = each.default_factory()
            elif each.init:
                raise Mismatch(f"{self.home} without its field {each.name!r}")


def _check_class(cls: Any) -> None:
    if not isinstance(cls, type) or "__dataclass_fields__" not in vars(cls):
        raise TypeError(f"@message stands above @dataclass, on a class: {cls!r} is no dataclass")
    new: object = cls.__new__
    if new is not object.__new__:
        raise TypeError(f"{cls.__qualname__} has a __new__ of its own or of a built-in base; it cannot be a @message")
    if getattr(cls, "__abstractmethods__", None):
        raise TypeError(f"{cls.__qualname__} is abstract: mark the classes below it with @message")
    for each in vars(cls)["__dataclass_fields__"].values():
        if repr(getattr(each, "_field_type", None)) == "_FIELD_INITVAR":  # the only place where that is told
            raise TypeError(f"{cls.__qualname__}.{each.name} is an InitVar, which no object keeps: it cannot be sent")


def _check_name(name: Any, home: str) -> str:
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise TypeError(f"{home}: a message name is 1 to {_LONGEST_NAME} bytes of printable text, not {name!r}")
    return name


def _real_module(cls: type) -> str:
    """Under which name other nodes import the module of a class."""
    module = cls.__module__
    if module not in _SCRIPTS:
        return module
    script = sys.modules.get(module)
    spec, file = getattr(script, "__spec__", None), getattr(script, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return PurePath(file).stem if file else module


def _hints(cls: type) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # a class inside a function is no global of its module: it knows itself at least
        return get_type_hints(cls, localns={cls.__name__: cls})


def _summary(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        return type(error).__name__
