"""Files of a run: its configuration, and the state that seals a checkpoint."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from fuzzing.target import SilentChangeError, Target
from gftzoo import checksums
from gftzoo.engine import TrainConfig, resolve
from gftzoo.engine.step.schedule import values_at
from gftzoo.printing import plain_lines


class ConfigTarget(Target):
    """`config.yaml`; what is read has finite settings and can be written again."""

    def prepare(self, folder: Path) -> None:
        self.run = folder / "run"
        self.run.mkdir()

    def seeds(self) -> list[tuple[str, bytes]]:
        configs = [resolve("dit-nano", steps=20), resolve("var-nano", steps=20, horizon=40, options={"clip_norm": 2})]
        return [(".yaml", yaml.safe_dump(c.model_dump(mode="json"), sort_keys=False).encode()) for c in configs]

    def read(self, path: Path) -> None:
        (self.run / "config.yaml").write_bytes(path.read_bytes())
        config = TrainConfig.read(self.run)
        plain_lines(config.model_dump_json())
        values_at(config, 10)
        config.write(self.run)
        if TrainConfig.read(self.run) != config:
            raise SilentChangeError("the configuration is another when it is written and read")


STATE = {"step": 2, "seed": 0, "scaler": {"scale": 65536.0, "_growth_tracker": 3}, "made_of": {"card": "caf\u00e9"}}


class StateTarget(Target):
    """`state.json` of a checkpoint; one with checksums is read only where not a byte of it is changed."""

    def prepare(self, folder: Path) -> None:
        self.checkpoint = sealed(folder)
        self.good = (self.checkpoint / checksums.STATE_FILE).read_bytes()

    def seeds(self) -> list[tuple[str, bytes]]:
        with tempfile.TemporaryDirectory() as folder:
            content = (sealed(Path(folder)) / checksums.STATE_FILE).read_bytes()
        return [(".json", content), (".json", b'{"step": 2, "seed": 0, "scaler": {}}')]

    def read(self, path: Path) -> None:
        content = path.read_bytes()
        (self.checkpoint / checksums.STATE_FILE).write_bytes(content)
        checksums.verify(self.checkpoint)
        if checksums.read_state(self.checkpoint).version == checksums.VERSION and content != self.good:
            raise SilentChangeError("a changed state was taken for the one that was written")


def sealed(folder: Path) -> Path:
    """A checkpoint of small files."""
    checkpoint = folder / "checkpoints" / "step-00000002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "card.json").write_text("{}")
    (checkpoint / "raw.safetensors").write_bytes(b"weights")
    checksums.seal(checkpoint, STATE)
    return checkpoint
