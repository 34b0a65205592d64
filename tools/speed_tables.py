"""Puts the tables of docs/results that tell of speed into docs/performance.md, between their marks.

python tools/speed_tables.py            # writes the page
python tools/speed_tables.py --check    # only says whether it is what the files give
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from docs_parts import table

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "performance.md"
MARKED = re.compile(r"(<!-- (\S+\.csv) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with every table as its file has it."""
    return MARKED.sub(lambda found: f"{found[1]}\n{rows_of(found[2])}\n\n{found[4]}", page)


def rows_of(name: str) -> str:
    """A CSV file as a Markdown table; of a family's sampling a row for each network, with its batches side by side."""
    with (DOCS / "results" / name).open(newline="", encoding="utf-8") as file:
        if name.startswith("sampling-speed"):
            return batches(csv.DictReader(file))
        head, *rows = csv.reader(file)
    return table([title.replace("_", " ") for title in head], rows)


def batches(rows: Iterable[Mapping[str, str]]) -> str:
    """GFT's time as a share of CFG's, for one image and for batches; of several rows of one batch the last counts."""
    shares: dict[tuple[str, str], dict[int, str]] = {}
    for row in rows:
        what = ", ".join(filter(None, (row["network"] or "whole", row["sampler"])))
        shares.setdefault((f"`{row['model']}`", what), {})[int(row["batch"])] = f"{float(row['gft_over_cfg']):.2f}"
    lines = []
    for (model, what), found in sorted(shares.items()):
        several = ", ".join(f"{share} (of {batch})" for batch, share in sorted(found.items()) if batch > 1)
        lines.append([model, what, found.get(1, ""), several])
    return table(["model", "network and sampler", "one image", "a batch"], lines)


def main() -> int:
    before = PAGE.read_text(encoding="utf-8")
    after = filled(before)
    if "--check" not in sys.argv:
        PAGE.write_text(after, encoding="utf-8")
        return 0
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
