"""Catalogues that plugins ship, as YAML."""

from __future__ import annotations

from pathlib import Path

from fuzzing.target import SilentChangeError, Target
from gftzoo.catalogue.registry import read_registry, zoo_registry
from gftzoo.printing import plain_lines

SEED = """
families: {acme: {distribution: gftzoo-acme, nano: acme-nano, summary: "caf\u00e9 [bold]"}}
tokenizers: {acme-vq: {kind: vq, channels: 8, downsample: 2, codebook: 16, options: {depth: 2}}}
models:
  acme-nano: &nano {family: acme, parameters: 5, resolution: 8, tokenizer: acme-vq, network: {depth: 2, rate: 1.5e-3}}
  acme-b: {<<: *nano, resolution: 16, scores: [{fid: 2.5, guidance: cfg=1.5, protocol: own}]}
  acme-l: {<<: *nano, tokenizer: pixels, recipes: {gft: {steps: 10, lr: 1.0e-4, betas: [0.9, 0.95]}}}
"""


class RegistryTarget(Target):
    """`registry.yaml` of a plugin; what is read can be shown, and leaves the zoo's own catalogue as it was."""

    def seeds(self) -> list[tuple[str, bytes]]:
        return [(".yaml", SEED.encode()), (".yaml", SEED.replace("\n", "\r\n").encode())]

    def read(self, path: Path) -> None:
        own = zoo_registry()
        before = own.model_dump_json()
        found = read_registry(path, own)
        plain_lines(found.model_dump_json())
        if own.model_dump_json() != before:
            raise SilentChangeError("the zoo's own catalogue has changed")
