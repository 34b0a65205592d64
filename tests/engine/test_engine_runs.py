"""What a run knows of itself: checksums of its checkpoints, what it was made of, the length of its schedule."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from runs import SMALL, final, resealed, same, small
from safetensors.torch import load_file, save_file

import gftzoo
from gftzoo import checksums
from gftzoo.cli import main
from gftzoo.cli.running import go_on
from gftzoo.engine import TrainConfig, checkpoints, resolve, train, unused_name
from gftzoo.engine.step.optimizer import MixedPrecision
from gftzoo.errors import GftzooError, UsageError

TINY = {**SMALL, "sample_grid": (1, 1)}


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints of steps 2 and 4."""
    return train(small("dit-nano", 4, checkpoint_every=2), tmp_path_factory.mktemp("a") / "run")


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def newest(run: Path) -> Path:
    found = checkpoints.newest(run)
    assert found is not None
    return found


def flip(path: Path, place: int) -> None:
    """Changes one bit of a byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def test_a_byte_flipped_in_any_file_of_a_checkpoint_is_found_and_the_sound_one_named(run: Path) -> None:
    folder, places = newest(run), random.Random(0)
    files = sorted(path for path in folder.iterdir())
    assert [path.name for path in files] == [
        "card.json", "ema.safetensors", "optimizer.safetensors", "raw.safetensors", "state.json",
    ]  # fmt: skip
    for path in files:
        size = path.stat().st_size
        for place in {0, size - 1, *(places.randrange(size) for _ in range(6))}:
            flip(path, place)
            with pytest.raises(checksums.DamagedError, match="newest sound checkpoint is step-00000002") as found:
                checksums.verify(folder)
            assert path.name in str(found.value)
            flip(path, place)
    checksums.verify(folder)


def test_every_byte_of_the_state_counts(run: Path) -> None:
    path = newest(run) / "state.json"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        flip(path, place)
        assert not checksums.sound(path.parent), place
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["card.json", "ema.safetensors", "optimizer.safetensors", "raw.safetensors"])
def test_damage_stops_a_resume_and_a_load_and_the_older_checkpoint_goes_on(name: str, run: Path) -> None:
    flip(newest(run) / name, -9)
    with pytest.raises(GftzooError, match=rf"{name}' is damaged .*`rm -r .*step-00000004`"):
        go_on(run, steps=6)
    if name in ("card.json", "ema.safetensors"):  # what sampling reads
        with pytest.raises(GftzooError, match=rf"{name}' is damaged"):
            gftzoo.load(run)
    if name == "ema.safetensors":
        with pytest.raises(GftzooError, match=rf"{name}' is damaged"):
            resolve("dit-nano", data="digits", weights=str(run), steps=2)
            gftzoo.load("dit-nano", weights=newest(run) / name)
        shutil.rmtree(newest(run))
        go_on(run, steps=6)
        assert newest(run).name == "step-00000006"


def test_parts_of_several_ranks_have_checksums_too(tmp_path: Path) -> None:
    run = train(small("dit-nano", 1, sharded_checkpoints=True), tmp_path / "run")
    part = next((newest(run) / "ema").iterdir())
    flip(part, -1)
    with pytest.raises(GftzooError, match=f"{part.name}' is damaged .*no other sound checkpoint"):
        gftzoo.load(run)


CONTENTS = {
    "raw weights for an optimizer": ("optimizer", lambda folder: load_file(folder / "raw.safetensors")),
    "an optimizer of nothing": ("optimizer", lambda folder: {}),
    "one moment less": (
        "optimizer",
        lambda folder: dict(list(load_file(folder / "optimizer.safetensors").items())[1:]),
    ),
    "whole numbers": ("raw", lambda folder: {k: v.long() for k, v in load_file(folder / "raw.safetensors").items()}),
    "an average of NaN": (
        "ema",
        lambda folder: {k: v * torch.nan for k, v in load_file(folder / "ema.safetensors").items()},
    ),
    "infinite moments": (
        "optimizer",
        lambda folder: {k: v / 0 for k, v in load_file(folder / "optimizer.safetensors").items()},
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_a_checkpoint_that_holds_something_else_is_refused(case: str, run: Path) -> None:
    kind, changed = CONTENTS[case]
    save_file(changed(newest(run)), newest(run) / f"{kind}.safetensors")
    resealed(newest(run))
    with pytest.raises(GftzooError, match=r"is damaged \(.*newest sound checkpoint is step-00000002"):
        go_on(run, steps=6)


def test_a_checkpoint_of_another_step_or_model_is_refused(run: Path) -> None:
    newest(run).rename(run / "checkpoints" / "step-00000007")
    with pytest.raises(GftzooError, match=r"is of step 4.*step-00000002"):
        go_on(run, steps=9)
    (run / "checkpoints" / "step-00000007").rename(run / "checkpoints" / "step-00000004")
    card = json.loads((newest(run) / "card.json").read_text())
    card["card"]["classes"] = 9
    (newest(run) / "card.json").write_text(json.dumps(card))
    resealed(newest(run))
    with pytest.raises(GftzooError, match="its card has another classes"):
        go_on(run, steps=6)


def test_a_run_of_an_older_gftzoo_goes_on_with_a_sentence(run: Path, tmp_path: Path, caplog, capsys) -> None:
    for folder in checkpoints.all_checkpoints(run):
        state = checkpoints.read_state(folder)
        (folder / "state.json").write_text(json.dumps({key: state[key] for key in ("step", "seed", "scaler")}))
    go_on(run, steps=6)
    assert caplog.text.count("by an older gftzoo, without checksums") == 1
    assert (run / "log.txt").read_text().count("does not say what data it had") == 1
    train(small("dit-nano", 6, checkpoint_every=2), tmp_path / "whole")
    assert same(final(run), final(tmp_path / "whole")) and checkpoints.read_state(newest(run))["made_of"]


def test_weights_that_became_no_numbers_are_not_saved(tmp_path: Path, monkeypatch) -> None:
    step = MixedPrecision.step

    def poisoned(self: MixedPrecision, **kwargs: object) -> None:
        step(self, **kwargs)
        with torch.no_grad():
            self.optimizer.param_groups[0]["params"][0].view(-1)[0] = torch.inf  # loss and gradient were finite

    monkeypatch.setattr(MixedPrecision, "step", poisoned)
    with pytest.raises(
        GftzooError, match=r"of raw holds what is no number after step 1, which is not saved; train anew"
    ):
        train(small("dit-nano", 1), tmp_path / "run")
    assert checkpoints.newest(tmp_path / "run") is None


BAD = {
    "lr=.inf": "lr", "lr=.nan": "lr", "lr=-1": "lr", "lr=true": "lr", "seed=-1": "seed", "seed=4294967296": "seed",
    "batch_size=true": "batch_size", "sample_grid=[1000000, 1]": "sample_grid", "sample_grid=[true, 1]": "sample_grid",
    "workers=100000": "workers", "learning_rate.final=.inf": "final", "weight_decay=.nan": "weight_decay",
    "betas=[0.9, .nan]": "betas", "clip_norm=.inf": "clip_norm", "network.depth=100000000": "20,000 parts",
    "objective.beta_min=.nan": "beta_min", "keep_last=0": "keep_last", "steps=1e30": "steps",
}  # fmt: skip


@pytest.mark.parametrize("option", BAD)
def test_settings_that_are_not_sensible_are_refused_before_anything_is_made(
    option: str, tmp_path: Path, capsys
) -> None:
    words = ("train", "dit-nano", "--gft", "--runs", str(tmp_path / "runs"), "-o", option)
    assert call(*words, "--dry-run") == 2
    error = capsys.readouterr().err
    assert BAD[option] in error and error.count("Error: ") == 1 and "unexpected" not in error
    assert not (tmp_path / "runs").exists()


def test_a_configuration_edited_by_hand_is_refused_by_the_name_of_its_field(run: Path) -> None:
    path = run / "config.yaml"
    text = path.read_text()
    for old, new, said in (
        ("precision: auto", "precision: fp8", r"precision = 'fp8' .*'bf16'"),
        ("batch_size: 8", "batch_size: -8", r"batch_size = -8 .*greater than 0"),
        ("batch_size: 8", "batch_sise: 8", r"unknown key 'batch_sise'; did you mean 'batch_size'"),
        ("resolution: 8", "resolution: large", r"card\.resolution = 'large'"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(GftzooError, match=said):
            TrainConfig.read(run)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(GftzooError, match=r"config\.yaml"):
        TrainConfig.read(run)
    path.write_text("a: &a [x]\n" + "".join(f"b{n}: &b{n} [{', '.join(['*a'] * 9)}]\n" for n in range(3)) * 9999)
    with pytest.raises(GftzooError, match=r"config\.yaml"):
        TrainConfig.read(run)


def pets(root: Path, *names: str) -> str:
    for shade, name in enumerate(names):
        for number in range(3):
            path = root / name / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 80 * shade + number, np.uint8)).save(path)
    return f"imagefolder:{root}"


@pytest.fixture
def pet_run(tmp_path: Path) -> Path:
    config = resolve("dit-nano", data=pets(tmp_path / "data", "cat", "dog"), steps=1, options={**TINY, "batch_size": 2})
    return train(config, tmp_path / "run")


def test_other_classes_are_refused_and_renamed_ones_can_be_accepted(pet_run: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "data" / "cat").rename(tmp_path / "data" / "zebra")
    before = {path: path.read_bytes() for path in pet_run.rglob("*") if path.is_file()}
    assert call("train", "--resume", str(pet_run), "--steps", "2") == 2
    error = capsys.readouterr().err
    assert "'cat' is gone; 'zebra' is new; class 0 was 'cat' and is 'dog'" in error and "--accept-changes" in error
    assert {path: path.read_bytes() for path in pet_run.rglob("*") if path.is_file()} == before
    assert call("train", "--resume", str(pet_run), "--steps", "2", "--accept-changes") == 0
    assert gftzoo.load(pet_run).card.class_names == ("dog", "zebra")
    pets(tmp_path / "data", "dog", "zebra", "yak")
    for more in ([], ["--accept-changes"]):
        assert call("train", "--resume", str(pet_run), "--steps", "3", *more) == 2
        assert "classes" in capsys.readouterr().err


def test_other_pictures_and_versions_are_told_of_until_they_are_accepted(pet_run: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "data" / "cat" / "0.bmp"
    when = path.stat().st_mtime_ns
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(path)
    os.utime(path, ns=(when, when))
    state = checkpoints.read_state(newest(pet_run))
    state["made_of"]["versions"]["gftzoo-diffusion"] = "0.0.1"
    del state["made_of"]["settings"]["lora"]["base"]  # which that version did not have
    resealed(newest(pet_run), made_of=state["made_of"])
    capsys.readouterr()
    for steps, words, said in ((2, [], 1), (3, ["--accept-changes"], 0), (4, [], 0)):
        assert call("train", "--resume", str(pet_run), "--steps", str(steps), *words) == 0
        error = capsys.readouterr().err
        assert error.count("as many images, and others among them") == said
        assert error.count("gftzoo-diffusion 0.0.1 (now ") == said
    shutil.copy(path, path.with_name("new.bmp"))
    assert call("train", "--resume", str(pet_run), "--steps", "5") == 0
    assert "class 'cat' had 3 images and has 4" in capsys.readouterr().err


def test_a_setting_changed_by_hand_says_how_to_start_from_these_weights(run: Path, capsys) -> None:
    config = TrainConfig.read(run)
    options = {**config.objective_options, "beta_min": 0.25}
    config.model_copy(update={"objective_options": options}).write(run)
    assert call("train", "--resume", str(run), "--steps", "6") == 2
    error = capsys.readouterr().err
    assert (
        "objective_options is" in error
        and f"gftzoo train dit-nano --objective gft --data digits --weights {run}" in error
    )
    config.write(run)
    assert call("train", "--resume", str(run), "-o", "objective.beta_min=0.25") == 2
    assert f"--weights {run} -o objective.beta_min=0.25`" in capsys.readouterr().err


CURVED = {**TINY, "learning_rate.kind": "cosine", "learning_rate.warmup": 2, "learning_rate.final": 0.1, "lr": 1e-3}
CURVED |= {"weight_decay": 0.01, "weight_decay_end": 0.1}


def test_a_run_lengthened_within_its_horizon_is_the_long_run_to_the_bit(tmp_path: Path, capsys) -> None:
    train(resolve("dit-nano", steps=6, options=CURVED), tmp_path / "whole")
    train(resolve("dit-nano", steps=3, horizon=6, options=CURVED), tmp_path / "parts")
    go_on(tmp_path / "parts", steps=6)
    assert "learning rate" not in capsys.readouterr().err
    for kind in ("raw", "ema", "optimizer"):
        assert same(final(tmp_path / "whole", kind), final(tmp_path / "parts", kind)), kind


def test_another_length_than_the_horizon_is_one_sentence(tmp_path: Path, capsys) -> None:
    run = train(resolve("dit-nano", steps=3, options={**CURVED, "checkpoint_every": 2}), tmp_path / "run")
    capsys.readouterr()
    with pytest.raises(UsageError, match=r"did not have the learning rate of --horizon 6.*--weights .* --horizon 6`"):
        go_on(run, steps=6, horizon=6)
    go_on(run, steps=4)
    assert capsys.readouterr().err.count("a run of 4 steps has another, and other weights") == 1
    shutil.rmtree(newest(run))
    shutil.rmtree(newest(run))
    go_on(run, steps=3)  # as many as it was begun for
    assert "has another" not in capsys.readouterr().err


def test_a_constant_rate_has_no_horizon_to_speak_of(run: Path, tmp_path: Path, capsys) -> None:
    go_on(run, steps=6)
    assert "learning rate" not in capsys.readouterr().err
    with pytest.raises(UsageError, match="contradict"):
        resolve("dit-nano", horizon=3, options={"learning_rate.horizon": 4})


def test_the_picture_of_a_checkpoint_is_drawn_by_the_resume_that_follows(run: Path, tmp_path: Path) -> None:
    config = small("dit-nano", 4, checkpoint_every=2, sample_every=2)
    train(config, tmp_path / "whole" / run.name)
    shutil.rmtree(newest(run))  # killed after the checkpoint of step 2, before its picture
    shutil.rmtree(run / "samples")
    config.write(run)
    go_on(run, steps=None)
    for name in ("step-00000002.png", "final.png"):
        drawn, expected = (Image.open(folder / "samples" / name) for folder in (run, tmp_path / "whole" / run.name))
        assert drawn.tobytes() == expected.tobytes()
    (run / "samples" / "final.png").unlink()  # or before the last ones
    go_on(run, steps=None)
    assert (run / "samples" / "final.png").exists()


def test_a_name_is_free_after_a_start_that_died(tmp_path: Path) -> None:
    run = tmp_path / "dit-nano-gft"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".config.yaml.12-ab.partial").touch()
    assert unused_name(tmp_path, "dit-nano-gft") == "dit-nano-gft"
    with FileLock(run / ".lock"), pytest.raises(GftzooError, match="is being trained by another process"):
        train(small("dit-nano", 1), run)
    train(small("dit-nano", 1), run)
    assert unused_name(tmp_path, "dit-nano-gft") == "dit-nano-gft-2"


def test_after_a_full_disk_at_the_start_the_advice_is_to_start_again(tmp_path: Path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gftzoo.engine.run.runner.initial_model", full)
    with pytest.raises(GftzooError, match="make room and start again"):
        train(small("dit-nano", 1), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fine_tune_by_name_is_refused_where_there_is_nothing_to_tune() -> None:
    """On the embedded demonstration, for which no weights are made; other data starts from them."""
    with pytest.raises(UsageError, match=r"starts from weights 'base', which do not fit.*--data SOURCE"):
        resolve("dit-s", recipe="gft-finetune")
    assert resolve("dit-xl", steps=1).weights is None  # a demonstration that nobody asked to fine-tune
