"""Seeded damage to small valid files, and what a reader of such files must never do.

A test writes a valid sample of a format, and `survivors` gives the mutated files that its reader accepted;
every other one must have ended in one of the reader's documented errors, one sentence long, within bounded
time and memory, and without running anything that the file names.
"""

from __future__ import annotations

import random
import re
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SECONDS = 5.0
MEGABYTES = 500

# What no reader of a file has to do; opening files to write is checked apart.
_FORBIDDEN = frozenset(
    ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect",
     "pickle.find_class", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree")
)  # fmt: skip
_NUMBERS = (
    b"-1", b"0", b"1e999", b"-1e999", b"NaN", b"Infinity", b"99999999999999999999", b"4294967296",
    b"2147483648", b"1e308", b"0.5", b"null", b'"1"', b"[]", b"{}", b"true",
)  # fmt: skip
_WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x10000)


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged copies of a file, the same ones for the same seed.

    Args:
        data: a valid file.
        count: how many copies.
        seed: of the choice.
    """
    chance = random.Random(f"{seed} {len(data)}")
    for number in range(count):
        change = _CHANGES[number % len(_CHANGES)]
        yield bytes(change(bytearray(data), chance))


def _bit(data: bytearray, chance: random.Random) -> bytearray:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def _bytes(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return data


def _cut(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(len(data))]


def _spliced(data: bytearray, chance: random.Random) -> bytearray:
    """A stretch of the file stands somewhere else too, or in the place of something."""
    size = chance.randint(1, min(200, len(data)))
    begin, to = chance.randrange(len(data) - size + 1), chance.randrange(len(data))
    data[to : to + chance.choice((0, size))] = data[begin : begin + size]
    return data


def _removed(data: bytearray, chance: random.Random) -> bytearray:
    at = chance.randrange(len(data))
    del data[at : at + chance.randint(1, 64)]
    return data


def _number(data: bytearray, chance: random.Random) -> bytearray:
    """One number in digits becomes another, or something else."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?(e[+-]?\d+)?", data[:1_000_000]))
    if not found:
        return _word(data, chance)
    place = chance.choice(found)
    data[place.start() : place.end()] = chance.choice(_NUMBERS)
    return data


def _word(data: bytearray, chance: random.Random) -> bytearray:
    """One binary number becomes an extreme one."""
    width = chance.choice((2, 4, 8))
    at = chance.randrange(max(len(data) - width, 1))
    data[at : at + width] = struct.pack("<Q", chance.choice(_WORDS))[:width]
    return data


def _tail(data: bytearray, chance: random.Random) -> bytearray:
    """Something follows the file, or its last bytes are zeros, as after a crash."""
    if chance.random() < 0.5:
        return data + data[: chance.randint(1, 64)]
    size = chance.randint(1, max(len(data) // 2, 1))
    data[-size:] = bytes(size)
    return data


_CHANGES: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    _bit, _number, _word, _bytes, _bit, _cut, _spliced, _removed, _bit, _tail,
)  # fmt: skip


class Watch:
    """Notes forbidden events while it is on: audit hooks cannot be removed, so there is one with a switch."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and (event in _FORBIDDEN or (event == "open" and _writes(args))):
            self.seen.append(f"{event} {list(args[:1])}"[:200])


def _writes(args: tuple[Any, ...]) -> bool:
    name, mode, *_ = (*args, None, None)
    return isinstance(mode, str) and bool(set(mode) & set("wax+")) and not str(name).startswith("/dev/")


_WATCH: list[Watch] = []


def watch() -> Watch:
    """The one watch of this process."""
    if not _WATCH:
        _WATCH.append(Watch())
    return _WATCH[0]


def _one_sentence(error: Exception, case: str) -> None:
    said = str(error)
    assert said.strip(), f"{case}: {type(error).__name__} without a sentence"
    assert "\n" not in said, f"{case}: several lines: {said[:200]!r}"
    assert len(said) < 2000, f"{case}: too long: {said[:200]!r}"
    assert not isinstance(error, (UnicodeError, KeyError, IndexError)), f"{case}: {error!r}"


def survivors(
    data: bytes,
    path: Path,
    read: Callable[[Path], Any],
    *,
    count: int,
    seed: int = 0,
    errors: tuple[type[Exception], ...] = (ValueError,),
) -> Iterator[tuple[bytes, Any]]:
    """Mutated files that the reader accepted, with what it gave; all others ended as they must.

    Args:
        data: a valid file, small.
        path: where the mutated ones are written; the ending tells the reader the format.
        read: opens the file and reads all that is in it.
        count: how many mutated files.
        seed: of the choice.
        errors: what the reader documents that it raises.
    """
    watching = watch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, changed in enumerate(mutations(data, count, seed)):
        path.write_bytes(changed)
        case = f"{path.name}, mutation {number} of seed {seed}"
        began = time.process_time()
        watching.on = True
        try:
            given = read(path)
        except errors as error:
            given = None
            sentence = str(error)
            assert sentence.strip(), f"{case}: an error without a sentence"
        finally:
            watching.on = False
        assert time.process_time() - began < SECONDS, f"{case}: a hang"
        assert not watching.seen, f"{case}: {watching.seen}"
        if given is not None:
            yield changed, given
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES, f"{path.name}: {grown:.0f} MB"


# What nobody expects where a number, a text, a list or a table stands.
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 70, -(1 << 70), 1e308, float("inf"), float("-inf"), float("nan"), "", "x",
    "1e999", "\0", b"x", (), [], {}, [[]], {"": {}}, [1], {"a": 1}, ("a",), [None], {"1": None}, [{}],
    "9" * 5000, [0] * 1000,
)  # fmt: skip


def odd_values(value: Any, count: int, seed: int = 0, odd: tuple[Any, ...] = ODD) -> Iterator[Any]:
    """Copies of a nested value with one to three of its parts replaced by what nobody expects there.

    Args:
        value: dicts, lists and tuples of anything; other things are kept as they are.
        count: how many copies.
        seed: of the choice.
        odd: what may stand instead.
    """
    chance = random.Random(seed)
    for _ in range(count):
        changed = value
        for _ in range(chance.randint(1, 3)):
            places = list(_places(changed))
            changed = _replaced(changed, chance.choice(places), chance.choice(odd))
        yield changed


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if _listed(value) else ()
    for key, item in pairs:
        yield from _places(item, (*path, key))


def _listed(value: Any) -> bool:
    return type(value) in (list, tuple)


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {
            k: _replaced(v, path[1:], new) if k is path[0] or k == path[0] else v for k, v in value.items()
        }
    return type(value)(_replaced(v, path[1:], new) if i == path[0] else v for i, v in enumerate(value))


def read_all(
    path: Path,
    read: Callable[[Path], Any],
    made: Iterator[bytes],
    errors: tuple[type[Exception], ...] = (ValueError,),
) -> int:
    """Read files that a test makes; each ends as `survivors` demands. How many were accepted.

    Args:
        path: where they are written.
        read: opens the file and reads all that is in it.
        made: their contents.
        errors: what the reader documents that it raises.
    """
    accepted = 0
    for number, data in enumerate(made):
        path.write_bytes(data)
        began = time.process_time()
        try:
            read(path)
            accepted += 1
        except errors as error:
            _one_sentence(error, f"{path.name}, file {number}")
        assert time.process_time() - began < SECONDS, f"{path.name}, file {number}: a hang"
    return accepted
