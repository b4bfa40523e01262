"""Statements about a recipe, read from TOML, lines of `key = value`, or Markdown.

In Markdown they are values in code blocks, and sentences that are recognised. That reader is deterministic.
A code block is a claim about upstream unless its label says that it shows the author's own code ("Current",
"Problem", "WRONG"). Code is parsed and never run: literals, dict() and names that the block binds have a
value, everything else is passed over.
"""

from __future__ import annotations

import ast
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.core.files import read_at_most
from workbench.core.python_text import tree_of
from workbench.recipes.claims import Claim, field_named, recognised, without_repetition
from workbench.recipes.comparison import shown
from workbench.recipes.recipe import recipe, recipe_names
from workbench.recipes.values import decisions_of

_FENCE = re.compile(r"^\s*```(\w*)\s*$")
_OWN = re.compile(r"\bcurrent\b|\bproblem|\bwrong\b|\bour (?:code|config)\b", re.IGNORECASE)
_UPSTREAM = re.compile(
    r"\bofficial\b|\brequired?\b|\bcorrect\b|\bfix\b|\brecommend|\bupstream\b|\bmissing\b", re.IGNORECASE
)
_LABEL = re.compile(r"^\s*(?:#{1,6}\s|\*\*|[-*]\s|\d+\.\s)")
_PATH = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|ya?ml))`")
_SIZES = {"base": "b", "large": "l", "huge": "h", "small": "s"}
# Lines of Markdown and of plain text, blocks, depths and bits of a number beyond any audit.
_LINES, _PLAIN_LINES = 20_000, 2000
_BITS = 1000
_BLOCKS = 200
# Of one block; Sapiens' whole config makes 60.
_CLAIMS = 200
_DEPTH = 40


@dataclass(frozen=True)
class _Block:
    """A fenced code block: language, text, first line, the text before it since the last block or heading."""

    language: str
    text: str
    line: int
    label: str
    heading: str


def markdown_claims(text: str) -> tuple[list[Claim], str]:
    """The statements of a Markdown text, and the recipe that it is mostly about.

    Returns:
        claims in the order of the text, each once; name of the recipe, "" where the text names none.
    """
    _refuse_more_lines(text, _LINES)
    about = _recipe_of(text)
    claims: list[Claim] = []
    prose, blocks = _parts(text)
    for number, line in prose:
        found = recognised(line, number, about)
        found += [Claim(line.strip()[:200], "source.path", path, number) for path in _PATH.findall(line)]
        if (
            not found
            and _LABEL.match(line)
            and re.search(r"\d|`", line)
            and not line.lstrip().startswith("#")
        ):
            found = [Claim(line.strip()[:200], line=number)]
        claims += found
    for block in blocks[:_BLOCKS]:
        if not _is_own(block):
            claims += _block_claims(block, about)
    claims.sort(key=lambda claim: claim.line)
    return without_repetition(claims), about


def _refuse_more_lines(text: str, most: int) -> None:
    if len(text.splitlines()) > most:
        raise ValueError(f"statements in more than {most} lines are refused")


def code_claims(text: str, about: str) -> list[Claim]:
    """The statements that a file of Python code makes, as a block of a text would.

    Args:
        text: of the file; it is parsed and not run.
        about: name of the recipe that it follows.
    """
    claims = list(_block_claims(_Block("python", text, 1, "", ""), about))
    return without_repetition(sorted(claims, key=lambda claim: claim.line))


def own_configs(text: str) -> list[tuple[int, str]]:
    """The YAML configs in a Markdown text that it calls the author's own.

    Returns:
        first line and text of each.
    """
    blocks = _parts(text)[1]
    return [(one.line, one.text) for one in blocks if one.language in ("yaml", "yml") and _is_own(one)]


def _recipe_of(text: str) -> str:
    """The recipe that a text is about: the one whose config file it names, or the one it names most."""
    for name in recipe_names():
        if recipe(name).sources[0].path.rpartition("/")[2] in text:
            return name
    counts = {name: len(re.findall(re.escape(name), text)) for name in recipe_names()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else ""


def _parts(text: str) -> tuple[list[tuple[int, str]], list[_Block]]:
    """Lines outside of code with their numbers, and the code blocks."""
    prose: list[tuple[int, str]] = []
    blocks: list[_Block] = []
    fence: tuple[str, int] | None = None
    inside: list[str] = []
    label: list[str] = []
    heading = ""
    for number, line in enumerate(text.splitlines(), 1):
        mark = _FENCE.match(line)
        if fence is None and mark:
            fence, inside = (mark[1].lower(), number + 1), []
        elif fence is not None and mark and not mark[1]:
            blocks.append(_Block(fence[0], "\n".join(inside), fence[1], "\n".join(label[-4:]), heading))
            fence, label = None, []
        elif fence is not None:
            inside.append(line)
        else:
            prose.append((number, line))
            if line.startswith("#"):
                heading, label = line, []
            if line.strip():
                label.append(line)
    return prose, blocks


def _is_own(block: _Block) -> bool:
    """Whether a block shows what the author has, not upstream: by its last label or first comment."""
    first = next((line for line in block.text.splitlines() if line.strip()), "")
    if first.lstrip().startswith("#"):
        if _OWN.search(first):
            return True
        if _UPSTREAM.search(first):
            return False
    for line in reversed(block.label.splitlines()):
        own, upstream = _OWN.search(line), _UPSTREAM.search(line)
        if own and not (upstream and upstream.start() < own.start()):
            return True
        if upstream:
            return False
    return False


def _block_claims(block: _Block, about: str) -> Iterator[Claim]:
    """Claims of one block: recognised lines, values of configs, layers of a head, a layer decay by hand."""
    name = _subject(block, about)
    for offset, line in enumerate(block.text.splitlines()):
        yield from recognised(line, block.line + offset, name)
    try:
        tree = tree_of(textwrap.dedent(block.text))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return
    values = _Literals().module(tree)
    found = itertools.chain(_config_claims(values), _loader_claims(tree), _head_claims(tree))
    for claim in itertools.islice(found, _CLAIMS):
        yield Claim(*_located(claim, block), name)
    yield from _decay_claims(tree, block, name)


def _located(claim: tuple[str, Any, str], block: _Block) -> tuple[str, str, Any, int]:
    """Text, key, value and line of a claim: the first line of the block that holds its last key."""
    key, value, place = claim
    word = place.rpartition(".")[2]
    lines = block.text.splitlines()[:_CLAIMS]
    said = re.compile(rf"\b{re.escape(word)}\b")
    text = f"'{value}'" if isinstance(value, str) else str(value)
    both = [n for n, line in enumerate(lines) if said.search(line) and text in line]
    offset = (both or [n for n, line in enumerate(lines) if said.search(line)] or [0])[0]
    text = lines[offset].strip() if lines else ""
    return text[:200], key, value, block.line + offset


def _subject(block: _Block, about: str) -> str:
    """The recipe that a block is about: another one than the text's where heading or label names it."""
    said = f"{block.heading}\n{block.label}\n{block.text}"
    if "vitpose" in said.lower() and not re.search("sapiens", f"{block.label}", re.IGNORECASE):
        size = re.search(r"vit(?:pose)?-(base|large|huge|small)", said, re.IGNORECASE)
        return f"vitpose-{_SIZES[size[1].lower()] if size else 'b'}-coco"
    return about


class _Literals:
    """Values of a block's assignments; what is no literal is left out."""

    MISSING = object()

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}

    def module(self, tree: ast.Module) -> dict[str, Any]:
        """Name -> value for the assignments at the top."""
        for node in tree.body:
            if (
                isinstance(node, ast.Assign)
                and len(node.targets) == 1
                and isinstance(node.targets[0], ast.Name)
            ):
                value = self.value(node.value, 0)
                if value is not self.MISSING:
                    self.names[node.targets[0].id] = value
        return self.names

    def value(self, node: ast.expr, depth: int) -> Any:
        """The value of an expression; MISSING where it has none that can be read."""
        if depth > _DEPTH:
            return self.MISSING
        if isinstance(node, ast.Constant):
            is_endless = isinstance(node.value, int) and node.value.bit_length() > _BITS
            return self.MISSING if is_endless else node.value
        if isinstance(node, ast.Name):
            return self.names.get(node.id, self.MISSING)
        if isinstance(node, (ast.List, ast.Tuple)):
            items = [self.value(item, depth + 1) for item in node.elts]
            return [item for item in items if item is not self.MISSING]
        if isinstance(node, ast.Dict):
            pairs = [(key, item) for key, item in zip(node.keys, node.values, strict=True)]
            return self._pairs([(getattr(k, "value", None), v) for k, v in pairs], depth)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            return self._pairs([(word.arg, word.value) for word in node.keywords], depth)
        if isinstance(node, ast.Subscript):
            inner, key = self.value(node.value, depth + 1), self.value(node.slice, depth + 1)
            if isinstance(inner, dict) and isinstance(key, str):
                return inner.get(key, self.MISSING)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self.value(node.operand, depth + 1)
            return -inner if isinstance(inner, (int, float)) else self.MISSING
        return self.MISSING

    def _pairs(self, pairs: list[tuple[Any, ast.expr]], depth: int) -> dict[str, Any]:
        found = {key: self.value(item, depth + 1) for key, item in pairs if isinstance(key, str)}
        return {key: value for key, value in found.items() if value is not self.MISSING}


def _config_claims(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and place of whatever a block decides."""
    if not values:
        return
    decisions = decisions_of(values, "mmengine")
    for name, value in decisions.values.items():
        omitted = name == "optimizer.constructor" and "paramwise_cfg" in values.get("optim_wrapper", {})
        absent = name.startswith("augment.") and value.value is False
        derived = value.key.endswith(".arch") and name != "backbone.arch"
        if (value.written or omitted) and not absent and not derived:
            yield name, value.value, "paramwise_cfg" if omitted else value.key


def _loader_claims(tree: ast.Module) -> Iterator[tuple[str, Any, str]]:
    words = {
        "batch_size": "train.batch_size",
        "shuffle": "train.shuffle",
        "num_workers": "train.workers",
        "persistent_workers": "train.persistent_workers",
        "prefetch_factor": "train.prefetch_factor",
        "drop_last": "train.drop_last",
    }
    for call in _calls(tree, "DataLoader"):
        for word in call.keywords:
            if word.arg in words and isinstance(word.value, ast.Constant):
                yield words[word.arg], word.value.value, word.arg


def _head_claims(tree: ast.Module) -> Iterator[tuple[str, Any, str]]:
    """A head written as layers: its norm, and whether its 1x1 convolutions have a bias."""
    if not any(True for _ in _calls(tree, "ConvTranspose2d")):
        return
    for norm in ("BatchNorm2d", "InstanceNorm2d", "GroupNorm"):
        if any(True for _ in _calls(tree, norm)):
            yield "head.norm", norm, norm
    for call in _calls(tree, "Conv2d"):
        given = {word.arg: word.value for word in call.keywords}
        sizes = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
        bias = given.get("bias")
        if len(sizes) >= 2 and sizes[0] == sizes[1] and isinstance(bias, ast.Constant):
            yield "head.conv_bias", bool(bias.value), "Conv2d"
            return


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called == name:
                yield node


def _decay_claims(tree: ast.Module, block: _Block, name: str) -> Iterator[Claim]:
    """A layer decay by hand, `rate ** (layers - i - 1)`: rate, exponent, and which parameters it reaches."""
    powers = (n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow))
    found = next(((node, read) for node in powers if (read := _decay(node))), None)
    if found is None:
        return
    node, (rate, exponents) = found
    line = block.line + node.lineno - 1
    text = block.text.splitlines()[node.lineno - 1].strip()[:200]
    yield Claim(text, "optimizer.layer_decay", rate, line, name)
    if None not in exponents:
        yield Claim(text, "layer_decay.exponent", exponents, line, name)
    said = " ".join(
        n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )
    left = [part for part in ("patch_embed", "pos_embed", "last_norm") if part not in said]
    if left and ("block" in said or "layers" in said):
        yield Claim(text, "layer_decay.reach", f"no group takes {', '.join(left)}", line, name)


def _decay(node: ast.BinOp) -> tuple[float, tuple[int | None, ...]] | None:
    """Rate, and exponents of the first and the last of 12 blocks; None where it is another power."""
    rate = node.left.value if isinstance(node.left, ast.Constant) else None
    names = sorted({n.id for n in ast.walk(node.right) if isinstance(n, ast.Name)})
    whole = next((n for n in names if "layer" in n), "")
    if not isinstance(rate, float) or len(names) != 2 or not whole:
        return None
    index = next(n for n in names if n != whole)
    return rate, tuple(_integer(node.right, {whole: 12, index: block}) for block in (0, 11))


def _integer(node: ast.expr, names: Mapping[str, int]) -> int | None:
    """An expression of sums and differences of whole numbers; None where it is another."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value if node.value.bit_length() <= _BITS else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        left, right = _integer(node.left, names), _integer(node.right, names)
        if left is None or right is None:
            return None
        return left + right if isinstance(node.op, ast.Add) else left - right
    return None


def read_claims(path: Path) -> tuple[tuple[Claim, ...], str]:
    """The statements of a file, and the recipe that it names; "" where it names none.

    Args:
        path: TOML with ``recipe`` and ``[[claim]]`` tables of ``key`` and ``value``; text with lines
            ``key = value`` and one ``recipe: name``; or Markdown, in which statements are recognised.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or holds no statement.
    """
    return claims_of(content_of(path), path.name)


def claims_of(text: str, title: str) -> tuple[tuple[Claim, ...], str]:
    """The statements of a text, and the recipe that it names; "" where it names none.

    Args:
        text: in the format that the ending of `title` says, as of `read_claims`.
        title: name of the file.

    Raises:
        ValueError: it is no such text, or holds no statement.
    """
    ending = Path(title).suffix.lower()
    if ending == ".toml":
        claims, name = _toml_claims(text, title)
    elif ending in (".md", ".markdown"):
        claims, name = markdown_claims(text)
    else:
        claims, name = _text_claims(text)
    if not claims:
        raise ValueError(
            f"{title}: no statement found; expected [[claim]] tables (.toml), lines `key = value`, or "
            "Markdown (.md)"
        )
    return tuple(claims), name


# The longest audit that somebody writes by hand.
_SIZE = 1 << 18


def content_of(path: Path) -> str:
    """The text of a file of statements.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than any such file, or no text.
    """
    data = read_at_most(path, _SIZE, "a file of statements")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no text in UTF-8 (byte {error.start})") from error


_TABLE = re.compile(r"\s*\[\[\s*claim\s*\]\]\s*(#.*)?$")


def _toml_claims(text: str, name: str) -> tuple[list[Claim], str]:
    from workbench.checkpoints.config_reader import config_budget
    from workbench.checkpoints.config_values import plain_values

    try:
        content = plain_values(text, "toml", config_budget(name))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error
    entries = content.get("claim", [])
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) and "key" in one for one in entries):
        raise ValueError(f"{name}: expected [[claim]] tables with key and value")
    lines = [n for n, line in enumerate(text.splitlines(), 1) if _TABLE.match(line)]
    if len(lines) != len(entries):  # an array of inline tables, or a header inside a text
        lines = [0] * len(entries)
    claims = [
        Claim(
            str(one.get("text", f"{one['key']} = {shown(one.get('value'))}")),
            field_named(str(one["key"])),
            one.get("value"),
            line,
            str(one.get("recipe", "")),
        )
        for one, line in zip(entries, lines, strict=True)
    ]
    return claims, str(content.get("recipe", ""))


def _text_claims(text: str) -> tuple[list[Claim], str]:
    from workbench.checkpoints.config_reader import read_config

    _refuse_more_lines(text, _PLAIN_LINES)
    claims, name = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line.lower().startswith("recipe:"):
            name = line.partition(":")[2].strip()
        elif "=" in line:
            key, _, value = line.partition("=")
            try:
                read = read_config(f"value = {value.strip()}")["value"]
            except ValueError:
                read = value.strip()
            claims.append(Claim(line, field_named(key.strip()), read, number))
        elif line:
            claims += recognised(line, number) or [Claim(line, line=number)]
    return claims, name
