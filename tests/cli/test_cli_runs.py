"""The commands on a trained run: what they write, and bad input of the kind that comes late."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import call
from PIL import Image

import gftzoo
from gftzoo.adapters import tensors_sha256
from gftzoo.cli.sample import classes_meant, wanted_conditions
from gftzoo.engine import checkpoints
from gftzoo.families.finding import load_family


def train(folder: Path, *words: str) -> Path:
    small = ("-o", "batch_size=8", "-o", "ema_decay=0.5", "--steps", "2")
    assert call("train", "dit-nano", *words, *small, "--runs", str(folder), "--name", "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def gft_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("gft"), "--gft")


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("plain"), "--objective", "conditional")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "dit-nano", "--gft", "--steps", "1", "-o", "batch_size=4", "-o", "sample_grid=[1, 1]"],
        ["train", "dit-nano", "--gft", "--dry-run", "-o", "batch_size=4"],
        ["train", "dit-nano", "--gft", "--steps", "1", "-o", "batch_size=4", "--weights", "RUN"],
        ["train", "--resume", "RUN", "--steps", "3"],
        ["sample", "RUN", "-n", "1", "--steps", "2"],
        ["sample", "dit-nano", "--weights", "RUN", "-n", "1", "--steps", "2"],
        ["export", "RUN", "OUT", "--to", "safetensors"],
        ["import", "dit-nano", "RUN", "OUT"],
        ["info", "dit-nano"],
    ],
    ids=" ".join,
)
def test_a_card_meets_its_family_once(words: list[str], gft_run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.engine.run.trial.BUDGET", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where nothing is known yet
    places = {"RUN": str(shutil.copytree(gft_run, tmp_path / "run")), "OUT": str(tmp_path / "out")}
    new = ["--runs", str(tmp_path)] if words[0] == "train" and "--resume" not in words else []
    out = ["--out", str(tmp_path / "drawn.png")] if words[0] == "sample" else []
    before = load_family.cache_info()
    assert call(*(places.get(word, word) for word in words), *new, *out) == 0
    after = load_family.cache_info()
    met = after.hits + after.misses - before.hits - before.misses
    assert met == (0 if words[0] == "info" else 1)  # what families say of the zoo's cards is shipped


def test_sample_says_which_classes_are_meant() -> None:
    assert classes_meant([1, 0, 1], ("3", "1")) == ", class 1 (1), 0 (3)"
    assert classes_meant(list(range(9)), ()) == ", class 0, 1, 2, 3, 4, ..."


def test_sample_writes_a_grid_a_folder_and_an_npz(gft_run: Path, tmp_path: Path) -> None:
    common = ("sample", str(gft_run), "--beta", "0.5", "--class", "three,7", "-n", "5", "--steps", "3")
    for name in ("grid.png", "folder", "images.npz"):
        assert call(*common, "--out", str(tmp_path / name)) == 0
    assert Image.open(tmp_path / "grid.png").width > 5 * 128
    pngs = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "folder").iterdir())]
    with np.load(tmp_path / "images.npz") as arrays:
        assert arrays["arr_0"].shape == (5, 8, 8, 3) and arrays["arr_0"].dtype == np.uint8
        assert np.array_equal(arrays["arr_0"], np.stack(pngs))


def test_sample_writes_each_image_with_all_that_it_follows_from(gft_run: Path, tmp_path: Path, capsys) -> None:
    words = ("sample", str(gft_run), "--beta", "0.5", "--class", "three,7", "-n", "3", "--steps", "2", "--seed", "4")
    assert call(*words, "--each", "--out", str(tmp_path / "sheet.png")) == 0
    assert "ema weights" in capsys.readouterr().err and Image.open(tmp_path / "sheet.png").text["model"] == "dit-nano"
    about = [Image.open(path).text for path in sorted((tmp_path / "sheet").iterdir())]
    assert [(a["class"], a["beta"], a["seed"], a["index"]) for a in about] == [
        ("three", "0.5", "4", "0"),
        ("seven", "0.5", "4", "1"),
        ("three", "0.5", "4", "2"),
    ]
    model = gftzoo.load(gft_run)
    assert {a["weights_sha256"] for a in about} == {tensors_sha256(model.network.state_dict())}
    again = model.sample([about[1]["class"]] * 2, beta=0.5, seed=4, steps=2, as_pil=True)[1]
    assert np.array_equal(np.asarray(again), np.asarray(Image.open(tmp_path / "sheet" / "000001.png")))
    assert call(*words, "--each", "--out", str(tmp_path / "sheet.png")) == 2  # would mix with what is there
    assert call(*words, "--each", "--out", str(tmp_path / "new")) == 2


def test_sample_and_the_grids_of_a_run_say_which_weights_they_show(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    small = ("-o", "batch_size=4", "-o", "sample_grid=[1, 2]", "--steps", "2", "--runs", str(tmp_path), "--name", "run")
    assert call("train", "dit-nano", "--gft", *small) == 0
    assert "raw weights (the average reaches back 200 steps)" in capsys.readouterr().err
    assert call("sample", str(run), "-n", "1", "--steps", "2", "--out", str(tmp_path / "a.png")) == 0
    assert "The average reaches back 200 steps and the run has 2" in capsys.readouterr().err
    raw = ("--entry", "raw", "--out", str(tmp_path / "b.png"))
    assert call("sample", str(run), "-n", "1", "--steps", "2", *raw) == 0
    assert "reaches back" not in capsys.readouterr().err


def test_resume_goes_on(gft_run: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(gft_run, tmp_path / "run")
    assert call("train", "--resume", str(run)) == 2
    assert "has finished 2 steps" in capsys.readouterr().err
    before = sorted((run / "checkpoints").iterdir())
    assert call("train", "--resume", str(run), "--steps", "4", "--dry-run") == 0
    assert sorted((run / "checkpoints").iterdir()) == before and "memory in all" in capsys.readouterr().out
    assert call("train", "--resume", str(run), "--runs", str(tmp_path)) == 2
    assert call("train", "--resume", str(run), "--steps", "4") == 0
    newest = checkpoints.newest(run)
    assert newest is not None and newest.name == "step-00000004"


def test_dry_run_shows_the_cost_and_makes_nothing(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.engine.run.estimate.available_bytes", lambda device: 2.0**30)
    assert call("train", "dit-b", "--gft", "--dry-run", "--runs", str(tmp_path / "runs")) == 0
    out = capsys.readouterr().out
    assert "129,671,176" in out and "GFLOPs" in out and "optimizer" in out and "does not fit" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["optimizer.kind=schedule-free", "trackers=[wandb]"])
def test_dry_run_says_what_the_run_would_end_with(option: str, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert call("train", "dit-nano", "--gft", "--dry-run", "-o", option) == 0
    out = capsys.readouterr().out
    assert "memory in all" in out
    assert re.search(r"This run would not start here: .*(schedulefree|wandb).* is not installed; .*pip install", out)


def test_dry_run_takes_a_few_steps_for_the_time(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.engine.run.trial.BUDGET", 0.1)
    words = (
        "train",
        "dit-nano",
        "--gft",
        "--dry-run",
        "--measure",
        "--steps",
        "7200",
        "-o",
        "batch_size=4",
        "-o",
        "device=cpu",
    )
    assert call(*words, "--runs", str(tmp_path / "runs")) == 0
    out = capsys.readouterr().out
    assert re.search(r"with train=lora +[\d,]+ train, .*GiB, .* s per step", out) and "with train=temperature" in out
    seconds, total = (re.search(rf"{line} +([\d.e-]+) (\w+)", out) for line in ("time per step", "time in all"))
    assert seconds is not None and seconds[2] == "s" and total is not None
    size = {"seconds": 1, "minutes": 60, "hours": 3600}[total[2]]
    assert float(total[1]) * size == pytest.approx(7200 * float(seconds[1]), rel=0.1)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_export_format_is_one_sentence(gft_run: Path, tmp_path: Path, capsys) -> None:
    assert call("export", str(gft_run), str(tmp_path / "out"), "--to", "onnx") == 2
    assert "cannot be exported to 'onnx'" in capsys.readouterr().err


def test_import_makes_a_model_that_samples(gft_run: Path, tmp_path: Path) -> None:
    newest = checkpoints.newest(gft_run)
    assert newest is not None
    assert call("import", "dit-nano", str(newest / "ema.safetensors"), str(tmp_path / "model")) == 0
    out = str(tmp_path / "a.png")
    assert call("sample", str(tmp_path / "model"), "--beta", "0.5", "--steps", "2", "--out", out) == 0


LATE = {
    "beta 0": (["--beta", "0"], 2, "beta must lie in (0, 1]"),
    "beta 1.5": (["--beta", "1.5"], 2, "beta must lie in (0, 1]"),
    "cfg for a GFT model": (["--cfg", "2"], 2, "use --beta 0.5"),
    "beta and cfg": (["--beta", "0.5", "--cfg", "2"], 2, "one of them"),
    "class out of range": (["--class", "10"], 2, "no class '10'; valid are 0 to 9"),
    "misspelt class": (["--class", "thre"], 2, "did you mean 'three'"),
    "prompt for a class model": (["--prompt", "a cat"], 2, "use --class"),
    "unknown sampler": (["--sampler", "eulerian"], 2, "sampler = 'eulerian'"),
    "misspelt setting": (["-s", "step=3"], 2, "did you mean 'steps'"),
    "too many steps": (["--steps", "5000"], 2, "steps = 5000"),
    "no images": (["-n", "0"], 2, "0"),
    "unknown format": (["--out", "a.jpg"], 2, "must end in .png or .npz"),
    "place below a file": (["--out", "file.txt/a.png"], 1, "could not be written"),
}


@pytest.mark.parametrize("case", LATE)
def test_bad_sampling_is_one_sentence(case: str, gft_run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    words, code, fragment = LATE[case]
    before = fingerprint(gft_run)
    assert call("sample", str(gft_run), "--steps", "2", *words) == code
    error = capsys.readouterr().err
    assert fragment in error and "Traceback" not in error and error.count("Error: ") == 1
    assert fingerprint(gft_run) == before


def fingerprint(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_sweep_of_a_model_that_is_steered_otherwise_draws_nothing(
    gft_run: Path, plain_run: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "sweep"
    assert call("sweep", str(gft_run), str(plain_run), "--beta", "1,0.5", "--out", str(out)) == 2
    assert f"{plain_run} is steered by cfg; give --cfg" in capsys.readouterr().err
    assert not out.exists()


def test_a_reference_that_is_not_there_is_told_of_before_anything_is_trained(
    gft_run: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("gftzoo.evaluate.evaluator.feature_network", lambda *_: pytest.fail("a network was built"))
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "0.png")
    for words in (["--reference", "nowhere.npz"], ["--data", f"imagefolder:{tmp_path}"]):
        assert call("evaluate", str(gft_run), "--beta", "0.5", *words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "there is no reference 'nowhere.npz'" in first and "has no held-out part" in second


def test_weights_that_do_not_fit_are_told_of_before_a_tokenizer_is_fetched(gft_run: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.tokenizers.core._load_autoencoder", lambda *_: pytest.fail("a tokenizer was fetched"))
    assert call("sample", "dit-s", "--weights", str(gft_run), "--beta", "0.5") == 1
    assert "does not fit this model" in capsys.readouterr().err


def test_a_class_may_have_a_comma_in_its_name(gft_run: Path) -> None:
    model = gftzoo.load(gft_run)
    names = ("zero, or nought", *model.card.class_names[1:])
    model.card = model.card.change(class_names=names)
    options = {"classes": names[0], "prompts": (), "prompt_file": None, "count": 2}
    assert wanted_conditions(model, options) == [0, 0]
    assert wanted_conditions(model, options | {"classes": "one, 3"}) == [1, 3]


def test_the_next_command_can_be_pasted(tmp_path: Path, capsys) -> None:
    run = train(tmp_path / "my runs", "--objective", "conditional")
    assert f"gftzoo sample '{run}' --cfg 1.5`" in capsys.readouterr().err


def test_a_plain_model_refuses_a_temperature(plain_run: Path, capsys) -> None:
    assert call("sample", str(plain_run), "--beta", "0.5") == 2
    assert "use --cfg 2" in capsys.readouterr().err


def test_a_truncated_checkpoint_is_one_sentence(gft_run: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(gft_run, tmp_path / "run")
    for file in run.rglob("ema.safetensors"):
        file.write_bytes(file.read_bytes()[:-64])
    assert call("sample", str(run), "--beta", "0.5") == 1
    assert "truncated" in capsys.readouterr().err


def test_a_foreign_checkpoint_is_one_sentence(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.pt").write_text("no weights")
    assert call("sample", "dit-nano", "--weights", str(tmp_path / "notes.pt"), "--cfg", "2") == 1
    assert "is truncated or no torch file" in capsys.readouterr().err


def test_an_empty_folder_and_a_corrupt_image(tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert call("train", "dit-nano", "--gft", "--data", f"imagefolder:{tmp_path / 'empty'}") == 1
    assert "holds no pictures" in capsys.readouterr().err
    for name in ("cat", "dog"):
        folder = tmp_path / "pets" / name
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (9, 12), (40 * index, 90, 10)).save(folder / f"{index}.png")
    (tmp_path / "pets" / "dog" / "torn.png").write_bytes(b"\x89PNG torn")
    words = ("train", "dit-nano", "--gft", "--data", f"imagefolder:{tmp_path / 'pets'}", "--steps", "2")
    runs = ("-o", "batch_size=4", "-o", "ema_decay=0.5", "--runs", str(tmp_path / "runs"))
    assert call(*words, *runs) == 0
    error = capsys.readouterr().err
    assert "2 classes" in error and "torn.png cannot be read" in error


def test_a_stopped_run_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "gftzoo",
        "train",
        "dit-nano",
        "--gft",
        "-o",
        "batch_size=4",
        "--runs",
        str(tmp_path),
    ]
    process = subprocess.Popen([*words, "-o", "log_every=1"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 3/"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "go on with `gftzoo train --resume" in rest
    newest = checkpoints.newest(tmp_path / "dit-nano-gft")
    assert newest is not None and int(newest.name[5:]) >= 3
    assert time.time() - newest.stat().st_mtime < 60
