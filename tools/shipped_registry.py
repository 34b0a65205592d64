"""The zoo's registry.yaml as JSON, which is read in a tenth of the time: gftzoo/catalogue/registry.json.

python tools/shipped_registry.py          # whether it is what registry.yaml holds; where it is not, YAML is read
python tools/shipped_registry.py --write  # makes it anew
"""

from __future__ import annotations

import json
import sys

from gftzoo.catalogue.registry import SHIPPED, text_stamp, zoo_file
from gftzoo.documents import parse_yaml, read_text


def current() -> str:
    """What the file is to hold, a line for each entry, so that two changes of it can be merged."""
    text = read_text(zoo_file())
    kinds = []
    for kind, entries in parse_yaml(text, "registry.yaml").items():
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        kinds.append(f"{json.dumps(kind)}: {{\n{lines}\n}}")
    return f'{{"of": "{text_stamp(text)}",\n"registry": {{\n' + ",\n".join(kinds) + "\n}}\n"


def main() -> int:
    if "--write" in sys.argv:
        SHIPPED.write_text(current(), encoding="utf-8")
    elif not SHIPPED.is_file() or SHIPPED.read_text(encoding="utf-8") != current():
        print(f"{SHIPPED.name} is of another registry.yaml; run `python tools/shipped_registry.py --write`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
