"""Prompts on the command line: several, from a file, with a temperature, and negative ones with CFG only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sd_tiny import PROMPTS
from torch import Tensor

from gftzoo.cli import main
from gftzoo.model import Model
from gftzoo.pictures import to_uint8


def draw(model: Path, out: Path, *arguments: str) -> int:
    """The exit code of `gftzoo sample`."""
    with pytest.raises(SystemExit) as stop:
        main(["sample", str(model), "--steps", "2", "--device", "cpu", "--out", str(out), *arguments])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, steered: Model, plain: Model) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    steered.save(root / "steered")
    plain.save(root / "plain")
    return {name: root / name for name in ("steered", "plain")}


def pixels(path: Path) -> np.ndarray:
    return np.load(path)["arr_0"]


def expected(images: Tensor) -> np.ndarray:
    return to_uint8(images).numpy()


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(np.abs(found.astype(int) - wanted.astype(int)).max() <= 1)


def test_prompts_come_from_the_line_and_from_a_file(folders: dict[str, Path], tmp_path: Path, steered: Model) -> None:
    (tmp_path / "prompts.txt").write_text(f"{PROMPTS[1]}\n\n  {PROMPTS[2]}\n", encoding="utf-8")
    file = ("--prompts", str(tmp_path / "prompts.txt"))
    assert draw(folders["steered"], tmp_path / "x.npz", "--beta", "0.2", "--prompt", PROMPTS[0], *file, "-n", "4") == 0
    wanted = steered.sample([*PROMPTS, PROMPTS[0]], beta=0.2, steps=2)
    assert close(pixels(tmp_path / "x.npz"), expected(wanted))


def test_several_prompts_in_turn(folders: dict[str, Path], tmp_path: Path) -> None:
    prompts = [part for prompt in PROMPTS[:2] for part in ("--prompt", prompt)]
    assert draw(folders["steered"], tmp_path / "all", *prompts) == 0
    assert len(list((tmp_path / "all").glob("*.png"))) == 8


def test_a_negative_prompt_is_for_cfg(
    folders: dict[str, Path], tmp_path: Path, plain: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--prompt", PROMPTS[0], "-n", "1", "-s", "negative_prompt=tiger face")
    assert draw(folders["plain"], tmp_path / "x.npz", "--cfg", "3", *common) == 0
    wanted = plain.sample(PROMPTS[:1], cfg=3.0, steps=2, negative_prompt="tiger face")
    assert close(pixels(tmp_path / "x.npz"), expected(wanted))
    assert draw(folders["steered"], tmp_path / "y.npz", "--beta", "0.5", *common) == 2
    assert "only CFG has" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --prompt 'TEXT' or --prompts FILE"),
        (("--class", "3"), "use --prompt instead of --class"),
        (("--prompts", "nowhere.txt"), "'nowhere.txt' cannot be read"),
    ],
)
def test_what_is_missing_is_said(
    arguments: tuple[str, ...],
    message: str,
    folders: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert draw(folders["steered"], tmp_path / "x.png", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
