"""An annotation becomes a check: what fits comes back in the right containers, the rest with its path."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from operator import getitem
from types import GenericAlias
from typing import Annotated, Any, Dict, Final, List, Literal, NewType, Optional, Tuple, TypeVar, Union, cast  # noqa: UP035

import pytest

from clusterkit.core.field_checks import Check, Mismatch, compile_check

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Cents = NewType("Cents", int)
Sku = Annotated[str, "as printed"]
T = TypeVar("T")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(str, Enum):  # noqa: UP042 - as enums were before StrEnum
    """A str whose text in a format is not its value."""

    A = "a"


class Plain(Enum):
    ONE = 1


class Rights(IntFlag):
    READ = 1


@dataclass
class Point:
    x: int


@dataclass
class Unmarked:
    x: int


class TypeAliasType:
    """What ``type Name = ...`` makes, from Python 3.12 on."""

    def __init__(self, value: Any) -> None:
        self.__value__ = value


def compiled(annotation: Any) -> Check:
    return compile_check(annotation, lambda kind: kind is Point)


POINT = Point(1)
FITS: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    (bool, True, True),
    (int, 5, 5),
    (int, Level.LOW, Level.LOW),
    (float, 1.5, 1.5),
    (float, 2**64 - 1, 2**64 - 1),
    (str, "x", "x"),
    (bytes, b"x", b"x"),
    (bytes, bytearray(b"x"), bytearray(b"x")),
    (datetime, NOON, NOON),
    (Any, [1, "x"], [1, "x"]),
    (object, {"k": 1}, {"k": 1}),
    (list, [1, "x"], [1, "x"]),
    (list[int], [1, 2], [1, 2]),
    (list[int], (1, 2), [1, 2]),
    (List[int], [1], [1]),  # noqa: UP006 - the old names are met too
    (List, [1], [1]),  # noqa: UP006
    (tuple, [1, "x"], (1, "x")),
    (Tuple, [1, "x"], (1, "x")),  # noqa: UP006
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, str], [1, "x"], (1, "x")),
    (tuple[()], [], ()),
    (list[tuple[int, ...]], [[1], []], [(1,), ()]),
    (dict, {"k": 1}, {"k": 1}),
    (Dict, {"k": 1}, {"k": 1}),  # noqa: UP006
    (dict[str, tuple[int, int]], {"k": [1, 2]}, {"k": (1, 2)}),
    (dict[Sku, int], OrderedDict(k=1), {"k": 1}),
    (int | None, None, None),
    (Optional[int], 5, 5),  # noqa: UP045
    (Union[str, list[int]], [1], [1]),  # noqa: UP007
    (int | float, 1.5, 1.5),
    (tuple[int, ...] | tuple[str, ...], ["a"], ("a",)),
    (Any | None, None, None),
    (Literal["a", 1], "a", "a"),
    (Literal["a", None], None, None),  # noqa: PYI061 - both forms are met
    (Literal[b"x", True], True, True),
    (Annotated[int, "counted"], 5, 5),
    (Final[int], 5, 5),
    (Cents, 5, 5),
    (TypeAliasType(list[Cents]), [5], [5]),
    (Colour, "red", Colour.RED),
    (Colour, Colour.BLUE, Colour.BLUE),
    (Level, 2, Level.HIGH),
    (Mixed, "a", Mixed.A),
    (Colour | None, "blue", Colour.BLUE),
    (Point, POINT, POINT),
    (list[Point | None], [POINT, None], [POINT, None]),
]


@pytest.mark.parametrize(("annotation", "value", "comes_back"), FITS)
def test_a_value_that_fits_comes_back(annotation: Any, value: Any, comes_back: Any) -> None:
    given = compiled(annotation)(value)
    assert given == comes_back
    assert type(given) is type(comes_back)


MISFITS: list[tuple[Any, Any, str, str]] = [
    (None, 0, "", "expected None, got int"),
    (bool, 1, "", "expected bool, got int"),
    (int, True, "", "expected int, got bool"),
    (int, 1.0, "", "expected int, got float"),
    (float, False, "", "expected float, got bool"),
    (float, "1", "", "expected float, got str"),
    (str, b"x", "", "expected str, got bytes"),
    (bytes, "x", "", "expected bytes, got str"),
    (datetime, 0, "", "expected datetime, got int"),
    (list[int], "x", "", "expected list[int], got str"),
    (list[int], {"k": 1}, "", "expected list[int], got dict"),
    (list[int], [1, "x"], "[1]", "expected int, got str"),
    (list[list[int]], [[], [1, None]], "[1][1]", "expected int, got None"),
    (tuple[int, ...], None, "", "expected tuple[int, ...], got None"),
    (tuple[int, ...], [1, 2, "x"], "[2]", "expected int, got str"),
    (tuple[int, str], 5, "", "expected tuple[int, str], got int"),
    (tuple[int, str], [1], "", "expected tuple[int, str], got 1 elements"),
    (tuple[int, str], [1, 2], "[1]", "expected str, got int"),
    (tuple[()], [1], "", "expected tuple[()], got 1 elements"),
    (dict[str, int], [1], "", "expected dict[str, int], got list"),
    (dict[str, int], {"a": 1, "b": None}, "['b']", "expected int, got None"),
    (dict[str, int], {"k" * 99: None}, f"['{'k' * 59}...']", "expected int, got None"),
    (int | None, "x", "", "expected int | None, got str"),
    (list[int] | dict[str, int], {"k": "x"}, "['k']", "expected int, got str"),
    (list[int] | list[list[str]], [["a", 1]], "[0][1]", "expected str, got int"),
    (Literal["a", 1], "b", "", "expected Literal['a', 1], got 'b'"),
    (Literal["a", 1], True, "", "expected Literal['a', 1], got bool"),
    (Literal["a", 1], ["a"], "", "expected Literal['a', 1], got list"),
    (Colour, "green", "", "expected a value of Colour, got 'green'"),
    (Colour, 1, "", "expected a value of Colour, got int"),
    (Level, True, "", "expected a value of Level, got bool"),
    (Level, 3, "", "expected a value of Level, got '3'"),
    (Point, Unmarked(1), "", "expected Point, got Unmarked"),
    (Point, {"x": 1}, "", "expected Point, got dict"),
]


@pytest.mark.parametrize(("annotation", "value", "path", "reason"), MISFITS)
def test_a_value_that_does_not_fit_is_refused_with_its_path(
    annotation: Any, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(Mismatch) as caught:
        compiled(annotation)(value)
    assert (caught.value.path, caught.value.reason) == (path, reason)


UNCHECKABLE: list[tuple[Any, str]] = [
    (set[int], "set[int] has no form on the wire; a list or a tuple has"),
    (frozenset, "frozenset has no form on the wire"),
    (list[set[str]], "set[str] has no form"),
    (dict[int, str], "dict[int, str] has no form on the wire; keys are str"),
    (Plain, "Plain is an enum without a value on the wire; StrEnum and IntEnum have one"),
    (Rights, "Rights is an enum without"),
    (Unmarked, "Unmarked is not marked with @message"),
    (Decimal, "Decimal cannot be checked on arrival (None, bool"),
    (date, "date cannot be checked"),
    (bytearray, "bytearray cannot be checked"),
    (Sequence[int], "collections.abc.Sequence[int] cannot be checked"),
    (T, "~T cannot be checked"),
    ([int], "[<class 'int'>] cannot be checked"),
    (int | Decimal, "Decimal cannot be checked"),
    (Literal[Plain.ONE], "cannot be checked on arrival: None, bool, int, str and bytes can"),
]


@pytest.mark.parametrize(("annotation", "says"), UNCHECKABLE)
def test_an_annotation_that_cannot_be_checked_is_a_type_error(annotation: Any, says: str) -> None:
    with pytest.raises(TypeError) as caught:
        compiled(annotation)
    assert says in str(caught.value)


WRAPS: list[Callable[[Any], Any]] = [
    lambda alias: GenericAlias(list, alias),
    lambda alias: GenericAlias(dict, (GenericAlias(tuple, alias), int)),
    lambda alias: GenericAlias(dict, (getitem(cast("Any", Annotated), (alias, "")), int)),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_an_alias_that_contains_itself_is_a_type_error(wrap: Callable[[Any], Any]) -> None:
    alias = TypeAliasType(None)
    alias.__value__ = wrap(alias)
    with pytest.raises(TypeError, match="an alias that contains itself"):
        compiled(alias)


def test_what_is_checked_is_not_changed() -> None:
    told = {"k": [[1], [2]]}
    assert compiled(dict[str, tuple[tuple[int, ...], ...]])(told) == {"k": ((1,), (2,))}
    assert told == {"k": [[1], [2]]}
