"""What is said of a construct in a config that would need to be run?"""

from __future__ import annotations

import ast

# What a person calls the constructs that are refused most.
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
    """A construct that would need to run code; says where."""


def refuse(node: ast.AST, what: str = "") -> Refused:
    """The error for a construct."""
    what = what or _CALLED.get(type(node), f"{type(node).__name__}")
    line = getattr(node, "lineno", 0)
    return Refused(
        f"line {line}: {what} is not allowed in a config that is only read (literals, dict(), "
        "names, arithmetic are)"
    )
