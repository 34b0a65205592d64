"""Puts the tables of docs/results that tell of speed into docs/performance.md, between their marks.

python tools/speed_tables.py            # writes the page
python tools/speed_tables.py --check    # only says whether it is what the files give
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from docs_parts import table

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
MARKED = re.compile(r"(<!-- (\S+\.csv) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with every table as its file has it."""
    return MARKED.sub(lambda found: f"{found[1]}\n{rows_of(found[2])}\n\n{found[4]}", page)


def rows_of(name: str) -> str:
    """A CSV file as a Markdown table."""
    with (DOCS / "results" / name).open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    return table([title.replace("_", " ") for title in head], rows)


def main() -> int:
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" not in sys.argv:
        PAGE.write_text(after, encoding="utf-8")
        return 0
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
