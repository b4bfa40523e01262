"""What does each pickle opcode do to the inert machine? Here: plain values; object_opcodes.py has the rest.

Source: the opcode table of Lib/pickletools.py, Python 3.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.checkpoints.pickle_machine import Machine

MARK = object()
HANDLERS: dict[bytes, Callable[[Machine], None]] = {}


def opcode(code: bytes) -> Callable[[Callable[[Machine], None]], Callable[[Machine], None]]:
    """Enter a function in the table."""

    def enter(function: Callable[[Machine], None]) -> Callable[[Machine], None]:
        HANDLERS[code] = function
        return function

    return enter


def _constant(code: bytes, value: Any) -> None:
    HANDLERS[code] = lambda m: m.push(value)


def _number(code: bytes, layout: str, width: int) -> None:
    HANDLERS[code] = lambda m: m.push(m.number(layout, width))


def _text(code: bytes, layout: str, width: int) -> None:
    # surrogatepass, because Python's own pickler writes lone surrogates that way.
    HANDLERS[code] = lambda m: m.push(m.string(m.number(layout, width)).decode("utf-8", "surrogatepass"))


def _bytes(code: bytes, layout: str, width: int) -> None:
    HANDLERS[code] = lambda m: m.push(m.payload(m.number(layout, width)))


def _tuple_of(code: bytes, size: int) -> None:
    def handler(m: Machine) -> None:
        m.count()
        m.push(tuple(reversed([m.pop() for _ in range(size)])))

    HANDLERS[code] = handler


def _empty(code: bytes, kind: type) -> None:
    def handler(m: Machine) -> None:
        m.count()
        m.push(kind())

    HANDLERS[code] = handler


def _memo(code: bytes, layout: str, width: int, *, put: bool) -> None:
    if put:
        HANDLERS[code] = lambda m: m.remember(m.number(layout, width))
    else:
        HANDLERS[code] = lambda m: m.push(m.memo[m.number(layout, width)])


for _code, _value in ((b"N", None), (b"\x88", True), (b"\x89", False)):
    _constant(_code, _value)
for _code, _layout, _width in ((b"J", "<i", 4), (b"K", "<B", 1), (b"M", "<H", 2), (b"G", ">d", 8)):
    _number(_code, _layout, _width)
for _code, _layout, _width in ((b"X", "<I", 4), (b"\x8c", "<B", 1), (b"\x8d", "<Q", 8)):
    _text(_code, _layout, _width)
for _code, _layout, _width in ((b"B", "<I", 4), (b"C", "<B", 1), (b"\x8e", "<Q", 8), (b"\x96", "<Q", 8)):
    _bytes(_code, _layout, _width)
for _code, _size in ((b"\x85", 1), (b"\x86", 2), (b"\x87", 3)):
    _tuple_of(_code, _size)
for _code, _kind in ((b")", tuple), (b"]", list), (b"}", dict), (b"\x8f", list)):
    _empty(_code, _kind)
for _code, _layout, _width in ((b"h", "<B", 1), (b"j", "<I", 4)):
    _memo(_code, _layout, _width, put=False)
for _code, _layout, _width in ((b"q", "<B", 1), (b"r", "<I", 4)):
    _memo(_code, _layout, _width, put=True)


def _python2(m: Machine, count: int) -> None:
    """A Python 2 str: text where it is ASCII, bytes where it is not."""
    if count < 0:
        raise m.damaged("a string of negative length")
    data = m.payload(count)
    m.push(data.decode("ascii") if isinstance(data, bytes) and data.isascii() else data)


HANDLERS[b"T"] = lambda m: _python2(m, m.number("<i", 4))
HANDLERS[b"U"] = lambda m: _python2(m, m.number("<B", 1))


@opcode(b"\x80")
def _proto(m: Machine) -> None:
    if m.number("<B", 1) > 5:
        raise m.damaged("a protocol newer than 5")


@opcode(b"\x95")
def _frame(m: Machine) -> None:
    m.take(8)  # frames only help buffered readers


@opcode(b"(")
def _mark(m: Machine) -> None:
    m.push(MARK)


@opcode(b"0")
def _pop(m: Machine) -> None:
    m.stack.pop()


@opcode(b"1")
def _pop_mark(m: Machine) -> None:
    m.marked()


@opcode(b"2")
def _dup(m: Machine) -> None:
    m.push(m.top())


def _parsed(m: Machine, kind: type, line: bytes) -> Any:
    if len(line) > m.limits.digits:
        raise m.damaged("a number with too many digits")
    try:
        return kind(line.decode("ascii"))
    except ValueError as error:
        raise m.damaged(f"{line[:20]!r} is no number") from error


@opcode(b"F")
def _float(m: Machine) -> None:
    m.push(_parsed(m, float, m.line()))


@opcode(b"I")
def _int(m: Machine) -> None:
    line = m.line()
    m.push(line == b"01" if line in (b"00", b"01") else _parsed(m, int, line))


@opcode(b"L")
def _long(m: Machine) -> None:
    m.push(_parsed(m, int, m.line().rstrip(b"L")))


def _binary_long(m: Machine, count: int) -> None:
    if not 0 <= count <= m.limits.digits:
        raise m.damaged(f"an integer of {count} bytes")
    m.push(int.from_bytes(m.take(count), "little", signed=True))


HANDLERS[b"\x8a"] = lambda m: _binary_long(m, m.number("<B", 1))
HANDLERS[b"\x8b"] = lambda m: _binary_long(m, m.number("<i", 4))


@opcode(b"S")
def _string(m: Machine) -> None:
    line = m.line().strip()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise m.damaged("a string without quotes")
    m.push(line[1:-1].decode("unicode_escape"))


@opcode(b"V")
def _unicode(m: Machine) -> None:
    m.push(m.line().decode("raw-unicode-escape"))


@opcode(b"p")
def _put(m: Machine) -> None:
    m.remember(_parsed(m, int, m.line()))


@opcode(b"g")
def _get(m: Machine) -> None:
    m.push(m.memo[_parsed(m, int, m.line())])


@opcode(b"\x94")
def _memoize(m: Machine) -> None:
    m.remember(len(m.memo))


@opcode(b"t")
def _tuple(m: Machine) -> None:
    m.count()
    m.push(tuple(m.marked()))


@opcode(b"l")
def _list(m: Machine) -> None:
    m.count()
    m.push(m.marked())


# Sets are read as lists: order is kept, and nothing has to be hashed.
HANDLERS[b"\x91"] = _list


@opcode(b"d")
def _dict(m: Machine) -> None:
    m.count()
    items = m.marked()
    m.push({})
    m.setitems(m.top(), items)


@opcode(b"a")
def _append(m: Machine) -> None:
    value = m.pop()
    m.extend(m.top(), [value])


@opcode(b"e")
def _appends(m: Machine) -> None:
    items = m.marked()
    m.extend(m.top(), items)


HANDLERS[b"\x90"] = _appends


@opcode(b"s")
def _setitem(m: Machine) -> None:
    value = m.pop()
    key = m.pop()
    m.setitems(m.top(), [key, value])


@opcode(b"u")
def _setitems(m: Machine) -> None:
    items = m.marked()
    m.setitems(m.top(), items)
