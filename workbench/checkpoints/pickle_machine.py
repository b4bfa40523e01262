"""What would this pickle build? Runs the pickle virtual machine without ever making a foreign object.

Python's own unpickler imports what a file names and calls it. This one knows no import and no call: names
become Symbols (symbols.py decides which few have a meaning here), calls of all others become Inert shells. It
also refuses what would exhaust the machine: numbers, strings, memo indices and sizes are checked before they
are believed. Source: the opcode table of Lib/pickletools.py, Python 3.13.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from workbench.checkpoints.budget import LIMITS, Budget, Limits
from workbench.checkpoints.pickle_machine import HANDLERS_OBJECT_OPCODES as HANDLERS
from workbench.checkpoints.pickle_machine import MARK
from workbench.checkpoints.pickled_objects import Array, Fields, Inert, LongBytes, NumpyType, Symbol
from workbench.checkpoints.tensors import Place

# Byte strings from here on stay on disk: numpy arrays of weights come as such.
LONG = 1 << 16


class Machine:
    """One run over one pickle.

    Args:
        stream: positioned at the pickle's first byte.
        end: position where the stream ends.
        resolve: from module and name to a Symbol.
        persistent: from a persistent id to its value; None where there must be none.
        source: from position in the stream and length to a place, when long byte strings may stay on disk.
        limits: of this pickle.
        budget: of the file that it belongs to.
    """

    def __init__(
        self,
        stream: BinaryIO,
        end: int,
        resolve: Callable[[str, str], Symbol],
        persistent: Callable[[Any], Any] | None = None,
        source: Callable[[int, int], Place] | None = None,
        limits: Limits = LIMITS,
        budget: Budget | None = None,
    ) -> None:
        self.stream, self.end, self.source, self.limits = stream, end, source, limits
        self.budget = Budget("the pickle") if budget is None else budget
        self.resolve, self.persistent = resolve, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.inert: dict[str, None] = {}

    def run(self) -> Any:
        """The pickled value, as data.

        Raises:
            ValueError: the bytes are no pickle, are cut off, or ask for more than the limits.
        """
        read = self.stream.read
        stack = self.stack
        for _ in range(self.limits.opcodes):
            code = read(1)
            if code == b".":
                if not stack:
                    raise self.damaged("it ends without a value")
                return self.pop()
            handler = HANDLERS.get(code)
            if handler is None:
                raise self.damaged("the data end in the middle" if not code else f"no opcode {code!r}")
            try:
                handler(self)
            except (IndexError, KeyError, TypeError, UnicodeError, OverflowError, struct.error) as error:
                raise self.damaged(f"opcode {code!r} does not fit what came before it") from error
            if len(stack) > self.limits.objects:
                break
        raise ValueError("the pickle asks for more steps than any checkpoint needs; it is refused as a bomb")

    # -- what may be believed

    def damaged(self, what: str) -> ValueError:
        """An error that says where the pickle stops making sense."""
        return ValueError(f"the pickle is damaged or cut off at byte {self.stream.tell()}: {what}")

    def take(self, count: int) -> bytes:
        """That many bytes, a few."""
        data = self.stream.read(count)
        if len(data) != count:
            raise self.damaged("the data end in the middle")
        return data

    def string(self, count: int) -> bytes:
        """The bytes of a text, counted before they are read."""
        if count > LONG and count > self.end - self.stream.tell():
            raise self.damaged(f"it declares a text of {count} bytes, more than the file holds")
        self.budget.hold(count)
        return self.take(count)

    def line(self) -> bytes:
        data = self.stream.readline(self.limits.text + 1)
        self.budget.hold(len(data))
        if not data.endswith(b"\n"):
            raise self.damaged("a line without end")
        return data[:-1]

    def count(self) -> None:
        """Count a container."""
        self.budget.make()

    def number(self, code: str, width: int) -> Any:
        return struct.unpack(code, self.take(width))[0]

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

    # -- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def remember(self, index: int) -> None:
        if len(self.memo) >= self.limits.objects:
            raise ValueError("the pickle remembers more objects than any checkpoint; it is refused as a bomb")
        self.memo[index] = self.top()

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise self.damaged("a value is missing")
        return value

    def top(self) -> Any:
        value = self.stack[-1]
        if value is MARK:
            raise self.damaged("a value is missing")
        return value

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        stack = self.stack
        at = len(stack) - 1
        while stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise self.damaged("a mark is missing")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    # -- objects that are not made

    def call(self, function: Any, args: Any) -> Any:
        """What stands in the place of `function(*args)`."""
        self.count()
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
        # Attributes on dicts (the _metadata of a state dict) and tensors carry no weights: left out.

    def setitems(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise self.damaged("a key without value")
        into = target.mapping if isinstance(target, Inert) else target
        if not isinstance(into, dict):
            raise self.damaged(f"a {type(target).__name__} takes no keys")
        for i in range(0, len(items), 2):
            into[self.key(items[i])] = items[i + 1]

    def extend(self, target: Any, items: list[Any]) -> None:
        into = target.items if isinstance(target, Inert) else target
        if not isinstance(into, list):
            raise self.damaged(f"a {type(target).__name__} takes no items")
        into.extend(items)

    def symbol(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 500:
            raise self.damaged("a name that is none")
        found = self.resolve(module, name)
        if found.build is None and not found.dtype:
            if len(self.inert) >= 1000:
                raise ValueError("the pickle names more than 1000 unknown classes; it is refused")
            self.inert[found.name] = None
        self.push(found)

    def payload(self, count: int) -> Any:
        """A byte string, left on disk when it is long."""
        if self.source is None or count < LONG:
            return self.string(count)
        begin = self.stream.tell()
        if count > self.end - begin:
            raise self.damaged(f"it declares {count} bytes more than the file holds")
        self.stream.seek(count, 1)
        return LongBytes(self.source(begin, count))
