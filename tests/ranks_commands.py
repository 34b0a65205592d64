"""What test_command_ranks.py runs on every rank: several commands in one process.

torchrun --nproc_per_node 2 tests/ranks_commands.py COMMANDS.json
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import torch

from gftzoo.cli import main
from gftzoo.data import folder


def run_all(commands: list[list[str]]) -> int:
    """The first exit code that is not 0."""
    for words in commands:
        try:
            main(words)
        except SystemExit as stop:
            if stop.code:
                return int(stop.code)
    return 0


def count_listings() -> list[Path]:
    """The folders that this process lists, from now on."""
    listed: list[Path] = []
    find = folder.list_folder

    def counted(root: Path) -> folder.Listing:
        listed.append(root)
        return find(root)

    folder.list_folder = counted
    return listed


if __name__ == "__main__":
    torch.set_num_threads(1)
    listed = count_listings()
    torch.distributed.init_process_group("gloo")
    code = run_all(json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.write(f"Listed here: {len(listed)}.\n")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # gloo's threads may abort the interpreter's own exit
