"""What an annotation admits: each becomes one function that checks a value and rebuilds it.

`compile_check` takes an annotation apart once; the function that it returns gives
the value back, with the containers that the annotation names (a tuple arrives as a
list and becomes a tuple again), or raises `Mismatch` with the path of the part that
does not fit. The same function serves both sides: what it refuses at the receiver,
it refuses at the sender.

Rules:

- a bool is no int; an int is a float; an int where float is said stays an int;
- ``list[T]`` and ``tuple[T, ...]`` admit each other's values, as on the wire they are one;
- of a union the first member that admits the value builds it;
- an enum that is a str or an int is told by value, and only by one of its members;
- no class is called to see whether a value fits: nothing of a class is executed.
"""

import types
from collections.abc import Callable
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum, Flag
from typing import Annotated, Any, Final, Literal, NewType, Union, get_args, get_origin

Check = Callable[[Any], Any]
Compile = Callable[[Any], Check]

_MOST_DEEP = 32  # of an annotation; deeper is an alias that contains itself
_LONGEST_SHOWN = 60
_SEQUENCES = (list, tuple)
_ADMITTED: dict[type, tuple[type, ...]] = {
    type(None): (type(None),),
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    bytes: (bytes, bytearray, memoryview),
    datetime: (datetime,),
}
_BARE: dict[type, Any] = {list: list[Any], tuple: tuple[Any, ...], dict: dict[str, Any]}
_CAN = "None, bool, int, float, str, bytes, datetime, list, tuple, dict, Literal, unions and @message classes can"


class Mismatch(Exception):
    """A value that its annotation does not admit; ``path`` leads from the whole to the part."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def put_under(self, step: str) -> None:
        """Tell where in a larger whole the value stood."""
        self.path = step + self.path


def shown(text: str) -> str:
    """Quote a name that came off the wire, in a length fit for an error.

    >>> shown("x" * 1000)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"
    """
    return repr(text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}...")


def compile_check(annotation: Any, is_message: Callable[[type], bool], deeper: int = _MOST_DEEP) -> Check:
    """Make the check of an annotation; raises TypeError for one that nothing can be checked against.

    ``is_message`` tells which classes may cross as themselves.

    >>> check = compile_check(tuple[int, str | None], is_message=lambda kind: False)
    >>> check([1, None])
    (1, None)
    """
    if not deeper:
        raise TypeError("an annotation nested too deep, as of an alias that contains itself")

    def inner(part: Any) -> Check:
        return compile_check(part, is_message, deeper - 1)

    if (wrapped := _wrapped(annotation)) is not annotation:
        return inner(wrapped)
    origin = get_origin(annotation)
    if origin in _BARE and not hasattr(annotation, "__args__"):  # List, Tuple, Dict of typing
        return inner(_BARE[origin])
    if origin in _MAKERS:
        return _MAKERS[origin](get_args(annotation), inner)
    if annotation is None or isinstance(annotation, type):
        return _class_check(annotation or type(None), is_message, inner)
    raise TypeError(_refusal(annotation))


def _wrapped(annotation: Any) -> Any:
    """What stands in Annotated, Final, a NewType or a named alias; itself otherwise."""
    if get_origin(annotation) in {Annotated, Final}:
        return get_args(annotation)[0]
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if type(annotation).__name__ == "TypeAliasType":  # in typing from Python 3.12 on
        return annotation.__value__
    return annotation


def _refusal(annotation: Any) -> str:
    if annotation in (set, frozenset) or get_origin(annotation) in {set, frozenset}:
        return f"{_named(annotation)} has no form on the wire; a list or a tuple has"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return f"{_named(annotation)} is an enum without a value on the wire; StrEnum and IntEnum have one"
    if isinstance(annotation, type) and is_dataclass(annotation):
        return f"{_named(annotation)} is not marked with @message"
    return f"{_named(annotation)} cannot be checked on arrival ({_CAN})"


def _named(annotation: Any) -> str:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return "None" if annotation is type(None) else annotation.__qualname__
    return str(annotation).replace("typing.", "")


def _unlike(expected: str, value: Any) -> Mismatch:
    return Mismatch(f"expected {expected}, got {_named(type(value))}")


def _class_check(kind: type, is_message: Callable[[type], bool], inner: Compile) -> Check:
    if kind in (Any, object):
        return _anything
    if kind in _ADMITTED:
        return _plain_check(kind)
    if kind in _BARE:
        return inner(_BARE[kind])
    if is_message(kind):
        return _instance_check(kind, (kind,))
    if issubclass(kind, Enum) and issubclass(kind, int | str) and not issubclass(kind, Flag):
        return _enum_check(kind)
    raise TypeError(_refusal(kind))


def _anything(value: Any) -> Any:
    return value


def _plain_check(kind: type) -> Check:
    check = _instance_check(kind, _ADMITTED[kind])
    if kind not in {int, float}:
        return check

    def check_number(value: Any) -> Any:
        if value is True or value is False:
            raise _unlike(kind.__name__, value)
        return check(value)

    return check_number


def _instance_check(kind: type, admitted: tuple[type, ...]) -> Check:
    expected = _named(kind)

    def check(value: Any) -> Any:
        if isinstance(value, admitted):
            return value
        raise _unlike(expected, value)

    return check


def _enum_check(kind: type[Enum]) -> Check:
    """Members by what is packed of them, which is the str or int that they are."""
    plain = int if issubclass(kind, int) else str
    members = {_unadorned(each, plain): each for each in kind}
    expected = f"a value of {kind.__qualname__}"

    def check(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if type(value) is not plain:
            raise _unlike(expected, value)
        if value not in members:
            raise Mismatch(f"expected {expected}, got {shown(str(value))}")
        return members[value]

    return check


def _unadorned(member: Any, plain: type) -> Any:
    return int.__int__(member) if plain is int else str.__str__(member)


def _list_maker(args: tuple[Any, ...], inner: Compile) -> Check:
    [part] = args
    return _elements_check(f"list[{_named(part)}]", inner(part))


def _elements_check(expected: str, check_one: Check) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, _SEQUENCES):
            raise _unlike(expected, value)
        made: list[Any] = []
        try:
            made.extend(map(check_one, value))
        except Mismatch as error:
            error.put_under(f"[{len(made)}]")
            raise
        return made

    return check


def _tuple_maker(args: tuple[Any, ...], inner: Compile) -> Check:
    if args[1:] == (...,):
        check_all = _elements_check(f"tuple[{_named(args[0])}, ...]", inner(args[0]))
        return lambda value: tuple(check_all(value))
    checks = [inner(each) for each in args]
    expected = f"tuple[{', '.join(map(_named, args)) or '()'}]"

    def check(value: Any) -> Any:
        if not isinstance(value, _SEQUENCES):
            raise _unlike(expected, value)
        if len(value) != len(checks):
            raise Mismatch(f"expected {expected}, got {len(value)} elements")
        made: list[Any] = []
        try:
            made.extend(check_one(each) for check_one, each in zip(checks, value, strict=True))
        except Mismatch as error:
            error.put_under(f"[{len(made)}]")
            raise
        return tuple(made)

    return check


def _dict_maker(args: tuple[Any, ...], inner: Compile) -> Check:
    key, part = args
    inner(key)  # refuses an alias that contains itself
    while (wrapped := _wrapped(key)) is not key:
        key = wrapped
    if key is not str:
        raise TypeError(f"dict[{_named(key)}, {_named(part)}] has no form on the wire; keys are str")
    check_one, expected = inner(part), f"dict[str, {_named(part)}]"

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _unlike(expected, value)
        made: dict[str, Any] = {}
        for each in value:
            try:
                made[each] = check_one(value[each])
            except Mismatch as error:
                error.put_under(f"[{shown(each)}]")
                raise
        return made

    return check


def _union_maker(args: tuple[Any, ...], inner: Compile) -> Check:
    checks = [inner(each) for each in args]
    expected, takes_none = " | ".join(map(_named, args)), type(None) in args

    def check(value: Any) -> Any:
        if value is None and takes_none:
            return None
        deepest = _unlike(expected, value)
        for each in checks:
            try:
                return each(value)
            except Mismatch as error:
                if len(error.path) > len(deepest.path):
                    deepest = error  # that member admits the whole, but for one part
        raise deepest

    return check


def _literal_maker(args: tuple[Any, ...], inner: Compile) -> Check:  # noqa: ARG001 - one shape for all makers
    admitted = {(type(each), each): each for each in args}
    if any(kind not in _ADMITTED for kind, _ in admitted):
        raise TypeError(f"Literal{list(args)} cannot be checked on arrival: None, bool, int, str and bytes can")
    expected = f"Literal{list(args)}"

    def check(value: Any) -> Any:
        if type(value) not in _ADMITTED or (type(value), value) not in admitted:
            got = shown(value) if isinstance(value, str) else f"{_named(type(value))}"
            raise Mismatch(f"expected {expected}, got {got}")
        return value

    return check


_MAKERS: dict[Any, Callable[[tuple[Any, ...], Compile], Check]] = {
    list: _list_maker,
    tuple: _tuple_maker,
    dict: _dict_maker,
    Union: _union_maker,
    types.UnionType: _union_maker,
    Literal: _literal_maker,
}
