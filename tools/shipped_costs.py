"""What a GFT step of the zoo's own cards on the embedded demonstration costs: gftzoo/cli/costs.json.

python tools/shipped_costs.py          # which cards the file no longer describes
python tools/shipped_costs.py --write  # traces these; with --all every card, after a change of what a step computes
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from shipped_facts import installed, read_arguments

from gftzoo.catalogue.cards import ModelCard
from gftzoo.cli.shipped import COSTS, step_question, step_stamp
from gftzoo.engine import Job, plan
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.engine.run.wanted import Wanted
from gftzoo.errors import GftzooError

PLACES = (Place(torch.device("cpu")), Place(torch.device("cuda"), torch.bfloat16))  # no device is touched


def kept() -> dict[str, Any]:
    """The file as it is: costs by the stamp of their question."""
    found: dict[str, Any] = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else {}
    return found


def questions(card: ModelCard) -> Iterator[tuple[str, Job, Place]]:
    """What `gftzoo train CARD --gft --dry-run` may ask, with the stamp of each; nothing where it is refused."""
    try:
        job = plan(Wanted(card.name, "gft", None))
    except GftzooError as error:
        print(f"left out: {error}", file=sys.stderr)
        return
    for recomputed in (False, True):
        for place in PLACES:
            asked = job.changed(activation_checkpointing=recomputed)
            question = step_question(asked.config, place.device.type, str(place.half), 1)
            yield step_stamp(question, asked.config.card), asked, place


def write(cards: list[ModelCard], known: dict[str, Any]) -> None:
    """Traces what is not known, and leaves out of the file what nobody asks any more."""
    costs: dict[str, Any] = {}
    for card in cards:
        begin = time.process_time()
        for stamp, job, place in questions(card):
            costs[stamp] = known.get(stamp) or asdict(training_cost(job, place))
        print(card.name, f"{time.process_time() - begin:.1f} s", flush=True)
        save({**known, **costs})  # as they come: the largest take minutes
    save(costs)


def save(costs: dict[str, Any]) -> None:
    """Writes the file, a line for each cost."""
    lines = [f"{json.dumps(stamp)}: {json.dumps(cost)}" for stamp, cost in sorted(costs.items())]
    COSTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def stale(cards: list[ModelCard]) -> list[str]:
    """The cards of which a question has no answer in the file."""
    known = kept()
    return [card.name for card in cards if any(stamp not in known for stamp, _, _ in questions(card))]


def main() -> int:
    arguments = read_arguments(__doc__)
    if arguments.write:
        write(installed(), {} if arguments.all else kept())
        return 0
    names = stale(installed())
    print(f"not as they are: {', '.join(names) or 'none'}")
    return int(bool(names))


if __name__ == "__main__":
    sys.exit(main())
