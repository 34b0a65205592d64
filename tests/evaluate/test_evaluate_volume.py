"""Many images into one npz: layout, resumption, refusals, memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_model import toy_model

from gftzoo.contract.guidance import Temperature
from gftzoo.errors import UsageError
from gftzoo.evaluate.images import to_uint8
from gftzoo.evaluate.volume import write_npz

CLASSES: list[int | str] = [i % 10 for i in range(23)]


def test_layout_is_adms(tmp_path: Path) -> None:
    model, _ = toy_model()
    counted: list[int] = []
    write_npz(model, CLASSES, Temperature(0.5), tmp_path / "x.npz", seed=2, batch_size=5, on_batch=counted.append)
    expected = to_uint8(model.sample(CLASSES, beta=0.5, seed=2)).permute(0, 2, 3, 1).numpy()
    with np.load(tmp_path / "x.npz", allow_pickle=False) as held:
        assert held["arr_0"].dtype == np.uint8 and np.array_equal(held["arr_0"], expected)
        assert held["arr_1"].dtype == np.int64 and held["arr_1"].tolist() == CLASSES
    assert counted == [5, 5, 5, 5, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def test_a_stopped_job_goes_on_with_another_batch_size(tmp_path: Path) -> None:
    model, toy = toy_model()

    def stop(_: int) -> None:
        if len(toy.drawn) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npz(model, CLASSES, Temperature(0.5), tmp_path / "x.npz", batch_size=5, on_batch=stop)
    assert not (tmp_path / "x.npz").exists()
    model, toy = toy_model()
    write_npz(model, CLASSES, Temperature(0.5), tmp_path / "x.npz", batch_size=8)
    assert toy.drawn == [5, 5, 3]
    write_npz(model, CLASSES, Temperature(0.5), tmp_path / "y.npz", batch_size=23)
    with np.load(tmp_path / "x.npz") as one, np.load(tmp_path / "y.npz") as other:
        assert np.array_equal(one["arr_0"], other["arr_0"])


def test_another_job_is_refused_and_nothing_overwritten(tmp_path: Path) -> None:
    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_npz(toy_model()[0], CLASSES, Temperature(0.5), tmp_path / "x.npz", batch_size=5, on_batch=stop)
    for model, beta, seed in ((toy_model()[0], 0.4, 0), (toy_model()[0], 0.5, 1), (toy_model(weight=0.5)[0], 0.5, 0)):
        with pytest.raises(UsageError, match="belongs to another job"):
            write_npz(model, CLASSES, Temperature(beta), tmp_path / "x.npz", seed=seed, batch_size=5)
    (tmp_path / "y.npz").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists already"):
        write_npz(toy_model()[0], CLASSES, Temperature(0.5), tmp_path / "y.npz")
    assert (tmp_path / "y.npz").read_bytes() == b"precious"


MEMORY = """
import resource, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from gftzoo.evaluate.features import FeatureNetwork, Features
from gftzoo.evaluate.metrics import frechet_distance, precision_recall
from gftzoo.evaluate.scoring import summarize

class Wide(FeatureNetwork):
    name, weights_sha256, dimensions, classes = "wide", "", 256, 10
    def __init__(self):
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(()))
        self.mixing = torch.randn(192, 256, generator=torch.Generator().manual_seed(0))
    def extract(self, images):
        pooled = (images.flatten(1).float() / 255) @ self.mixing
        return Features(pooled, pooled[:, :10])

def batches(count):
    for start in range(0, count, 1000):
        yield torch.randint(256, (1000, 3, 8, 8), dtype=torch.uint8), None

network = Wide()
reference = summarize(network, batches(1000), 1000)
peaks = []
for count in (1000, 50_000):
    summary = summarize(network, batches(count), count, keep=3000)
    frechet_distance(summary.pooled, reference.pooled)
    precision_recall(reference.sample_MD, summary.sample_MD)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""


def test_fifty_thousand_images_take_little_more_memory_than_a_thousand() -> None:
    command = [sys.executable, "-c", MEMORY, str(Path(__file__).parents[1])]
    grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # 3,000 kept features of 256 float32 are 3 MB; all 50,000 would be 51 MB, and 102 in float64
    assert grown < 40


def test_torch_stays_on_one_thread() -> None:
    assert torch.get_num_threads() == 1
