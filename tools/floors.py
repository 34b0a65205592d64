"""The floors of the package as a picture: `pyproject.toml` says which there are, the imports are read from the code.

    python tools/floors.py          # whether docs/floors.svg is current
    python tools/floors.py --write  # draws it anew

A box is a module or a package on its floor; a line says that one imports another, and all lines go down. What a room
reaches through another one that it imports has no line of its own.
"""

from __future__ import annotations

import sys
import tomllib
from html import escape
from itertools import accumulate
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "floors.svg"
ROW, BOX, GAP, LEFT = 34, 22, 8, 20  # pixels
LETTER = 7.2  # the width of a letter of the font
STYLE = "font-family:monospace;font-size:12px"


def floors() -> list[list[str]]:
    """The rooms of every floor, highest first; those of the engine are named with it."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    house, engine = (contract["layers"] for contract in linter["contracts"][:2])
    rows: list[list[str]] = []
    for line in house:
        rooms = [name.removeprefix("gftzoo.") for name in line.split(" | ")]
        if "engine" in rooms:
            rooms.remove("engine")
            rows += [[f"engine.{room}", *(rooms if not number else [])] for number, room in enumerate(engine)]
        else:
            rows.append(rooms)
    return rows


def room_of(module: str, rooms: list[str]) -> str | None:
    """The room that a module lies in; None for the package itself and the template."""
    name = module.removeprefix("gftzoo.")
    return next((room for room in rooms if name == room or name.startswith(f"{room}.")), None)


def resting(graph: grimp.ImportGraph, rooms: list[str]) -> dict[str, set[str]]:
    """For every room the others that it imports."""
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        room = room_of(module, rooms)
        others = {room_of(other, rooms) for other in graph.find_modules_directly_imported_by(module)}
        if room is not None:
            found[room] |= {other for other in others if other not in (None, room)}
    return found


def needed(room: str, rests: dict[str, set[str]]) -> set[str]:
    """The rooms that a room imports and that none of its others imports, by itself or by way of more."""

    def below(start: str) -> set[str]:
        return rests[start].union(*(below(other) for other in rests[start]))

    return rests[room] - set().union(*(below(other) for other in rests[room]))


def draw() -> str:
    """The picture as SVG."""
    rows = floors()
    rooms = [room for row in rows for room in row]
    graph = grimp.build_graph("gftzoo", exclude_type_checking_imports=True, cache_dir=None)
    boxes, places = [], {}
    for number, row in enumerate(rows):
        widths = [round(LETTER * len(room)) + 12 for room in row]
        starts = accumulate([width + GAP for width in widths[:-1]], initial=LEFT)
        for room, x, width in zip(row, starts, widths, strict=True):
            y = 10 + number * ROW
            places[room] = x + width / 2, y
            boxes.append(box(x, y, width, room))
    rests = resting(graph, rooms)
    lines = [line(places[a], places[b]) for a in rooms for b in sorted(needed(a, rests))]
    height = 20 + len(rows) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{height}" style="background:#fff;{STYLE}">',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def box(x: float, y: float, width: float, label: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{BOX}" rx="3" fill="#f4f6fa" stroke="#345"/>'
        f'<text x="{x + 6:g}" y="{y + 15:g}" fill="#123">{escape(label)}</text>'
    )


def line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A bow from one box down to another; what goes up would be red."""
    (x, y), (to_x, to_y) = (start[0], start[1] + BOX / 2), (end[0], end[1] + BOX / 2)
    reach = max(x, to_x) + 40 + abs(to_y - y) * 0.75
    colour = "#78a" if to_y > y else "#c00"
    return (
        f'<path d="M {x:g} {y:g} C {reach:g} {y:g} {reach:g} {to_y:g} {to_x:g} {to_y:g}" '
        f'fill="none" stroke="{colour}" stroke-opacity="0.8"/>'
    )


def main() -> int:
    current = draw()
    if "--write" in sys.argv:
        PICTURE.write_text(current, encoding="utf-8")
    elif not PICTURE.is_file() or PICTURE.read_text(encoding="utf-8") != current:
        print(f"{PICTURE.name} is not what the code is; draw it anew with `python tools/floors.py --write`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
