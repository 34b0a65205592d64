"""Protocols, records, references and sweeps, on a generator whose quality is known."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pooled import Pooled
from torch import Tensor
from toy_model import Toy, grey_images, toy_model

from gftzoo.cli.sweep import unused_labels
from gftzoo.contract.guidance import Temperature, Unguided
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate import Evaluator, Protocol, ScoreRecord, choose_protocol, compare, parse_values, write_csv
from gftzoo.evaluate.frontier import compare_at_equal_x, lowest_at
from gftzoo.evaluate.images import file_batches, image_count, to_uint8
from gftzoo.evaluate.metrics import frechet_distance, gaussian
from gftzoo.evaluate.references import open_reference
from gftzoo.evaluate.scoring import summarize
from gftzoo.evaluate.subjects import network_sha256
from gftzoo.evaluate.sweep import plot_curves, strip, sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty PNGs, sorted by grey level as folders of classes are."""
    for index, image in enumerate(grey_images([38 + 20 * (i // 6) for i in range(60)])):
        (tmp_path / "real" / f"class{index // 6}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "real" / f"class{index // 6}" / f"{index}.png")
    return tmp_path / "real"


@pytest.fixture
def evaluator(folder: Path) -> Evaluator:
    protocol = Protocol(name="own", features="quarters", reference=str(folder), images=40)
    return Evaluator(protocol, network=Pooled())


def test_a_record_holds_what_its_number_depends_on(evaluator: Evaluator) -> None:
    model, _ = toy_model()
    record = evaluator.score_model(model, Temperature(0.5), seed=3, batch_size=16, settings={"noise": 0.1})
    assert record.measure.distance_name == "FD-quarters"
    assert (record.measure.images, record.measure.reference) == (40, "real (60 images)")
    assert record.measure.class_plan.startswith("balanced over 10 classes")
    assert (record.subject.guidance, record.subject.strength, record.subject.seed) == ("beta", 0.5, 3)
    assert record.subject.sampler == {"noise": 0.1}
    assert record.subject.entry == "ema" and record.subject.dtype == "float32"
    assert record.subject.weights_sha256 == network_sha256(model.network)
    assert record.passes == 1 and record.seconds_per_image and record.seconds_per_image > 0
    assert {"gftzoo", "torch", "torchmetrics", "gftzoo-diffusion"} <= set(record.versions)
    assert ScoreRecord.model_validate_json(record.model_dump_json()) == record


def test_the_scores_are_those_of_the_images_the_model_draws(evaluator: Evaluator) -> None:
    model, _ = toy_model()
    record = evaluator.score_model(model, Temperature(0.5), seed=1, batch_size=7)
    images = to_uint8(model.sample([i % 10 for i in range(40)], beta=0.5, seed=1))
    drawn = gaussian(Pooled()(images).pooled_BD)
    assert record.scores.frechet == pytest.approx(frechet_distance(drawn, evaluator.reference.summary.pooled), abs=1e-9)
    predicted = Pooled()(images).logits_BK.argmax(1)
    right = sum(int(p) == i % 10 for i, p in enumerate(predicted)) / 40
    assert record.scores.accuracy == pytest.approx(right)


def test_scores_do_not_depend_on_the_batch_size_and_follow_the_seed(evaluator: Evaluator) -> None:
    model, _ = toy_model()
    whole = evaluator.score_model(model, Temperature(0.7), batch_size=64).scores
    small = evaluator.score_model(model, Temperature(0.7), batch_size=3).scores
    assert small.model_dump() == pytest.approx(whole.model_dump(), abs=1e-6)
    assert evaluator.score_model(model, Temperature(0.7), seed=1).scores.frechet != whole.frechet


def test_worse_images_score_worse(evaluator: Evaluator) -> None:
    model, _ = toy_model()
    clean = evaluator.score_model(model, Temperature(0.2)).scores
    noisy = evaluator.score_model(model, Temperature(1.0), settings={"noise": 2.0}).scores
    assert clean.frechet < noisy.frechet and clean.accuracy > noisy.accuracy
    assert clean.inception_score > noisy.inception_score


def test_records_of_different_protocols_are_not_compared(evaluator: Evaluator, folder: Path) -> None:
    model, _ = toy_model()
    record = evaluator.score_model(model, Temperature(0.5))
    other = record.model_copy(update={"measure": record.measure.model_copy(update={"images": 50})})
    with pytest.raises(UsageError, match="images is 40 in one and 50 in the other"):
        compare([record, other])
    next(folder.rglob("*.png")).unlink()
    fewer = Evaluator(evaluator.protocol, network=Pooled()).score_model(model, Temperature(0.5))
    with pytest.raises(UsageError, match="reference"):
        compare([record, fewer])


def test_compare_shows_what_differs_and_calls_no_other_distance_fid(evaluator: Evaluator) -> None:
    model, _ = toy_model()
    first, second = (evaluator.score_model(model, Temperature(beta)) for beta in (0.9, 0.3))
    rows = compare([first, second])
    assert [row["strength"] for row in rows] == [0.9, 0.3]
    assert set(rows[0]) >= {"model", "strength", "FD-quarters", "IS-quarters", "precision", "recall", "accuracy"}
    assert "seed" not in rows[0]
    assert not any(name in rows[0] for name in ("FID", "KID", "IS", "sFID"))


def test_network_hash_sees_every_tensor() -> None:
    first, same, other = (toy_model(weight=weight)[0].network for weight in (1.0, 1.0, 1.0 + 1e-7))
    assert network_sha256(first) == network_sha256(same) != network_sha256(other)


def test_a_damaged_record_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"measure": {}}')
    with pytest.raises(GftzooError, match=r"r\.json"):
        ScoreRecord.read(tmp_path / "r.json")
    with pytest.raises(GftzooError, match="there is no score record"):
        ScoreRecord.read(tmp_path / "none.json")


def test_folder_and_npz_of_the_same_images_have_the_same_scores(evaluator: Evaluator, tmp_path: Path) -> None:
    images = to_uint8(toy_model()[0].sample([i % 10 for i in range(40)], beta=0.4))
    np.savez(tmp_path / "x.npz", images.permute(0, 2, 3, 1).numpy())
    (tmp_path / "x").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "x" / f"{index:03}.png")
    npz, pngs = evaluator.score_images(tmp_path / "x.npz"), evaluator.score_images(tmp_path / "x")
    drawn = evaluator.score_model(toy_model()[0], Temperature(0.4)).scores
    assert npz.scores.frechet == pytest.approx(pngs.scores.frechet) == pytest.approx(drawn.frechet)
    assert npz.scores.precision == pngs.scores.precision and npz.scores.accuracy is None


def test_npz_batches_hold_the_images_and_truncation_is_seen(tmp_path: Path) -> None:
    pixels = np.arange(150 * 4 * 5 * 3, dtype=np.uint32).astype(np.uint8).reshape(150, 4, 5, 3)
    np.savez_compressed(tmp_path / "x.npz", pixels)
    batches = [images for images, _ in file_batches(tmp_path / "x.npz")]
    assert image_count(tmp_path / "x.npz") == 150 and len(batches) == 3
    assert np.array_equal(torch.cat(batches).permute(0, 2, 3, 1).numpy(), pixels)
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "float.npz", pixels / 255)
    for name, message in (("cut.npz", "no npz file"), ("float.npz", "uint8")):
        with pytest.raises(GftzooError, match=message):
            image_count(tmp_path / name)


def test_a_folder_of_mixed_sizes_is_read_and_a_damaged_image_named(tmp_path: Path) -> None:
    for index, side in enumerate((8, 8, 16, 8)):
        Image.new("L", (side, side), 9).save(tmp_path / f"{index}.png")
    assert [tuple(images.shape) for images, _ in file_batches(tmp_path)] == [(2, 3, 8, 8), (1, 3, 16, 16), (1, 3, 8, 8)]
    (tmp_path / "4.png").write_bytes(b"no image")
    with pytest.raises(GftzooError, match=r"4\.png"):
        list(file_batches(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(GftzooError, match="holds no images"):
        image_count(tmp_path / "empty")


def test_images_are_rounded_as_a_png_would_be() -> None:
    levels = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.1, -0.1]).view(1, 1, 1, 6)
    assert to_uint8(levels)[0, 2, 0].tolist() == [0, 0, 1, 255, 255, 0]


def test_features_refuse_images_of_another_range_or_shape() -> None:
    for images in (torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8, 3, dtype=torch.uint8)):
        with pytest.raises(UsageError, match="uint8 RGB"):
            Pooled()(images)


def test_reference_statistics_belong_to_inception_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(4), sigma=np.eye(4), mu_s=np.zeros(3), sigma_s=np.eye(3))
    with pytest.raises(UsageError, match="InceptionV3's and the feature network is quarters"):
        open_reference(str(tmp_path / "stats.npz"), Pooled())
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(GftzooError, match="neither mu and sigma nor arr_0"):
        open_reference(str(tmp_path / "other.npz"), Pooled())
    with pytest.raises(UsageError, match="there is no reference"):
        open_reference(str(tmp_path / "absent.npz"), Pooled())


def test_reference_from_an_npz_of_images(tmp_path: Path) -> None:
    images = grey_images(range(0, 200, 5))
    np.savez(tmp_path / "x.npz", images.permute(0, 2, 3, 1).numpy())
    found = open_reference(str(tmp_path / "x.npz"), Pooled()).summary.pooled
    torch.testing.assert_close(found.covariance_DD, gaussian(Pooled()(images).pooled_BD).covariance_DD)


def test_protocols_say_what_they_need() -> None:
    card = toy_model()[0].card
    assert choose_protocol("embedded", card).features == "embedded:digits"
    assert choose_protocol("adm", card, reference="a.npz").images == 50_000
    with pytest.raises(UsageError, match="protocol embedded: images = 1000000000000 is not valid"):
        choose_protocol("embedded", card, images=10**12)
    with pytest.raises(UsageError, match="--reference"):
        choose_protocol("adm", card)
    with pytest.raises(UsageError, match="did you mean 'embedded'"):
        choose_protocol("embeded", card)
    with pytest.raises(UsageError, match="--data"):
        choose_protocol("embedded", card.change(data=None))


def test_runs_of_the_same_name_have_their_own_results(tmp_path: Path) -> None:
    for place in ("a/gft", "b/gft", "b/plain"):
        (tmp_path / place).mkdir(parents=True)
    models = [str(tmp_path / place) for place in ("a/gft", "b/gft", "b/plain")]
    assert unused_labels(models) == ["a-gft", "b-gft", "plain"]
    assert unused_labels(models[1:]) == ["gft", "plain"] and unused_labels(["dit-nano"]) == ["dit-nano"]


def test_an_empty_reference_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.npz").touch()
    with pytest.raises(GftzooError, match=r"empty.npz' is truncated or no npz file"):
        open_reference(str(tmp_path / "empty.npz"), Pooled())


def test_values_of_a_sweep() -> None:
    assert parse_values("1:0.2:9") == [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    assert parse_values("1,0.66") == [1, 0.66]
    assert parse_values("2:4:1") == [2]
    for wrong in ("", "1:2", "a,b", "1:2:0", "1:2:1.5", "nan"):
        with pytest.raises(UsageError, match=r"1:0\.2:9"):
            parse_values(wrong)
    for many in ("1:0.2:999999999", "1," * 1000 + "1"):
        with pytest.raises(UsageError, match="has more than 1,000 values"):
            parse_values(many)


def run_sweep(evaluator: Evaluator, folder: Path, seed: int = 0, weight: float = 1.0) -> tuple[list[ScoreRecord], Toy]:
    model, toy = toy_model(weight=weight)
    betas = [Temperature(beta) for beta in (1.0, 0.5, 0.25)]
    return sweep(evaluator, model, betas, folder, seed=seed, objective="gft"), toy


def test_a_sweep_does_nothing_twice_and_nothing_stale(evaluator: Evaluator, tmp_path: Path) -> None:
    first, toy = run_sweep(evaluator, tmp_path)
    assert sum(toy.drawn) == 120
    again, toy = run_sweep(evaluator, tmp_path)
    assert toy.drawn == [] and again == first
    (tmp_path / "beta=0.5-seed0.json").write_text("half a reco")
    _, toy = run_sweep(evaluator, tmp_path)
    assert sum(toy.drawn) == 40
    _, toy = run_sweep(evaluator, tmp_path, weight=0.9)  # other weights: nothing of the old ones counts
    assert sum(toy.drawn) == 120


def test_csv_plot_and_strip_of_a_sweep(evaluator: Evaluator, tmp_path: Path) -> None:
    records, _ = run_sweep(evaluator, tmp_path)
    write_csv(records, tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["strength"]) for row in table] == [1, 0.5, 0.25]
    assert float(table[1]["frechet"]) == records[1].scores.frechet
    plot_curves({"toy": records, "again": run_sweep(evaluator, tmp_path, seed=1)[0]}, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.width > 800
    narrow = strip(toy_model()[0], [Temperature(0.5)], [1, 2])
    assert strip(toy_model()[0], [Temperature(0.5)], [1, 2, 3]).width > narrow.width
    heights = [strip(toy_model()[0], [Temperature(0.5)] * rows, [1, 2]).height for rows in (2, 3)]
    assert heights[0] - narrow.height == heights[1] - heights[0] > 128


def test_curves_compared_at_equal_accuracy() -> None:
    cfg = [(0.80, 10.0), (0.90, 8.0), (0.95, 12.0)]
    better = [(0.80, 9.0), (0.90, 7.0), (0.97, 11.0)]
    found = compare_at_equal_x(better, cfg)
    assert found is not None and found.share_not_above == 1 and found.mean < -0.9
    assert (found.at[0], found.at[-1]) == (0.80, 0.95)
    assert compare_at_equal_x(cfg, better).share_not_above == 0
    assert compare_at_equal_x([(0.1, 1.0), (0.2, 1.0)], cfg) is None
    assert lowest_at([(0.0, 4.0), (1.0, 2.0), (0.0, 0.0)], 0.5) == pytest.approx(1.0)  # a curve that turns back


def test_scores_equal_torch_fidelitys_on_the_same_images_and_network(folder: Path, tmp_path: Path) -> None:
    from torch_fidelity import FeatureExtractorBase, calculate_metrics, register_feature_extractor

    class Wrapped(FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)
            self.network = Pooled()

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("pooled", "logits")

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "pooled"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return grey_images([0])

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = self.network(images)
            return tuple({"pooled": found.pooled_BD, "logits": found.logits_BK}[name] for name in self.features_list)

    register_feature_extractor("quarters", Wrapped)
    model, _ = toy_model()
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for index, image in enumerate(to_uint8(model.sample([i % 10 for i in range(60)], beta=0.5))):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(drawn / f"{index:03}.png")
    theirs = calculate_metrics(
        input1=str(drawn), input2=str(folder), feature_extractor="quarters", fid=True, isc=True, kid=True, prc=True,
        kid_subsets=1, kid_subset_size=60, samples_find_deep=True, samples_shuffle=False, cuda=False, cache=False,
        verbose=False, isc_splits=10,
    )  # fmt: skip
    protocol = Protocol(name="own", features="quarters", reference=str(folder), images=60)
    ours = Evaluator(protocol, network=Pooled()).score_model(model, Temperature(0.5)).scores
    assert ours.frechet == pytest.approx(theirs["frechet_inception_distance"], abs=1e-6)
    assert ours.inception_score == pytest.approx(theirs["inception_score_mean"], abs=1e-6)
    assert ours.kernel == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-6)
    assert (ours.precision, ours.recall) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


RANKS = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
import torch.distributed as dist
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/store", rank=int(sys.argv[3]), world_size=2)
from pooled import Pooled
from toy_model import toy_model
from gftzoo.evaluate import Evaluator, Protocol
from gftzoo.evaluate.volume import write_npz
from gftzoo.contract.guidance import Temperature
out = Path(sys.argv[2])
protocol = Protocol(name="own", features="quarters", reference=sys.argv[4], images=41, keep=30)
record = Evaluator(protocol, network=Pooled()).score_model(toy_model()[0], Temperature(0.5), batch_size=4)
if sys.argv[3] == "0":
    record.write(out / "record.json")
write_npz(toy_model()[0], [i % 10 for i in range(41)], Temperature(0.5), out / "x.npz", batch_size=4)
dist.destroy_process_group()
"""


def test_two_ranks_equal_one(folder: Path, tmp_path: Path) -> None:
    from gftzoo.evaluate.volume import write_npz

    arguments = [sys.executable, "-c", RANKS, str(Path(__file__).parents[1]), str(tmp_path)]
    ranks = [subprocess.Popen([*arguments, str(rank), str(folder)]) for rank in range(2)]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    protocol = Protocol(name="own", features="quarters", reference=str(folder), images=41, keep=30)
    alone = Evaluator(protocol, network=Pooled()).score_model(toy_model()[0], Temperature(0.5), batch_size=64)
    together = ScoreRecord.read(tmp_path / "record.json")
    assert together.scores.model_dump() == pytest.approx(alone.scores.model_dump(), abs=1e-6)
    assert together.measure == alone.measure
    write_npz(toy_model()[0], [i % 10 for i in range(41)], Temperature(0.5), tmp_path / "y.npz", batch_size=9)
    with np.load(tmp_path / "x.npz") as two, np.load(tmp_path / "y.npz") as one:
        assert np.array_equal(two["arr_0"], one["arr_0"]) and np.array_equal(two["arr_1"], one["arr_1"])


def test_unguided_row_has_no_strength(evaluator: Evaluator) -> None:
    record = evaluator.score_model(toy_model(temperature=False)[0], Unguided())
    assert (record.subject.guidance, record.subject.strength) == ("unguided", None)


def test_summary_of_a_stream_is_bounded() -> None:
    batches = ((grey_images([i % 250 for i in range(100)]), None) for _ in range(30))
    summary = summarize(Pooled(), batches, 3000, keep=64)
    assert summary.sample_MD is not None and summary.sample_MD.shape == (64, 4)
    assert summary.pooled.samples == 3000
