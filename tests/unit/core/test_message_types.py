"""A class marked with `message` gets a name and checks; what cannot cross is refused at the mark."""

import dataclasses
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, InitVar, dataclass, field
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Generic, Self, TypeVar, assert_type

import pytest

from clusterkit.core import message_types
from clusterkit.core.field_checks import Mismatch
from clusterkit.core.message_types import MessageType, find_type, message, type_of

T = TypeVar("T")


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test marks is forgotten after it."""
    monkeypatch.setattr(message_types, "_types", dict(message_types._types))


def kind_of(cls: type) -> MessageType:
    kind = type_of(object.__new__(cls))
    assert kind is not None
    return kind


def crossed(value: Any) -> Any:
    """A message that was taken apart, checked and built again."""
    kind = type_of(value)
    assert kind is not None
    told = kind.check(kind.read(value))
    kind.sift(told)
    return find_type(kind.name).build(told)


@message
@dataclass
class Price:
    sku: str
    cents: int


# -- names


def test_a_class_is_called_by_its_module_and_qualified_name() -> None:
    class Inner:
        @message
        @dataclass
        class Price:
            pass

    assert kind_of(Price).name == f"{__name__}.Price"
    assert kind_of(Inner.Price).name.endswith(
        ".test_a_class_is_called_by_its_module_and_qualified_name.<locals>.Inner.Price"
    )


def test_a_class_may_be_given_a_name() -> None:
    @message(name="price/2")
    @dataclass
    class Other:
        pass

    @message()
    @dataclass
    class Third:
        pass

    assert kind_of(Other).name == "price/2"
    assert find_type("price/2").cls is Other
    assert find_type(kind_of(Third).name).cls is Third


def defined_in(module: ModuleType, code: str, patch: pytest.MonkeyPatch) -> Any:
    patch.setitem(sys.modules, module.__name__, module)
    exec(f"from clusterkit.core.message_types import message\nfrom dataclasses import dataclass\n{code}", vars(module))
    return vars(module)


PRICE = "@message\n@dataclass\nclass Price:\n    cents: int"


class Spec:
    name = "shop.till"


@pytest.mark.parametrize("script", ["__main__", "__mp_main__"])
@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"__spec__": Spec(), "__file__": "/x/other.py"}, "shop.till.Price"),
        ({"__file__": "/x/till.py"}, "till.Price"),
        ({}, "{script}.Price"),
    ],
    ids=["python -m", "a file", "a prompt"],
)
def test_a_class_of_a_script_is_called_as_where_the_script_is_imported(
    monkeypatch: pytest.MonkeyPatch, script: str, attributes: dict[str, Any], name: str
) -> None:
    module = ModuleType(script)
    vars(module).update(attributes)
    price = defined_in(module, PRICE, monkeypatch)["Price"]
    assert kind_of(price).name == name.format(script=script)


def test_real_scripts_and_their_imports_agree(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    code = (
        "from dataclasses import dataclass\nfrom clusterkit.core.message_types import message, type_of\n"
        f"{PRICE}\nprint(type_of(Price(1)).name)\n"
    )
    (package / "till.py").write_text(code)
    (tmp_path / "till.py").write_text(code)
    root = str(Path(__file__).parents[3])
    told = [
        subprocess.run(
            [sys.executable, *how],
            cwd=tmp_path,
            env={"PYTHONPATH": f"{root}:{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.split()
        for how in (["till.py"], ["-c", "import till"], ["-m", "shop.till"], ["-c", "import shop.till"])
    ]
    assert told == [["till.Price"], ["till.Price"], ["shop.till.Price"], ["shop.till.Price"]]


def test_a_name_belongs_to_one_class() -> None:
    @message(name="price")
    @dataclass
    class One:
        pass

    with pytest.raises(TypeError, match=r"the message name 'price' belongs to .*<locals>.One"):

        @message(name="price")
        @dataclass
        class Two:
            pass

    assert find_type("price").cls is One


def test_a_class_defined_again_takes_the_name_and_the_older_may_still_be_sent() -> None:
    def define() -> type[Any]:
        @message
        @dataclass
        class Again:
            x: int

        return Again

    older, newer = define(), define()
    built = crossed(older(1))
    assert type(built) is newer
    assert built.x == 1


def test_a_script_that_is_imported_too_takes_the_name_with_its_second_self(monkeypatch: pytest.MonkeyPatch) -> None:
    script, imported = ModuleType("__main__"), ModuleType("till")
    script.__file__ = "/x/till.py"
    first = defined_in(script, PRICE, monkeypatch)["Price"]
    second = defined_in(imported, PRICE, monkeypatch)["Price"]
    assert type(crossed(first(1))) is second


def test_a_class_that_gets_a_new_name_is_taken_under_both() -> None:
    @message(name="new")
    @message(name="old")
    @dataclass
    class Renamed:
        x: int

    assert kind_of(Renamed).name == "new"
    assert find_type("old").build({"x": 1}) == find_type("new").build({"x": 1}) == Renamed(1)


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(Mismatch, match=r"no message type 'json.JSONDecoder' here"):
        find_type("json.JSONDecoder")
    with pytest.raises(Mismatch, match=r"no message type 'x{59}\.\.\.' here"):
        find_type("x" * 1000)


@pytest.mark.parametrize("name", ["", "x" * 256, "ö" * 128, "two\nlines", "\ud800", b"bytes", 5])
def test_a_name_is_a_short_printable_text(name: Any) -> None:
    with pytest.raises(TypeError, match="a message name is 1 to 255 bytes of printable text"):

        @message(name=name)
        @dataclass
        class Named:
            pass


# -- which classes cross


def test_the_mark_gives_the_class_itself_with_its_type() -> None:
    price = Price("apple", cents=120)
    assert_type(price, Price)
    assert_type(price.cents, int)
    assert Price("apple", 120) == price
    with pytest.raises(TypeError):
        Price("apple")  # type: ignore[call-arg]


def test_a_class_that_is_not_marked_itself_is_no_message() -> None:
    class Below(Price):
        pass

    @dataclass
    class Other:
        x: int

    setattr(Other, message_types._MARK, "not a mark of ours")
    assert type_of(Below("a", 1)) is None
    assert type_of(Other(1)) is None
    assert type_of(dataclass(slots=True)(Price)("a", 1)) is None  # a new class, with all that Price had
    assert type_of(5) is None


class NoDataclass:
    x: int


class BelowDataclass(Price):
    y: int


@pytest.mark.parametrize("what", [NoDataclass, BelowDataclass, 5, Price("a", 1)])
def test_what_is_no_dataclass_is_refused(what: Any) -> None:
    with pytest.raises(TypeError, match="@message stands above @dataclass"):
        message(what)


def test_the_mark_below_dataclass_is_refused() -> None:
    with pytest.raises(TypeError, match="@message stands above @dataclass"):

        @dataclass
        @message
        class Below:
            x: int


@dataclass
class AnError(Exception):
    code: int


@dataclass
class AList(list[int]):
    code: int


@dataclass
class OwnNew:
    code: int

    def __new__(cls, code: int) -> Self:
        return object.__new__(cls)


@pytest.mark.parametrize("what", [AnError, AList, OwnNew])
def test_a_class_that_makes_its_objects_itself_is_refused(what: Any) -> None:
    with pytest.raises(TypeError, match="has a __new__ of its own or of a built-in base"):
        message(what)


def test_an_abstract_class_is_refused_and_the_one_below_it_is_not() -> None:
    @dataclass
    class Shape(ABC):
        name: str

        @abstractmethod
        def area(self) -> float: ...

    with pytest.raises(TypeError, match="Shape is abstract"):
        message(Shape)  # type: ignore[type-abstract]

    @message
    @dataclass
    class Square(Shape):
        side: float

        def area(self) -> float:
            return self.side**2

    assert crossed(Square("s", 2)) == Square("s", 2)


def test_an_init_var_is_refused() -> None:
    @dataclass
    class Opened:
        path: str
        mode: InitVar[str] = "r"

    with pytest.raises(TypeError, match="Opened.mode is an InitVar, which no object keeps"):
        message(Opened)


def test_an_annotation_that_cannot_be_checked_is_refused_at_the_mark() -> None:
    @dataclass
    class Bill:
        total: list[Decimal]

    with pytest.raises(TypeError, match=r"<locals>.Bill.total: Decimal cannot be checked on arrival"):
        message(Bill)
    assert type_of(Bill([])) is None

    @dataclass
    class Box(Generic[T]):
        content: T

    with pytest.raises(TypeError, match="Box.content: ~T cannot be checked"):
        message(Box)


# -- forms of dataclasses


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    lines: tuple[Price, ...]
    note: str | None = None


@message
@dataclass
class Base:
    known: ClassVar[dict[str, Any]] = {}
    a: int
    _: KW_ONLY
    b: list[int] = field(default_factory=list, repr=False, compare=False)


@message
@dataclass
class Derived(Base):
    c: float = 1.5


@message
@dataclass
class Counter:
    step: int
    count: int = field(default=0, init=False)


@message
@dataclass
class Totalled:
    parts: list[int]
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.parts)


@message
@dataclass(init=False)
class OwnInit:
    x: int

    def __init__(self, text: str) -> None:
        self.x = len(text)

    def __setattr__(self, name: str, value: object) -> None:
        assert name == "x"
        object.__setattr__(self, name, value)


def counted(count: int) -> Counter:
    counter = Counter(2)
    counter.count = count
    return counter


@pytest.mark.parametrize(
    "value",
    [
        Frozen(lines=(Price("a", 1), Price("b", 2))),
        Frozen(lines=(), note="x"),
        Derived(1, b=[2], c=3),
        counted(7),
        Totalled([1, 2]),
        OwnInit("four"),
    ],
    ids=repr,
)
def test_every_form_of_dataclass_crosses(value: Any) -> None:
    assert crossed(value) == value
    assert dataclasses.asdict(crossed(value)) == dataclasses.asdict(value)


def test_made_dataclasses_cross() -> None:
    made: type[Any] = message(
        dataclasses.make_dataclass("Made", [("x", int), ("y", list[int], field(default_factory=list))])
    )
    assert crossed(made(1)) == made(1)


def test_neither_init_nor_setattr_runs_on_arrival() -> None:
    built = kind_of(OwnInit).build({"x": 9})
    assert built.x == 9


# -- building


def test_a_missing_field_gets_its_default() -> None:
    kind = kind_of(Derived)
    one, other = kind.build({"a": 1}), kind.build({"a": 1})
    assert one == Derived(1, c=1.5)
    assert one.b == []
    assert one.b is not other.b
    assert kind_of(Counter).build({"step": 1}).count == 0


def test_a_missing_field_without_a_default_is_refused() -> None:
    with pytest.raises(Mismatch, match="Price without its field 'cents'"):
        kind_of(Price).build({"sku": "a"})


def test_a_missing_field_that_no_constructor_takes_is_left_to_post_init() -> None:
    assert kind_of(Totalled).build({"parts": [1, 2]}).total == 3


def test_an_unknown_field_is_refused_unless_it_tells_nothing() -> None:
    kind = kind_of(Price)
    told: dict[str, Any] = {"sku": "a", "cents": 1, "currency": None}
    kind.sift(told)
    assert kind.build(told) == Price("a", 1)
    with pytest.raises(Mismatch, match="Price has no field 'currency' here"):
        kind.sift(told | {"currency": "EUR"})


def test_a_field_of_another_type_is_refused_with_its_path() -> None:
    with pytest.raises(Mismatch) as caught:
        kind_of(Frozen).build({"lines": [Price("a", 1), 5]})
    assert (caught.value.path, caught.value.reason) == (".lines[1]", "expected Price, got int")


@message
@dataclass
class Positive:
    cents: int

    def __post_init__(self) -> None:
        if self.cents < 0:
            raise ValueError("less than nothing")
        if self.cents == 0:
            raise Unspeakable


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_what_post_init_raises_refuses_the_object() -> None:
    kind = kind_of(Positive)
    assert kind.build({"cents": 5}) == Positive(5)
    with pytest.raises(Mismatch, match="Positive refused what came: ValueError: less than nothing") as caught:
        kind.build({"cents": -1})
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(Mismatch, match="Positive refused what came: Unspeakable$"):
        kind.build({"cents": 0})


def test_a_field_that_is_not_set_cannot_be_read() -> None:
    unset = object.__new__(Totalled)
    unset.parts = []
    with pytest.raises(Mismatch, match="cannot be read: AttributeError") as caught:
        kind_of(Totalled).read(unset)
    assert caught.value.path == ".total"


# -- annotations in quotes


def test_a_class_may_hold_itself_and_classes_that_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from __future__ import annotations\n"
        "from clusterkit.core.message_types import message\nfrom dataclasses import dataclass\n"
        "@message\n@dataclass\nclass Tree:\n    leaf: Leaf | None\n    branches: tuple[Tree, ...] = ()\n"
        "@message\n@dataclass\nclass Leaf:\n    x: int\n"
    )
    module = ModuleType("woods")
    monkeypatch.setitem(sys.modules, "woods", module)
    exec(compile(code, "woods.py", "exec", dont_inherit=True), vars(module))
    tree, leaf = module.Tree, module.Leaf
    value = tree(leaf(1), (tree(None), tree(leaf(2))))
    assert crossed(value) == value
    with pytest.raises(Mismatch, match="expected Tree, got Leaf"):
        kind_of(tree).build({"leaf": None, "branches": [leaf(1)]})


def test_a_class_inside_a_function_knows_itself() -> None:
    @message
    @dataclass
    class Node:
        next: "Node | None" = None

    assert crossed(Node(Node())) == Node(Node())


def test_quotes_around_what_cannot_be_checked_hide_nothing() -> None:
    @dataclass
    class Bill:
        total: "Decimal"

    with pytest.raises(TypeError, match="Bill.total: Decimal cannot be checked"):
        message(Bill)


def test_a_name_without_meaning_is_told_at_first_use_and_asked_for_until_it_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @message
    @dataclass
    class Waiting:
        later: "Later"  # type: ignore[name-defined] # noqa: F821 - that is the case

    with pytest.raises(Mismatch, match="Waiting has annotations that cannot be checked: NameError"):
        crossed(Waiting(1))
    monkeypatch.setitem(globals(), "Later", Decimal)
    with pytest.raises(Mismatch, match=r"cannot be checked: TypeError: .*Waiting.later: Decimal cannot be checked"):
        crossed(Waiting(1))
    monkeypatch.setitem(globals(), "Later", int)
    assert crossed(Waiting(1)) == Waiting(1)
    monkeypatch.setitem(globals(), "Later", str)
    assert crossed(Waiting(1)) == Waiting(1)


def test_quotes_around_what_is_no_annotation_are_refused_at_the_mark() -> None:
    @dataclass
    class Broken:
        x: "1 +"  # type: ignore[valid-type] # noqa: F722 - that is the case

    with pytest.raises(TypeError, match="Broken has annotations that cannot be read: SyntaxError"):
        message(Broken)


def test_the_mark_loads_no_asyncio() -> None:
    code = "import sys, clusterkit.core.message_types; sys.exit('asyncio' in sys.modules)"
    root = str(Path(__file__).parents[3])
    subprocess.run([sys.executable, "-c", code], cwd=root, timeout=30, check=True)
