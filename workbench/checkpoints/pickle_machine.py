"""Inert pickle virtual machine: gives what a pickle would build as data, without import or call.

Python's own unpickler imports what a file names and calls it. This machine does neither: names become Symbols
(`pickled_objects` gives a few a meaning) and calls of all others become Inert records. It also refuses
what would exhaust the computer: numbers, lengths, memo indices and sizes are checked before they are used.
`pickletools.genops` is no substitute: it reads every argument into memory before its length can be checked.
Source: the opcode table of Lib/pickletools.py, Python 3.13.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from workbench.checkpoints.budget import Budget, Limits, TooExpensive
from workbench.checkpoints.pickled_objects import (
    Array,
    Fields,
    Inert,
    LongBytes,
    NumpyType,
    Ordered,
    Symbol,
    resolve,
)
from workbench.checkpoints.tensors import ByteSource

# Byte strings of this size and longer stay on disk: weights that are numpy arrays are written as such.
LONG = 1 << 16
_MARK = object()


def run_pickle(
    path: Path,
    stream: BinaryIO,
    end: int,
    persistent: Callable[[Any], Any] | None,
    source: Callable[[int, int], ByteSource] | None,
    limits: Limits,
    budget: Budget,
) -> tuple[Any, tuple[str, ...]]:
    """The value of the pickle that begins at the stream's position, and the names in it that stayed inert.

    Args:
        path: the file, for error messages.
        stream: binary stream at the pickle's first byte.
        end: position where the stream ends, bytes.
        persistent: from a persistent id to its value; None where a file of this kind has no such ids.
        source: from (position in the stream, length) to the bytes there, so that long byte strings stay on
            disk; None reads them into memory.
        limits: bounds on one pickle.
        budget: work and memory that are left for the whole file.

    Raises:
        ValueError: the bytes are no pickle, are cut off, or ask for more than the limits; the message names
            the file.
    """
    machine = _Machine(stream, end, persistent, source, limits, budget)
    try:
        return machine.run(), tuple(machine.inert)
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


class _Machine:
    """One run over one pickle; the arguments are those of `run_pickle`."""

    def __init__(
        self,
        stream: BinaryIO,
        end: int,
        persistent: Callable[[Any], Any] | None,
        source: Callable[[int, int], ByteSource] | None,
        limits: Limits,
        budget: Budget,
    ) -> None:
        self.stream, self.end, self.source = stream, end, source
        self.limits, self.budget, self.persistent = limits, budget, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.inert: dict[str, None] = {}

    def run(self) -> Any:
        """The pickled value, as data.

        Raises:
            ValueError: the bytes are no pickle, are cut off, or ask for more than the limits.
        """
        read, stack = self.stream.read, self.stack
        for _ in range(self.limits.opcodes):
            code = read(1)
            if code == b".":
                if not stack:
                    raise self.damaged("it ends without a value")
                return self.pop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.damaged("the data end in the middle" if not code else f"no opcode {code!r}")
            try:
                handler(self)
            except (IndexError, KeyError, TypeError, UnicodeError, OverflowError, struct.error) as error:
                raise self.damaged(f"opcode {code!r} does not fit what came before it") from error
            if len(stack) > self.limits.objects:
                break
        raise ValueError("the pickle asks for more steps than any checkpoint needs; it is refused as a bomb")

    # -- arguments, checked before they are read

    def damaged(self, what: str) -> ValueError:
        """The error for a pickle that stops making sense here."""
        return ValueError(f"the pickle is damaged or cut off at byte {self.stream.tell()}: {what}")

    def take(self, count: int) -> bytes:
        """The next `count` bytes, a few."""
        data = self.stream.read(count)
        if len(data) != count:
            raise self.damaged("the data end in the middle")
        return data

    def string(self, count: int) -> bytes:
        """The bytes of a text, charged before they are read."""
        if count > LONG and count > self.end - self.stream.tell():
            raise self.damaged(f"it declares a text of {count} bytes, more than the file holds")
        self.budget.hold(count)
        return self.take(count)

    def payload(self, count: int) -> Any:
        """A byte string, left on disk when it is long."""
        if self.source is None or count < LONG:
            return self.string(count)
        begin = self.stream.tell()
        if count > self.end - begin:
            raise self.damaged(f"it declares {count} bytes more than the file holds")
        self.stream.seek(count, 1)
        return LongBytes(self.source(begin, count))

    def line(self) -> bytes:
        """The bytes up to the next newline."""
        data = self.stream.readline(self.limits.text + 1)
        self.budget.hold(len(data))
        if not data.endswith(b"\n"):
            raise self.damaged("a line without end")
        return data[:-1]

    def number(self, layout: str) -> Any:
        """A number of fixed size; `layout` is a format of the struct module."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def parsed(self, kind: type, line: bytes) -> Any:
        """A number that is written in digits."""
        if len(line) > self.limits.digits:
            raise self.damaged("a number with too many digits")
        try:
            return kind(line.decode("ascii"))
        except ValueError as error:
            raise self.damaged(f"{line[:20]!r} is no number") from error

    def key(self, value: Any) -> Any:
        """A dict key or set member that can be hashed quickly."""
        if value is None or isinstance(value, (str, bytes, bool, float)):
            return value
        # Larger integers can be made to collide; no checkpoint has them as keys.
        if isinstance(value, int) and abs(value) < 1 << 63:
            return value
        if isinstance(value, Symbol):
            return value.name
        waiting, parts = [value], 0
        while waiting:
            part = waiting.pop()
            parts += 1
            if parts > self.limits.key_parts:
                raise self.damaged("a dict key too large to be one")
            if isinstance(part, tuple):
                waiting.extend(part)
            elif part is not None and not isinstance(part, (str, bytes, bool, float, int)):
                return f"<{type(value).__name__} as key>"
        return value

    # -- stack and memo

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_container(self, value: Any) -> None:
        """Push a container, which is charged."""
        self.budget.make()
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise self.damaged("a value is missing")
        return value

    def top(self) -> Any:
        value = self.stack[-1]
        if value is _MARK:
            raise self.damaged("a value is missing")
        return value

    def marked(self) -> list[Any]:
        """What was pushed since the last mark; both leave the stack."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise self.damaged("a mark is missing")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def remember(self, index: int) -> None:
        """Put the top of the stack into the memo."""
        if len(self.memo) >= self.limits.objects:
            raise ValueError("the pickle remembers more objects than any checkpoint; it is refused as a bomb")
        self.memo[index] = self.top()

    def setitems(self, target: Any, items: list[Any]) -> None:
        """Set alternating keys and values in a dict."""
        if len(items) % 2:
            raise self.damaged("a key without value")
        into = target.mapping if isinstance(target, Inert) else target
        if not isinstance(into, dict):
            raise self.damaged(f"a {type(target).__name__} takes no keys")
        for i in range(0, len(items), 2):
            into[self.key(items[i])] = items[i + 1]

    def extend(self, target: Any, items: list[Any]) -> None:
        """Append values to a list."""
        into = target.items if isinstance(target, Inert) else target
        if not isinstance(into, list):
            raise self.damaged(f"a {type(target).__name__} takes no items")
        into.extend(items)

    # -- objects, which are never made

    def symbol(self, module: Any, name: Any) -> Symbol:
        """The record of a class or function that the pickle names."""
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 500:
            raise self.damaged("a name that is none")
        found = resolve(module, name)
        if found.build is None and not found.dtype:
            if len(self.inert) >= 1000:
                raise ValueError("the pickle names more than 1000 unknown classes; it is refused")
            self.inert[found.name] = None
        return found

    def call(self, function: Any, args: Any) -> Any:
        """What stands in for the result of `function(*args)`."""
        self.budget.make()
        if not isinstance(args, tuple):
            raise self.damaged("a call without arguments")
        if not isinstance(function, Symbol):
            self.inert["a call of what another call would have given"] = None
            return Inert("call of a result", args)
        if function.build is None:
            return Inert(function.name, args)
        try:
            made = function.build(*args)
        except (TypeError, AttributeError, LookupError, OverflowError) as error:
            raise self.damaged(f"{function.name} was given what it cannot take") from error
        # Copies are charged: a call on a remembered text or dict would else multiply it.
        if isinstance(made, (str, bytes)):
            self.budget.hold(len(made))
        elif isinstance(made, dict):
            self.budget.make(len(made))
        return made

    def build(self, instance: Any, state: Any) -> None:
        """Put state into an object."""
        if isinstance(instance, Inert):
            instance.state = state
        elif isinstance(instance, Fields):
            both = state if isinstance(state, tuple) and len(state) == 2 else (state,)
            for part in both:
                if isinstance(part, dict):
                    instance.update(part)
        elif isinstance(instance, NumpyType):
            if isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
                instance.order = state[1]
        elif isinstance(instance, Array):
            instance.fill(state)
        elif isinstance(instance, Ordered) and isinstance(state, dict):
            record = state.get("_metadata")
            names = record if isinstance(record, dict) else ()
            instance.modules = tuple(name for name in names if isinstance(name, str))
        # Other attributes of dicts and of tensors carry no weights: left out.

    def resolve_persistent(self, key: Any) -> Any:
        """The value of a persistent id: for torch's files a storage."""
        if self.persistent is None:
            raise self.damaged("it refers to storages that a file of this kind does not have")
        self.budget.make()
        return self.persistent(key)


# -- one handler per opcode, by the name it has in Lib/pickletools.py

_Handler = Callable[[_Machine], object]


def _proto(m: _Machine) -> None:
    if m.number("<B") > 5:
        raise m.damaged("a protocol newer than 5")


def _python2_text(m: _Machine, count: int) -> None:
    """A Python 2 str: text where it is ASCII, bytes where it is not."""
    if count < 0:
        raise m.damaged("a string of negative length")
    data = m.payload(count)
    m.push(data.decode("ascii") if isinstance(data, bytes) and data.isascii() else data)


def _int(m: _Machine) -> None:
    line = m.line()
    m.push(line == b"01" if line in (b"00", b"01") else m.parsed(int, line))


def _binary_long(m: _Machine, count: int) -> None:
    if not 0 <= count <= m.limits.digits:
        raise m.damaged(f"an integer of {count} bytes")
    m.push(int.from_bytes(m.take(count), "little", signed=True))


def _string(m: _Machine) -> None:
    line = m.line().strip()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise m.damaged("a string without quotes")
    m.push(line[1:-1].decode("unicode_escape"))


def _dict(m: _Machine) -> None:
    items = m.marked()
    m.push_container({})
    m.setitems(m.top(), items)


def _append(m: _Machine) -> None:
    value = m.pop()
    m.extend(m.top(), [value])


def _appends(m: _Machine) -> None:
    items = m.marked()
    m.extend(m.top(), items)


def _setitem(m: _Machine) -> None:
    value = m.pop()
    key = m.pop()
    m.setitems(m.top(), [key, value])


def _setitems(m: _Machine) -> None:
    items = m.marked()
    m.setitems(m.top(), items)


def _global(m: _Machine) -> None:
    module = m.line().decode()
    m.push(m.symbol(module, m.line().decode()))


def _stack_global(m: _Machine) -> None:
    name = m.pop()
    m.push(m.symbol(m.pop(), name))


def _reduce(m: _Machine) -> None:
    args = m.pop()
    m.push(m.call(m.pop(), args))


def _newobj_ex(m: _Machine) -> None:
    keywords = m.pop()
    args = m.pop()
    made = m.call(m.pop(), args)
    if isinstance(made, Inert) and isinstance(keywords, dict):
        made.mapping.update(keywords)
    m.push(made)


def _inst(m: _Machine) -> None:
    module = m.line().decode()
    found = m.symbol(module, m.line().decode())
    m.push(m.call(found, tuple(m.marked())))


def _obj(m: _Machine) -> None:
    items = m.marked()
    m.push(m.call(items[0], tuple(items[1:])))


def _build(m: _Machine) -> None:
    state = m.pop()
    m.build(m.top(), state)


def _next_buffer(m: _Machine) -> None:
    raise m.damaged("it refers to out-of-band buffers, which a file does not have")


def _value(value: Any) -> _Handler:
    return lambda m: m.push(value)


def _number(layout: str) -> _Handler:
    return lambda m: m.push(m.number(layout))


def _text(layout: str) -> _Handler:
    # surrogatepass, because Python's own pickler writes lone surrogates that way.
    return lambda m: m.push(m.string(m.number(layout)).decode("utf-8", "surrogatepass"))


def _bytes(layout: str) -> _Handler:
    return lambda m: m.push(m.payload(m.number(layout)))


def _tuple_of(size: int) -> _Handler:
    return lambda m: m.push_container(tuple(reversed([m.pop() for _ in range(size)])))


def _empty(kind: type) -> _Handler:
    return lambda m: m.push_container(kind())


def _extension(layout: str) -> _Handler:
    # Extension codes mean whatever the writing program registered: unknown here, hence inert.
    return lambda m: m.push(m.symbol("copyreg", f"extension_{m.number(layout)}"))


_HANDLERS: dict[bytes, _Handler] = {
    b"\x80": _proto,  # PROTO
    b"\x95": lambda m: m.take(8),  # FRAME: only helps buffered readers
    # -- plain values
    b"N": _value(None),
    b"\x88": _value(True),
    b"\x89": _value(False),
    b"I": _int,
    b"L": lambda m: m.push(m.parsed(int, m.line().rstrip(b"L"))),
    b"F": lambda m: m.push(m.parsed(float, m.line())),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": lambda m: _binary_long(m, m.number("<B")),
    b"\x8b": lambda m: _binary_long(m, m.number("<i")),
    b"S": _string,
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"T": lambda m: _python2_text(m, m.number("<i")),
    b"U": lambda m: _python2_text(m, m.number("<B")),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"\x8d": _text("<Q"),
    b"B": _bytes("<I"),
    b"C": _bytes("<B"),
    b"\x8e": _bytes("<Q"),
    b"\x96": _bytes("<Q"),
    # -- containers; sets are read as lists, so that order stays and nothing has to be hashed
    b")": _empty(tuple),
    b"]": _empty(list),
    b"}": _empty(dict),
    b"\x8f": _empty(list),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"t": lambda m: m.push_container(tuple(m.marked())),
    b"l": lambda m: m.push_container(m.marked()),
    b"\x91": lambda m: m.push_container(m.marked()),
    b"d": _dict,
    b"a": _append,
    b"e": _appends,
    b"\x90": _appends,
    b"s": _setitem,
    b"u": _setitems,
    # -- stack and memo
    b"(": _value(_MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.marked(),
    b"2": lambda m: m.push(m.top()),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    b"g": lambda m: m.push(m.memo[m.parsed(int, m.line())]),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"p": lambda m: m.remember(m.parsed(int, m.line())),
    b"\x94": lambda m: m.remember(len(m.memo)),
    # -- what would import, call or fetch
    b"P": lambda m: m.push(m.resolve_persistent(m.line().decode())),
    b"Q": lambda m: m.push(m.resolve_persistent(m.pop())),
    b"c": _global,
    b"\x93": _stack_global,
    b"\x82": _extension("<B"),
    b"\x83": _extension("<H"),
    b"\x84": _extension("<i"),
    b"R": _reduce,
    b"\x81": _reduce,  # NEWOBJ: cls.__new__(cls, *args) is a call like any other here
    b"\x92": _newobj_ex,
    b"i": _inst,
    b"o": _obj,
    b"b": _build,
    b"\x97": _next_buffer,
    b"\x98": lambda m: m.top(),  # READONLY_BUFFER
}
