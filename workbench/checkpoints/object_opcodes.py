"""What do the opcodes do that would import, call or fetch? Here they only describe what would have been made.

Source: the opcode table of Lib/pickletools.py, Python 3.13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.checkpoints.pickle_machine import HANDLERS, opcode
from workbench.checkpoints.pickled_objects import Inert, Symbol

if TYPE_CHECKING:
    from workbench.checkpoints.pickle_machine import Machine


@opcode(b"P")
def _persid(m: Machine) -> None:
    m.push(_persistent(m, m.line().decode()))


@opcode(b"Q")
def _binpersid(m: Machine) -> None:
    m.push(_persistent(m, m.pop()))


def _persistent(m: Machine, key: Any) -> Any:
    if m.persistent is None:
        raise m.damaged("it refers to storages that a file of this kind does not have")
    m.count()
    return m.persistent(key)


@opcode(b"c")
def _global(m: Machine) -> None:
    module = m.line().decode()
    m.symbol(module, m.line().decode())


@opcode(b"\x93")
def _stack_global(m: Machine) -> None:
    name = m.pop()
    m.symbol(m.pop(), name)


def _extension(m: Machine, number: int) -> None:
    # Extension codes mean whatever the writing program registered: unknown here, hence inert.
    m.symbol("copyreg", f"extension_{number}")


HANDLERS[b"\x82"] = lambda m: _extension(m, m.number("<B", 1))
HANDLERS[b"\x83"] = lambda m: _extension(m, m.number("<H", 2))
HANDLERS[b"\x84"] = lambda m: _extension(m, m.number("<i", 4))


@opcode(b"R")
def _reduce(m: Machine) -> None:
    args = m.pop()
    m.push(m.call(m.pop(), args))


HANDLERS[b"\x81"] = _reduce  # NEWOBJ: cls.__new__(cls, *args) is a call like any other here


@opcode(b"\x92")
def _newobj_ex(m: Machine) -> None:
    keywords = m.pop()
    args = m.pop()
    made = m.call(m.pop(), args)
    if isinstance(made, Inert) and isinstance(keywords, dict):
        made.mapping.update(keywords)
    m.push(made)


@opcode(b"i")
def _inst(m: Machine) -> None:
    module = m.line().decode()
    m.symbol(module, m.line().decode())
    symbol: Symbol = m.pop()
    m.push(m.call(symbol, tuple(m.marked())))


@opcode(b"o")
def _obj(m: Machine) -> None:
    items = m.marked()
    m.push(m.call(items[0], tuple(items[1:])))


@opcode(b"b")
def _build(m: Machine) -> None:
    state = m.pop()
    m.build(m.top(), state)


@opcode(b"\x97")
def _next_buffer(m: Machine) -> None:
    raise m.damaged("it refers to out-of-band buffers, which a file does not have")


@opcode(b"\x98")
def _readonly_buffer(m: Machine) -> None:
    m.top()
