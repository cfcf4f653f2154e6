"""What a pickled list of records says, read as data: no name in it is looked up, nothing is called.

The challenges of 2025 and 2026 save boxes as a list of dicts, which NumPy pickles. A pickle is a program for a small
machine with a stack; here its lists, dicts, texts and numbers are put together, NumPy's own arrays and scalars are
understood by their names, and whatever else it wants is refused.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_BYTES = 4 * 2**20  # a record is about 50 bytes, or 200 with NumPy's numbers
MAX_ITEMS = 2**16 - 1  # as labels; a pickle names one record a million times in little space
PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
)  # fmt: skip
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PASSED_OVER = ("PROTO", "FRAME")


class NotPlain(ValueError):
    """A pickle that is more than lists, dicts, texts and numbers."""


@dataclass(frozen=True)
class _Name:
    """What a pickle would import."""

    text: str  # module and name


@dataclass(eq=False)
class _Made:
    """What it would make by calling a name."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class _Machine:
    """The stack of a pickle's program, and what it has put aside."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def step(self, code: str, given: Any) -> None:
        """One instruction, with what stands in it."""
        stack = self.stack
        if code in PLAIN:
            stack.append(PLAIN[code])
        elif code in EMPTY:
            stack.append(EMPTY[code]())
        elif code in VALUES:
            stack.append(given)
        elif code in TUPLES:
            stack.append(tuple(self.pop(TUPLES[code])))
        elif code == "MARK":
            self.marks.append(len(stack))
        elif code in ("TUPLE", "LIST"):
            items = self.since_mark()
            stack.append(tuple(items) if code == "TUPLE" else items)
        elif code in ("APPEND", "APPENDS"):
            items = self.pop(1) if code == "APPEND" else self.since_mark()
            _is_a(list, stack[-1]).extend(items)
        elif code in ("SETITEM", "SETITEMS", "DICT"):
            items = self.pop(2) if code == "SETITEM" else self.since_mark()
            if code == "DICT":
                stack.append({})
            _is_a(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
        elif code in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if code == "MEMOIZE" else int(given)] = stack[-1]
        elif code in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(given)])
        elif code == "GLOBAL":
            stack.append(_Name(given))
        elif code == "STACK_GLOBAL":
            stack.append(_Name(" ".join(self.pop(2))))
        elif code == "REDUCE":
            name, arguments = self.pop(2)
            stack.append(_called(_is_a(_Name, name).text, _is_a(tuple, arguments)))
        elif code == "BUILD":
            (state,) = self.pop(1)
            _is_a(_Made, stack[-1]).state = state
        elif code not in PASSED_OVER:
            raise NotPlain(f"it has the instruction {code}")


def read_pickled_array(content: bytes) -> list[Any]:
    """The items of an array of objects, in C order, from the pickle that NumPy writes.

    Raises:
        NotPlain: it is no such pickle, or holds more than numbers, texts and dicts of them.
    """
    machine = _Machine()
    try:
        for code, given, _ in pickletools.genops(content):
            if code.name == "STOP":
                break
            machine.step(code.name, given)
        (array,) = machine.stack
        return _items(array)
    except NotPlain:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise NotPlain(f"it is damaged ({error or type(error).__name__})") from None


def _is_a(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise NotPlain(f"it is damaged ({type(value).__name__} where {kind.__name__} is expected)")
    return value


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
    """What calling a name of NumPy's own would give; nothing else is."""
    if name == "_codecs encode":  # bytes, in old protocols
        text, encoding = arguments
        if encoding == "latin1":
            return _is_a(str, text).encode("latin1")
    module, _, what = name.partition(" ")
    if (module, what) == ("numpy", "dtype"):
        return _Made("dtype", arguments)
    if module in ("numpy._core.multiarray", "numpy.core.multiarray") and what in ("scalar", "_reconstruct"):
        return _Made(what, arguments)
    raise NotPlain(f"it wants {name.replace(' ', '.')[:80]}")


def _items(array: Any) -> list[Any]:
    """Of an array of objects: numbers and texts, and dicts of them. Nothing deeper, which could grow without end."""
    if not isinstance(array, _Made) or array.name != "_reconstruct":
        raise NotPlain("it is no array")
    *_, items = _is_a(tuple, array.state)
    if len(_is_a(list, items)) > MAX_ITEMS:
        raise NotPlain(f"it holds more than {MAX_ITEMS} items")
    return [
        {_is_a(str, key): _value(found) for key, found in item.items()} if isinstance(item, dict) else _value(item)
        for item in items
    ]


def _value(value: Any) -> Any:
    """A number or text; NumPy's numbers as Python's."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not isinstance(value, _Made) or value.name != "scalar":
        raise NotPlain(f"it holds a {_named(value)} where a number is expected")
    kind, raw = value.arguments
    (number,) = np.frombuffer(_is_a(bytes, raw), _numeric(kind)).tolist()
    return number


def _named(value: Any) -> str:
    return value.text.replace(" ", ".")[:80] if isinstance(value, _Name) else type(value).__name__.strip("_").lower()


def _numeric(kind: Any) -> np.dtype:
    """The type of numbers that a pickle describes."""
    if not isinstance(kind, _Made) or kind.name != "dtype":
        raise NotPlain("it holds values of an unknown type")
    order = str(kind.state[1]) if kind.state else "="
    dtype = np.dtype(order + str(kind.arguments[0]))
    if dtype.kind not in "biuf":
        raise NotPlain(f"it holds values of type {dtype}")
    return dtype
