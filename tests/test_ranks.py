"""Two ranks on one machine: the same training as one, by DDP and by FSDP2, and a resume of each."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gftzoo.engine import checkpoint, resolve, train

OPTIONS = {"batch_size": 16, "accumulate": 2, "ema_decay": 0.9, "checkpoint_every": 2, "log_every": 1, "device": "cpu"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def torchrun(*words: str) -> str:
    """The output of a two-rank job. Its exit code is not looked at: gloo may abort at interpreter exit."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launch += ["--master_addr", "127.0.0.1", "--master_port", str(free_port()), "-m", "gftzoo", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=240, check=False)
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(resolve("dit-nano", objective="gft", steps=4, options=OPTIONS), tmp_path_factory.mktemp("one") / "run")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_equal_one_and_resume(parallel: str, one_rank: Path, tmp_path: Path) -> None:
    options = [f"-o{key}={value}" for key, value in {**OPTIONS, "parallel": parallel}.items()]
    common = ["train", "dit-nano", "--gft", *options, "-olearning_rate.horizon=4", "--runs", str(tmp_path)]
    output = torchrun(*common, "--steps", "2", "--name", "run")
    assert output.count("Done: ") == 1, output
    output = torchrun("train", "--resume", str(tmp_path / "run"), "--steps", "4")
    assert "Resuming" in output and output.count("Done: ") == 1, output
    folders = [checkpoint.newest(run) for run in (one_rank, tmp_path / "run")]
    for kind in ("raw", "ema", "optimizer"):
        ours, theirs = (load_file(folder / f"{kind}.safetensors") for folder in folders if folder is not None)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            torch.testing.assert_close(theirs[key], value, rtol=0, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
