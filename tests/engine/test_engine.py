"""Runs: configuration, exact resume, checkpoints that survive, and what stops them."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from nano import NANO
from payload import Payload
from PIL import Image
from runs import CutError, final, interrupted, same, small

import gftzoo
from gftzoo.catalogue.cards import LearningRate
from gftzoo.cli.running import go_on
from gftzoo.data import SeekableSampler
from gftzoo.engine import Job, TrainConfig, checkpoints, parse_options, resolve, train
from gftzoo.engine.checkpoints import writing
from gftzoo.engine.checkpoints.finite import FiniteHook
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.engine.step.ema import EMA
from gftzoo.engine.step.loop import StepLoop
from gftzoo.engine.step.optimizer import MixedPrecision
from gftzoo.engine.step.schedule import learning_rate_factor, weight_decay_at
from gftzoo.errors import GftzooError, UsageError
from gftzoo.tokenizers import Pixels


@pytest.mark.parametrize("name", NANO)
def test_resumed_equals_uninterrupted_to_the_bit(name: str, tmp_path: Path, monkeypatch) -> None:
    config = small(name, 6, accumulate=2, checkpoint_every=3)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "parts", 3, monkeypatch)
    train(TrainConfig.read(tmp_path / "parts"), tmp_path / "parts", resume=True)
    assert gftzoo.load(tmp_path / "parts").provenance["objective"] == "gft"
    for kind in ("raw", "ema", "optimizer"):
        assert same(final(tmp_path / "whole", kind), final(tmp_path / "parts", kind)), kind


@pytest.mark.parametrize("options", [{"workers": 2}, {"precision": "fp16"}, {"precision": "bf16"}], ids=str)
def test_workers_and_precisions_resume_to_the_bit(options: dict[str, object], tmp_path: Path, monkeypatch) -> None:
    config = small("dit-nano", 4, checkpoint_every=2, device="cpu", **options)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "parts", 2, monkeypatch)
    train(TrainConfig.read(tmp_path / "parts").model_copy(update={"workers": 0}), tmp_path / "parts", resume=True)
    for kind in ("raw", "ema", "optimizer"):
        assert same(final(tmp_path / "whole", kind), final(tmp_path / "parts", kind)), kind
    scaler = checkpoints.read_state(checkpoints.newest(tmp_path / "parts") or tmp_path)["scaler"]
    assert bool(scaler) == (options.get("precision") == "fp16")


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_pictures_are_named_and_counted_wherever_they_are_read(workers: int, tmp_path: Path) -> None:
    for name in range(6):
        path = tmp_path / "data" / "grey" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12, 3), 40 * name, np.uint8)).save(path)
        if name in (1, 4):  # a header and no pixels
            path.write_bytes(path.read_bytes()[:50])
    options = {"workers": workers, "batch_size": 4, "sample_grid": [1, 1]}
    config = resolve("dit-nano", data=f"imagefolder:{tmp_path / 'data'}", objective="gft", steps=4, options=options)
    log = (train(config, tmp_path / "run") / "log.txt").read_text()
    assert log.count("skipped: ") == 2 and "1.png" in log and "4.png" in log
    assert "2 pictures could not be read and were passed over" in log


def test_dropout_and_samples_do_not_depend_on_how_a_step_is_cut(tmp_path: Path) -> None:
    """Two micro-batches are drawn and dropped out as the step says, wherever the run was interrupted before."""
    sampler = SeekableSampler(20, seed=1, together=2)
    stream = iter(sampler)
    positions = [next(stream)[1] for _ in range(6)]
    sampler.rank, sampler.world = 1, 2
    other = iter(sampler)
    assert positions == [0, 1, 2, 3, 4, 5]
    assert [next(other)[1] for _ in range(4)] == [2, 3, 6, 7]


def test_a_resumed_run_writes_its_log_once(tmp_path: Path, monkeypatch) -> None:
    config = small("dit-nano", 4, checkpoint_every=2, log_every=1)
    train(config, tmp_path / "whole")
    interrupted(config, tmp_path / "run", 2, monkeypatch)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')  # later than the checkpoint, and cut
    train(config, tmp_path / "run", resume=True)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "run")]
    losses = [[(row["step"], row["loss"]) for row in map(json.loads, lines)] for lines in logs]
    assert losses[0] == losses[1] and [step for step, _ in losses[0]] == [1, 2, 3, 4]


def test_a_run_that_was_stopped_before_it_saved_starts_again(tmp_path: Path) -> None:
    config = small("dit-nano", 2)
    (tmp_path / "run").mkdir()
    config.write(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".partial-step-00000001").mkdir(parents=True)
    go_on(tmp_path / "run", steps=None)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000002"]


def test_a_run_folder_is_what_it_says(tmp_path: Path) -> None:
    run = train(small("dit-nano", 4), tmp_path / "run")
    assert {"config.yaml", "metrics.jsonl", "log.txt", "checkpoints", "samples"} <= {p.name for p in run.iterdir()}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert all(math.isfinite(row["loss"]) and row["images_per_second"] > 0 for row in rows)
    assert (run / "samples" / "final.png").is_file() and (run / "samples" / "beta-strip.png").is_file()
    model = gftzoo.load(run)
    assert model.provenance["entry"] == "ema" and model.card.temperature
    assert gftzoo.load(run, entry="raw").provenance["entry"] == "raw"
    assert not same(final(run, "raw"), final(run, "ema"))
    assert model.sample([0, 1], beta=0.5, steps=3).shape == (2, 3, 8, 8)


def test_the_same_seed_gives_the_same_run_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(small("dit-nano", 2, seed=seed), tmp_path / name)
    assert same(final(tmp_path / "a"), final(tmp_path / "b"))
    assert not same(final(tmp_path / "a"), final(tmp_path / "c"))


def test_accumulation_keeps_the_global_batch(tmp_path: Path) -> None:
    for parts in (1, 4):
        train(small("dit-nano", 3, accumulate=parts), tmp_path / str(parts))
    one, four = final(tmp_path / "1"), final(tmp_path / "4")
    for key, value in one.items():
        torch.testing.assert_close(four[key], value, rtol=0, atol=1e-5)


def test_old_checkpoints_go_when_newer_ones_are_safe(tmp_path: Path) -> None:
    run = train(small("dit-nano", 8, checkpoint_every=1, keep_last=2, keep_every=4), tmp_path / "run")
    assert [p.name for p in checkpoints.all_checkpoints(run)] == [f"step-{n:08d}" for n in (4, 7, 8)]


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path, monkeypatch) -> None:
    config = small("dit-nano", 4, checkpoint_every=2)
    run = tmp_path / "run"

    def failing(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    interrupted(config, run, 2, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(GftzooError, match=r"No space left.*go on from step-00000002"):
        patch.setattr(writing, "save_file", failing)
        train(config, run, resume=True)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000002"]
    train(config, run, resume=True)
    assert checkpoints.newest(run) == run / "checkpoints" / "step-00000004"


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    config = small("dit-nano", 4, checkpoint_every=2)
    interrupted(config, tmp_path / "run", 2, monkeypatch)
    file = tmp_path / "run" / "checkpoints" / "step-00000002" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(GftzooError, match="is damaged"):
        train(config, tmp_path / "run", resume=True)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_planted_payload_in_a_run_is_never_executed(sharded: bool, tmp_path: Path) -> None:
    whole = train(small("dit-nano", 2, sharded_checkpoints=sharded), tmp_path / "whole")
    read = [path for path in whole.rglob("*") if path.is_file() and path.suffix != ".png" and path.name != ".lock"]
    files = [path.relative_to(whole) for path in read]
    assert len(files) == 9
    target = tmp_path / "executed"
    for number, file in enumerate(files):
        run = tmp_path / str(number)
        shutil.copytree(whole, run)
        (run / file).write_bytes(pickle.dumps(Payload(target)))
        if file.name == "card.json":
            with pytest.raises(GftzooError, match="damaged"):
                gftzoo.load(run)
        elif file.name in ("metrics.jsonl", "log.txt", "report.html"):  # nothing depends on what they hold
            go_on(run, steps=3)
        else:
            with pytest.raises(GftzooError):
                go_on(run, steps=3)
        assert not target.exists(), file


def test_yaml_tags_in_a_configuration_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"model: !!python/object/apply:os.mkdir ['{tmp_path / 'executed'}']\n")
    with pytest.raises(GftzooError, match=r"config\.yaml"):
        TrainConfig.read(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_tensorboard_gets_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(small("dit-nano", 2, trackers=("tensorboard",), log_every=1), tmp_path / "run")
    events = EventAccumulator(str(run / "trackers")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert {"images_per_second", "peak_memory_gib", "lr"} <= set(events.Tags()["scalars"])


def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.engine.run.packages.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"'wandb'.*not installed; `pip install 'gftzoo\[trackers\]'`"):
        train(small("dit-nano", 2, trackers=("wandb",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_the_run_and_keeps_the_older_checkpoint() -> None:
    allowed = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    if shutil.which("unshare") is None or subprocess.run(allowed, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs needs user namespaces (unshare -rm), which are not allowed here")
    tool = Path(__file__).parents[2] / "tools" / "kill_test.py"
    command = ["unshare", "-rm", sys.executable, str(tool), "--kills", "0", "--steps", "6"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No space left on device" in result.stdout and "go on from step-00000004" in result.stdout


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    config = small("dit-nano", 2)
    run = train(config, tmp_path / "run")
    holder = "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire()"
    command = [sys.executable, "-c", f"{holder}; print(1, flush=True); time.sleep(60)", str(run / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(GftzooError, match="is being trained by another process"):
            train(config.model_copy(update={"steps": 3}), run, resume=True)
        other.kill()
    train(config.model_copy(update={"steps": 3}), run, resume=True)


def test_classes_named_by_numbers_are_drawn_as_asked_for() -> None:
    card = gftzoo.get_card("dit-nano").change(classes=3, class_names=("1", "2", "3"))
    assert [card.class_index(index) for index in range(3)] == [0, 1, 2]
    assert [card.class_index(name) for name in ("1", "3")] == [0, 2]
    assert gftzoo.Model.fresh(card).encode_condition([0, 1, 2]).tolist() == [0, 1, 2]


def test_a_run_is_scored_against_its_own_data(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "data" / name / "0.png")
    own = f"imagefolder:{tmp_path / 'data'}"
    assert resolve("dit-nano", objective="gft", data=own).card.data == own
    assert resolve("dit-nano", objective="gft").card.data == "digits"


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    run = train(small("dit-nano", 1), tmp_path / "run")
    before = final(run)
    with pytest.raises(UsageError, match="exists already"):
        train(small("dit-nano", 2), run)
    assert same(before, final(run))


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    config = small("dit-nano", 50, lr=1e18, clip_norm=None)
    said = r"the (loss|gradient norm) became \w+ at step \d+ \(samples at positions .* smaller .* than -o lr=1e\+18"
    with pytest.raises(GftzooError, match=said):
        train(config, tmp_path / "run")
    FiniteHook(config, tmp_path / "run").check()


def test_a_gradient_that_is_no_number_is_not_saved(tmp_path: Path, monkeypatch) -> None:
    loss = MixedPrecision.backward

    def poisoned(self: MixedPrecision, value: torch.Tensor, **kwargs: object) -> None:
        loss(self, value, **kwargs)
        self.optimizer.param_groups[0]["params"][0].grad.fill_(math.nan)  # the loss itself is finite

    monkeypatch.setattr(MixedPrecision, "backward", poisoned)
    with pytest.raises(GftzooError, match="the gradient norm became nan at step 1 "):
        train(small("dit-nano", 1), tmp_path / "run")
    assert checkpoints.newest(tmp_path / "run") is None


def test_samples_that_fail_do_not_end_the_run(tmp_path: Path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space for pictures")

    monkeypatch.setattr("gftzoo.engine.record.samples.pictures.save", broken)
    run = train(small("dit-nano", 2, sample_every=1), tmp_path / "run")
    assert checkpoints.newest(run) is not None
    assert (run / "log.txt").read_text().count("no space for pictures") == 2


def test_a_checkpoint_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(writing, "_write_tensors", lambda *_: pytest.fail("there is no folder to write to"))
    monkeypatch.setattr(Path, "mkdir", refused)
    config = small("dit-nano", 1)
    model = gftzoo.Model.fresh(config.card)
    with pytest.raises(GftzooError, match=r"could not be written \(not allowed\); nothing was saved yet"):
        checkpoints.write(tmp_path, model, torch.optim.SGD(model.network.parameters()), None, {"step": 1})


@pytest.mark.parametrize("fails", [False, True])
def test_loading_processes_end_with_the_run(fails: bool, tmp_path: Path, monkeypatch) -> None:
    others = set(multiprocessing.active_children())
    loading: list[object] = []
    step = StepLoop.step

    def watched(loop: StepLoop, batches: Iterator[object]) -> None:
        step(loop, batches)
        loading.extend(set(multiprocessing.active_children()) - others)
        if fails:
            raise CutError

    monkeypatch.setattr(StepLoop, "step", watched)
    with pytest.raises(CutError) if fails else nullcontext():
        train(small("dit-nano", 1, workers=2), tmp_path / "run")
    assert len(loading) == 2 and set(multiprocessing.active_children()) == others


def test_only_loading_processes_are_ended() -> None:
    script = """
import multiprocessing, time
from torch.utils.data import DataLoader
from gftzoo.engine.parallel.workers import deaf_to_signals, end_workers, loading
if __name__ == "__main__":
    other = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    other.start()
    block = loading(DataLoader(list(range(4)), num_workers=1, worker_init_fn=deaf_to_signals))
    next(block.__enter__())
    mine = [child for child in multiprocessing.active_children() if child is not other]
    end_workers()
    mine[0].join(5)
    print(len(mine), mine[0].is_alive(), other.is_alive())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert result.stdout.split() == ["1", "False", "True"], result.stderr


@pytest.mark.parametrize("option", ["betas=[2, 0.9]", "sample_grid=[0, 1]", "learning_rate.hold=1", "steps=0"])
def test_values_out_of_range_are_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0].partition(".")[2] or option.partition("=")[0]):
        resolve("dit-nano", objective="gft", options=parse_options([option]))


def test_images_are_encoded_for_training_as_for_a_cache(tmp_path: Path, monkeypatch) -> None:
    precise = []

    def encode(self: Pixels, images: torch.Tensor, generator: object = None) -> torch.Tensor:
        precise.append(not torch.is_autocast_enabled("cpu"))
        return images

    monkeypatch.setattr(Pixels, "encode", encode)
    train(small("dit-nano", 1, precision="bf16"), tmp_path / "run")
    assert precise == [True]


def test_weights_that_wait_elsewhere_do_not_say_where_the_network_computes() -> None:
    config = small("dit-nano", 1)
    model = gftzoo.Model.fresh(config.card).to("cpu")
    model.network.to("meta")  # as offloaded weights are not on the device that computes
    assert model.device == torch.device("cpu")


def test_frozen_copies_are_whole_on_every_rank_and_offloaded_weights_on_none() -> None:
    def state(world: int, device: str = "cpu", **options: object) -> float:
        config = small("dit-nano", 1).model_copy(update={"parallel": "fsdp", **options})
        return training_cost(Job(config), Place(torch.device(device)), world).state_bytes

    parameters = training_cost(Job(small("dit-nano", 1)), Place(torch.device("cpu"))).parameters
    for world in (2, 8):
        assert state(world, objective="distill", objective_options={}) - state(world) == 4.0 * parameters
    blocks = 2 * state(8) - state(4)  # what does not shrink with the number of ranks
    assert state(8, offload=True, precision="fp32", device="cuda") == pytest.approx(blocks)


def test_a_run_that_does_not_fit_is_refused_with_the_numbers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("gftzoo.engine.run.estimate.available_bytes", lambda device: 2.0**30)
    with pytest.raises(GftzooError, match=r"needs about \d+\.\d GiB .* 1\.0 GiB are free"):
        train(resolve("dit-xl", objective="gft"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_demonstration_keeps_the_full_network() -> None:
    config = resolve("dit-xl", objective="gft")
    assert config.data == "digits" and config.card.tokenizer.id == "pixels-grey" and config.card.classes == 10
    assert config.card.network == gftzoo.get_card("dit-xl").network


@pytest.mark.parametrize(
    ("name", "nano"),
    [
        ("dit-xl", "dit-nano"),
        ("sit-xl", "sit-nano"),
        ("uvit-l", "uvit-nano"),
        ("mdt-xl", "mdt-nano"),
        ("ldm-4", "ldm-nano"),
    ],
)
def test_the_demonstration_is_sampled_as_the_small_network_of_its_kind(name: str, nano: str) -> None:
    """A sampler of noise does not draw from a flow."""
    assert resolve(name, objective="gft").card.sampler == gftzoo.get_card(nano).sampler


def test_the_demonstration_is_as_large_as_the_network_needs() -> None:
    """A U-Net halves its images five times, and codes are drawn in parts that the embedded tokenizer has."""
    assert resolve("adm-256", objective="gft").card.resolution == 32
    assert resolve("adm-256", objective="gft", options={"resolution": 64}).card.resolution == 64
    card = resolve("open-magvit2-b", objective="gft").card
    assert math.prod(card.network["parts"]) == card.tokenizer.codebook


def test_options_reach_their_places() -> None:
    options = parse_options(["lr=1e-3", "objective.p_drop=0.2", "learning_rate.warmup=5", "betas=[0.9, 0.95]"])
    config = resolve("dit-nano", objective="gft", options=options)
    assert (config.lr, config.betas) == (1e-3, (0.9, 0.95))
    assert config.objective_options["p_drop"] == 0.2 and config.learning_rate.warmup == 5


def test_the_configuration_round_trips(tmp_path: Path) -> None:
    config = small("dit-nano", 3)
    config.write(tmp_path)
    assert TrainConfig.read(tmp_path) == config


def test_the_cosine_is_torchs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.2)
    schedule = LearningRate(kind="cosine", horizon=20, final=0.1)
    for step in range(20):
        assert 2.0 * learning_rate_factor(schedule, step, 100) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_warmup_tail_and_weight_decay() -> None:
    schedule = LearningRate(kind="linear-tail", warmup=10, warmup_from=0.005, horizon=110, final=0.1, hold=0.05)
    assert learning_rate_factor(schedule, 9, 110) == pytest.approx(1.0)
    assert learning_rate_factor(schedule, 0, 110) == pytest.approx(0.005 + 0.995 / 10)
    assert learning_rate_factor(schedule, 14, 110) == 1.0
    assert learning_rate_factor(schedule, 110, 110) == pytest.approx(0.1)
    assert weight_decay_at(0.05, None, 3, 10) == 0.05
    assert weight_decay_at(0.05, 0.08, 0, 10) == pytest.approx(0.05)
    assert weight_decay_at(0.05, 0.08, 9, 10) == pytest.approx(0.08)


def test_the_average_is_the_closed_form() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    ema = EMA(network, decay=0.75)
    values = [float(network.weight.detach())]
    for step in range(4):
        with torch.no_grad():
            network.weight.fill_(step + 1.0)
        ema.update(step)
        values.append(0.75 * values[-1] + 0.25 * (step + 1.0))
    assert float(ema.shadow["weight"]) == pytest.approx(values[-1])
    with ema.swapped_in():
        assert float(network.weight.detach()) == pytest.approx(values[-1])
    assert float(network.weight.detach()) == 4.0
    assert EMA(network, 0.9999, warmup=True).decay_at(0) == pytest.approx(0.1)
