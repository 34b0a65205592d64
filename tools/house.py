"""The measure of the house: imports inside functions with their reasons, and how long files and functions are.

    python tools/house.py

What is allowed stands below; tests/test_architecture.py holds the code against it.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_INNER_IMPORTS = 26  # in gftzoo, each with its reason
LONGEST_FILE = 300  # lines
MEDIAN_FILE = 100
LONGEST_FUNCTION = 49
SHORT_FUNCTION = 34  # nine of ten are no longer


@dataclass(frozen=True)
class Inner:
    """An import inside a function."""

    place: str
    text: str
    reason: str


@dataclass(frozen=True)
class House:
    """Lengths in lines, by place; a function's with its decorators and its documentation."""

    inner: list[Inner]
    files: dict[str, int]
    functions: dict[str, int]

    @property
    def short_share(self) -> float:
        return sum(length <= SHORT_FUNCTION for length in self.functions.values()) / len(self.functions)

    def complaints(self) -> list[str]:
        """What is past what is allowed, a sentence each."""
        found = [f"{one.place}: {one.text!r} has no reason beside it" for one in self.inner if not one.reason]
        if len(self.inner) > MOST_INNER_IMPORTS:
            found.append(f"{len(self.inner)} imports inside functions, and {MOST_INNER_IMPORTS} are allowed")
        found += [f"{name} has {n} lines" for name, n in self.files.items() if n > LONGEST_FILE]
        found += [f"{name} has {n} lines" for name, n in self.functions.items() if n > LONGEST_FUNCTION]
        if statistics.median(self.files.values()) >= MEDIAN_FILE:
            found.append(f"half of the files have {MEDIAN_FILE} lines or more")
        if self.short_share < 0.9:
            found.append(f"only {self.short_share:.0%} of the functions have {SHORT_FUNCTION} lines or fewer")
        return found


def sources() -> list[Path]:
    """The code of the core, the plugins and the tools, without tests and without the template, which is measured by
    its own tests."""
    found = (path for part in ("gftzoo", "plugins", "tools") for path in sorted((ROOT / part).rglob("*.py")))
    return [path for path in found if not {"tests", "template"} & set(path.relative_to(ROOT).parts)]


def look() -> House:
    """The house as it stands."""
    house = House([], {}, {})
    for path in sources():
        place, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        lines = text.splitlines()
        house.files[place] = len(lines)
        for function in functions(ast.parse(text)):
            house.functions[f"{place}:{function.lineno} {function.name}"] = length(function)
        if place.startswith("gftzoo/"):
            house.inner.extend(inner_imports(place, ast.parse(text), lines))
    return house


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return (function.end_lineno or first) - first + 1


def inner_imports(place: str, tree: ast.AST, lines: list[str]) -> Iterator[Inner]:
    """The imports inside functions, each with the comment behind it or on the line before."""
    found = {
        node.lineno: node.end_lineno or node.lineno
        for function in functions(tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    for first, last in sorted(found.items()):
        before = lines[first - 2].strip()
        behind = " ".join(line.partition("#")[2] for line in lines[first - 1 : last]).strip()
        reason = behind or (before.removeprefix("#").strip() if before.startswith("#") else "")
        yield Inner(f"{place}:{first}", lines[first - 1].partition("#")[0].strip(), reason)


def main() -> int:
    house = look()
    print(f"{len(house.inner)} imports inside functions of gftzoo (at most {MOST_INNER_IMPORTS})")
    for one in house.inner:
        print(f"  {one.place}: {one.text}  # {one.reason}")
    longest = sorted(house.files.items(), key=lambda item: -item[1])[:5]
    print(f"{len(house.files)} files, median {statistics.median(house.files.values()):g} lines; longest:")
    print("".join(f"  {length:4} {name}\n" for name, length in longest), end="")
    largest = sorted(house.functions.items(), key=lambda item: -item[1])[:5]
    print(f"{len(house.functions)} functions, {house.short_share:.1%} of {SHORT_FUNCTION} lines or fewer; longest:")
    print("".join(f"  {length:4} {name}\n" for name, length in largest), end="")
    complaints = house.complaints()
    print("\n".join(complaints) or "all within what is allowed")
    return int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
