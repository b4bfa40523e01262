"""Values in configs: texts in JSON, TOML and YAML, and Python expressions computed without running them.

Allowed in expressions: literals, names bound above, dict(), list(), tuple(), set(), range(), int(),
float('inf'), items and attributes of dicts, arithmetic, concatenation, plain f-strings, and a list
comprehension with one loop and no condition. Everything else is refused with its line.
"""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from workbench.checkpoints.budget import Budget, TooExpensive
from workbench.core.files import parse_toml

# Largest nesting depth of values in real files.
DEPTH = 60
# Largest integers in real files, bits.
BITS = 256
# Of `a.b.c = 1` in TOML: the parser's time grows with the square of the number of parts.
_PARTS = 40
_ENDS_A_KEY = frozenset("=,[]{}\n#")
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
# Characters of a key: places in a config are its keys joined, and made for each value below them.
_KEY = 500
# A config is small; longer texts or larger numbers come from a bomb.
_LENGTH = 100_000
# Of a YAML text: PyYAML reads about 100 kB a second.
_YAML = 1 << 17
# f"{x:>40}" pads to 40 characters; what pads to thousands is a bomb.
_WIDTH = 200
# Plain names of the constructs that are refused most often.
_CALLED: dict[type[ast.AST], str] = {
    ast.ListComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.Lambda: "a lambda",
    ast.IfExp: "a condition",
    ast.Compare: "a comparison",
    ast.NamedExpr: "an assignment inside an expression",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.FunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.If: "a condition",
    ast.With: "a with block",
    ast.Try: "a try block",
    ast.Delete: "del",
    ast.Assert: "an assertion",
}


class Refused(ValueError):  # noqa: N818 - reads as a claim
    """A construct that would need to run code; the message says where."""


def refuse(node: ast.AST, what: str = "") -> Refused:
    """The error for a construct.

    Args:
        node: the construct.
        what: its name in the message; "" for a plain name of its type.
    """
    what = what or _CALLED.get(type(node), f"{type(node).__name__}")
    line = getattr(node, "lineno", 0)
    return Refused(
        f"line {line}: {what} is not allowed in a config that is only read (literals, dict(), "
        "names, arithmetic are); the copies that mmengine saves in the run's folder and in its checkpoints "
        "have all values written out"
    )


def plain_values(text: str, kind: str, budget: Budget) -> Any:
    """The value of a text in JSON, TOML or YAML, read within a budget: no parser has one of its own.

    Args:
        text: of the whole file; the caller bounds its length.
        kind: ``json``, ``toml`` or ``yaml``.
        budget: charged for each value.

    Raises:
        ValueError: it is no such text, or holds more, deeper or larger values than any real file.
    """
    if not text.strip():
        raise ValueError("is empty")
    try:
        if kind == "yaml":
            found = _yaml(text, budget)
        else:
            found = _toml(text) if kind == "toml" else json.loads(text)
    except TooExpensive:
        raise
    except RecursionError as error:
        raise ValueError(f"is no {kind.upper()}: it is nested too deep") from error
    except ValueError as error:  # both libraries' own errors are ValueErrors
        raise ValueError(f"is no {kind.upper()} that can be read: {error}") from error
    try:
        found = copied(found, budget)
        refuse_long_keys(found)
        return found
    except TooExpensive:
        raise
    except ValueError as error:
        raise ValueError(f"holds {error}") from error


def refuse_long_keys(config: Any) -> None:
    """Refuse a config with a key that no config has.

    Args:
        config: dicts, lists and tuples are looked through; the caller bounds how many there are.

    Raises:
        ValueError: a key is longer than 500 characters.
    """
    waiting, seen = [config], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:  # a value that many names share is looked at once
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            longest = max((len(str(key)) for key in value), default=0)
            if longest > _KEY:
                raise ValueError(f"a key of {longest:,} characters; at most {_KEY} are read")
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value


def copied(value: Any, budget: Budget, depth: int = DEPTH) -> Any:
    """A deep copy of a value, each of its parts charged; a part that is used twice is charged twice.

    Args:
        value: dicts, lists, tuples, sets and their values.
        budget: charged for each part.
        depth: how deep they may be nested.

    Raises:
        TooExpensive: the budget is spent.
        ValueError: it is nested deeper, or holds an integer of more than BITS bits.
    """
    budget.step()
    if depth < 0:
        raise ValueError(f"a value nested more than {DEPTH} deep")
    if isinstance(value, int) and value.bit_length() > BITS:
        raise ValueError("a number of this size")
    if isinstance(value, str):
        budget.hold(len(value))
    if isinstance(value, dict):
        return {copied(key, budget, depth): copied(item, budget, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(copied(item, budget, depth - 1) for item in value)
    return value


def _toml(text: str) -> Any:
    parts = 0
    for piece in text.split("."):
        # A new count begins where no key can continue, and at an empty piece, as in "and so on ...".
        parts = 0 if not piece.strip() or not _ENDS_A_KEY.isdisjoint(piece) else parts + 1
        if parts > _PARTS:
            raise ValueError(f"a key of more than {_PARTS} parts")
    return parse_toml(text)


def _yaml(text: str, budget: Budget) -> Any:
    """The value of a YAML text, by PyYAML's safe loader: no tag makes an object."""
    import yaml

    if len(text) > _YAML:
        raise ValueError(f"more than {_YAML} characters")

    class Loader(yaml.SafeLoader):
        def flatten_mapping(self, node: Any) -> None:
            # Merge keys (<<) of merged mappings double the entries at each level.
            super().flatten_mapping(node)
            budget.step(1 + len(node.value))

    def as_text(loader: Loader, node: Any) -> Any:
        return loader.construct_scalar(node)

    for kind in ("timestamp", "binary"):  # JSON has neither
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", as_text)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        # PyYAML checks no text that a tag names a number: `!!int ""`, or 1:30:30:...:30.5 beyond all floats.
        raise ValueError(f"a value that is none of the kind its tag names ({error})") from error


class Evaluator:
    """Computes expressions over the names that are bound so far.

    Args:
        names: bound names; the caller adds to them.
        budget: charged for the work.

    Attributes:
        shared: names whose dict or list another value holds since: changing one would change the other.
    """

    def __init__(self, names: dict[str, Any], budget: Budget) -> None:
        self.names, self.budget = names, budget
        self.shared: set[str] = set()

    def value(self, node: ast.expr) -> Any:
        """The value of an expression.

        Raises:
            ValueError: it would need to run code, uses an unbound name, or is larger than any real config.
        """
        self.budget.step()
        if isinstance(node, ast.Constant):
            return self._constant(node)
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                raise refuse(node, f"the name {node.id!r}, which nothing above binds,")
            if isinstance(self.names[node.id], (dict, list)):
                self.shared.add(node.id)
            return self.copied(self.names[node.id], node)
        if isinstance(node, ast.ListComp):
            return self._comprehension(node)
        if isinstance(node, ast.Dict):
            return self._dict(node)
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return self._sequence(node)
        if isinstance(node, ast.Attribute):
            return self._item(node, self._container(node.value), node.attr)
        if isinstance(node, ast.Subscript):
            return self._item(node, self._container(node.value), self._index(node.slice))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return self._computed(node, type(node.op), self.value(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._computed(node, type(node.op), self.value(node.left), self.value(node.right))
        if isinstance(node, ast.JoinedStr):
            return "".join(self._piece(part) for part in node.values)
        if isinstance(node, ast.Call):
            return self._call(node)
        raise refuse(node)

    def copied(self, value: Any, node: ast.AST) -> Any:
        """A copy, so that two uses of a name do not share a dict; charged, so that doubling ends.

        Args:
            value: of a name.
            node: where it is used.
        """
        try:
            return copied(value, self.budget)
        except TooExpensive:
            raise
        except ValueError as error:
            raise refuse(node, str(error)) from None

    def _constant(self, node: ast.Constant) -> Any:
        value = node.value
        if isinstance(value, int) and value.bit_length() > BITS:
            raise refuse(node, "a number of this size")
        if value is None or isinstance(value, (str, int, float)):
            return value
        raise refuse(node, f"a value of type {type(value).__name__}")

    def _container(self, node: ast.expr) -> Any:
        """Like value, without copying what is only looked into."""
        if isinstance(node, ast.Name) and node.id in self.names:
            return self.names[node.id]
        if isinstance(node, ast.Attribute):
            return self._item(node, self._container(node.value), node.attr, copy=False)
        return self.value(node)

    def _item(self, node: ast.AST, container: Any, key: Any, copy: bool = True) -> Any:
        by_key = isinstance(container, Mapping) and (isinstance(key, (str, int, float)) and key in container)
        by_place = isinstance(container, (list, tuple, str)) and isinstance(key, (int, slice))
        if isinstance(node, ast.Attribute) and not isinstance(container, Mapping):
            raise refuse(node, f"the attribute {node.attr!r} of a {type(container).__name__}")
        try:
            if by_key or by_place:
                found = container[key]  # type: ignore[index]
                if copy and isinstance(found, (dict, list)):
                    self.shared |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                return self.copied(found, node) if copy else found
        except IndexError:
            pass
        raise refuse(node, f"the item {str(key)[:40]!r}, which is not there,")

    def _comprehension(self, node: ast.ListComp) -> list[Any]:
        """``[expression for name in values]``: what mmpose's own configs use for sizes."""
        loop = node.generators[0]
        if len(node.generators) > 1 or loop.ifs or loop.is_async or not isinstance(loop.target, ast.Name):
            raise refuse(node, "a comprehension with more than one loop over one name")
        items = self.value(loop.iter)
        if not isinstance(items, (list, tuple)):
            raise refuse(node, f"a comprehension over a {type(items).__name__}")
        name, nothing = loop.target.id, object()
        before = self.names.get(name, nothing)
        found = []
        try:
            for item in items:
                self.names[name] = item
                found.append(self.value(node.elt))
        finally:
            if before is nothing:
                self.names.pop(name, None)
            else:
                self.names[name] = before
        return found

    def _index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            ends = [None if end is None else self.value(end) for end in (node.lower, node.upper, node.step)]
            if all(end is None or isinstance(end, int) for end in ends) and ends[2] != 0:
                return slice(*ends)
            raise refuse(node, "a slice that is no range of whole numbers")
        return self.value(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                found.update(self._mapping(item))
                continue
            name = self.value(key)
            if not isinstance(name, (str, int, float, bool)) and not _is_flat(name):
                raise refuse(key, "a key that is neither text nor number")
            found[name] = self.value(item)
        return found

    def _mapping(self, node: ast.expr) -> dict[Any, Any]:
        found = self.value(node)
        if not isinstance(found, dict):
            raise refuse(node, f"** of a {type(found).__name__}")
        return found

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Any:
        found: list[Any] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                spread = self.value(item.value)
                if not isinstance(spread, (list, tuple, set)):
                    raise refuse(item, f"* of a {type(spread).__name__}")
                found += spread
            else:
                found.append(self.value(item))
        if isinstance(node, ast.Set):
            return self._set(node, found)
        return found if isinstance(node, ast.List) else tuple(found)

    def _set(self, node: ast.AST, items: Any) -> set[Any]:
        if not all(isinstance(item, (str, int, float, bool)) or _is_flat(item) for item in items):
            raise refuse(node, "a set of anything but texts and numbers")
        return set(items)

    def _computed(self, node: ast.AST, kind: type[ast.AST], *values: Any) -> Any:
        numbers = all(isinstance(v, (int, float)) for v in values)
        if not numbers and kind not in (ast.Add, ast.Mult, ast.Not):
            raise refuse(node, "arithmetic on what are no numbers")
        if kind is ast.Pow and (abs(values[0]) > 1e9 or abs(values[1]) > 64):
            raise refuse(node, "a power of this size")
        repeated = kind is ast.Mult and not numbers
        if repeated:
            size = max((len(v) for v in values if isinstance(v, (str, list, tuple))), default=0)
            if size * max((abs(v) for v in values if isinstance(v, int)), default=0) > _LENGTH:
                raise refuse(node, "a repetition of this size")
        try:
            found = _OPERATORS[kind](*values)
        except (TypeError, ZeroDivisionError, OverflowError, ValueError) as error:
            raise refuse(node, f"{type(node).__name__} on these values ({error})") from error
        if isinstance(found, complex):
            raise refuse(node, "a complex number")
        if isinstance(found, int) and found.bit_length() > BITS:
            raise refuse(node, "a number of this size")
        if isinstance(found, str):
            if len(found) > _LENGTH:
                raise refuse(node, "a text of this size")
            self.budget.hold(len(found))
        if isinstance(found, (list, tuple)):
            if len(found) > _LENGTH:
                raise refuse(node, "a list of this size")
            # A repeated list holds the same parts many times: whoever copies it later copies each of them.
            found = self.copied(found, node) if repeated else found
            self.budget.step(len(found))
        return found

    def _piece(self, node: ast.expr) -> str:
        """The text of one part of an f-string, charged before the parts are joined."""
        text = self._formatted(node)
        self.budget.hold(len(text))
        return text

    def _formatted(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.FormattedValue):
            value = self.value(node.value)
            spec = (
                "".join(self._piece(p) for p in node.format_spec.values)
                if isinstance(node.format_spec, ast.JoinedStr)
                else ""
            )
            # Digits of any script: format() takes them too.
            narrow = len(spec) <= 6 and all(int(width) <= _WIDTH for width in re.findall(r"\d+", spec))
            if isinstance(value, (str, int, float)) and narrow and node.conversion in (-1, 115):
                try:
                    return format(value if node.conversion == -1 else str(value), spec)
                except ValueError as error:
                    raise refuse(node, f"the format {spec!r}") from error
        raise refuse(node, "an f-string of more than texts and numbers")

    def _call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in ("dict", "list", "tuple", "set", "range", "float", "int") or name in self.names:
            raise refuse(node, f"the call {ast.unparse(node.func)[:60]}(...)")
        given = self._sequence(ast.List(elts=node.args, ctx=ast.Load()))
        if name == "dict":
            found: dict[Any, Any] = {}
            for item in given:
                pairs = list(item.items()) if isinstance(item, dict) else item
                if not isinstance(pairs, list) or not all(
                    isinstance(p, (tuple, list)) and len(p) == 2 and isinstance(p[0], (str, int, float))
                    for p in pairs
                ):
                    raise refuse(node, "dict() of what are no pairs with a text or number as key")
                found.update(pairs)
            for word in node.keywords:
                found.update(
                    self._mapping(word.value) if word.arg is None else {word.arg: self.value(word.value)}
                )
            return found
        if node.keywords or len(given) > (3 if name == "range" else 1):
            raise refuse(node, f"{name}() with these arguments")
        if name == "range":
            if not given or not all(isinstance(n, int) for n in given) or (len(given) == 3 and not given[2]):
                raise refuse(node, "range() of anything but whole numbers")
            steps = range(*given)
            # Not len(): it overflows on a range of more than 2**63 numbers.
            length = math.ceil(max(0, (steps.stop - steps.start) / steps.step))
            if length > _LENGTH:
                raise refuse(node, "a range of this size")
            self.budget.step(length)
            return list(steps)
        if name in ("float", "int"):
            return self._number(node, float if name == "float" else int, given)
        items = given[0] if given else []
        if not isinstance(items, (list, tuple, set, dict, str)):
            raise refuse(node, f"{name}() of a {type(items).__name__}")
        self.budget.step(len(items))
        return self._set(node, items) if name == "set" else (list if name == "list" else tuple)(items)

    def _number(self, node: ast.AST, kind: type[float] | type[int], given: list[Any]) -> Any:
        # A text of thousands of digits takes int() long.
        fits = not given or (isinstance(given[0], (str, int, float)) and len(str(given[0])) < _WIDTH)
        if not fits:
            raise refuse(node, f"{kind.__name__}() of a {type(given[0]).__name__} or of a text of this size")
        try:
            found = kind(given[0]) if given else kind()
        except (ValueError, OverflowError) as error:
            raise refuse(node, f"{kind.__name__}() of this value") from error
        if isinstance(found, int) and found.bit_length() > BITS:
            raise refuse(node, "a number of this size")
        return found


def _is_flat(value: Any) -> bool:
    return (
        isinstance(value, tuple) and len(value) < 100 and all(isinstance(v, (str, int, float)) for v in value)
    )
