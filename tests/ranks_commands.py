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


def run_all(commands: list[list[str]]) -> int:
    """The first exit code that is not 0."""
    for words in commands:
        try:
            main(words)
        except SystemExit as stop:
            if stop.code:
                return int(stop.code)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    code = run_all(json.loads(Path(sys.argv[1]).read_text()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # gloo's threads may abort the interpreter's own exit
