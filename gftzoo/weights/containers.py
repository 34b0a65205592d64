"""The state dicts in a file, with the containers and prefixes around them taken off."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from gftzoo.errors import GftzooError
from gftzoo.weights.names import COUNTERS, Role, role, without_inside
from gftzoo.weights.plain import Path, averages_within, holds_tensors

Kind = Literal["raw", "ema", "bare"]
DEPTH = 6  # of containers in containers, and of prefixes
VISITS = 1_000  # to containers with a known name


@dataclass(frozen=True)
class Held:
    """A state dict in a file: its tensors, what they are (`bare` where nothing says it) and where it was."""

    tensors: Mapping[str, Tensor]
    kind: Kind
    where: Path

    @property
    def container(self) -> str:
        """Where it was, as one name."""
        return ".".join(self.where)


@dataclass
class Search:
    """What a file holds: state dicts under known names, and names of what may be an average and is not understood."""

    expected: Collection[str] = ()
    held: list[Held] = field(default_factory=list)
    suspects: list[str] = field(default_factory=list)
    visits: int = 0

    def visit(self, node: Mapping[Any, Any], where: Path = (), kind: Kind = "bare") -> None:
        """Adds what a mapping holds: that of the containers in it, or else its own tensors."""
        before = len(self.held)
        self.visits += 1
        if self.visits > VISITS:
            raise GftzooError("it has containers in containers without end.")
        for name, child in node.items():
            if isinstance(name, str) and name not in self.expected and len(where) < DEPTH:
                self._visit_child(name, child, (*where, name), kind)
        if len(self.held) == before:
            self.split({k: v for k, v in node.items() if isinstance(k, str) and isinstance(v, Tensor)}, where, kind)

    def _visit_child(self, name: str, child: Any, where: Path, kind: Kind) -> None:
        if isinstance(child, Tensor) and "." in name:
            return  # of a flat state dict, see `split`
        meaning = meaning_of(name)
        if isinstance(child, Mapping) and meaning not in (None, "suspect"):
            self.visit(child, where, inside(kind, str(meaning)))
        elif meaning in ("ema", "suspect"):
            self.suspects += [".".join(where)] if holds_tensors(child) else []
        elif meaning is None:
            self.suspects += averages_within(child, where)

    def split(self, flat: Mapping[str, Tensor], where: Path, kind: Kind) -> None:
        """Adds the state dicts in a flat mapping, which prefixes tell apart."""
        tensors: dict[str, Tensor] = {}
        for key, value in flat.items():
            if (short := self._unwrapped(key)) in tensors:
                raise GftzooError(f"it holds tensor {short!r} twice, with and without the prefixes of wrappers.")
            tensors[short] = value
        counters = {key for key, value in tensors.items() if self._counts(key, value)}
        if "n_averaged" in counters:  # of torch's AveragedModel
            kind = "ema"
        tensors = {key: value for key, value in tensors.items() if key not in counters}
        shared = self._shared_prefix(tensors) if len(where) < DEPTH else ""
        if shared:
            self.split({key.removeprefix(f"{shared}."): v for key, v in tensors.items()}, (*where, shared), kind)
            return
        groups = self._groups(tensors)
        own = groups.pop("", {})
        covering = self._covering_prefix(own)
        if groups:
            self.split(own, where, "raw" if kind == "bare" else kind)
        elif covering:  # what is beside it, a loss or a text encoder, is left alone as other containers are
            inner = {k.removeprefix(f"{covering}."): v for k, v in own.items() if k.startswith(f"{covering}.")}
            self.split(inner, (*where, covering), kind)
        elif own:
            self.held.append(Held(own, kind, where))
        for prefix, group in groups.items():
            self._add_group(prefix, group, own, (*where, prefix))

    def _add_group(self, prefix: str, group: dict[str, Tensor], own: Mapping[str, Tensor], where: Path) -> None:
        if role(prefix) == "suspect":
            self.suspects.append(".".join(where))
            return
        kind: Kind = "ema" if role(prefix) == "ema" else "raw"
        self.split(with_dots(group, [*own, *self.expected]) if kind == "ema" else group, where, kind)

    def _unwrapped(self, key: str) -> str:
        while key not in self.expected:
            shorter = without_inside(key)
            shorter = key.removeprefix("module.") if shorter == key else shorter
            if shorter == key:
                break
            key = shorter
        return key

    def _counts(self, key: str, value: Tensor) -> bool:
        return key in COUNTERS and value.numel() == 1 and key not in self.expected

    def _shared_prefix(self, tensors: Mapping[str, Tensor]) -> str:
        """The container's name with which every key begins, or an empty one."""
        first = {key.partition(".")[0] if "." in key else "" for key in tensors}
        prefix = first.pop() if len(first) == 1 else ""
        own = any(key in self.expected for key in tensors)
        return prefix if prefix and not own and role(prefix) == "plain" else ""

    def _covering_prefix(self, tensors: Mapping[str, Tensor]) -> str:
        """The container's name under which most of the network's own tensors are, or an empty one."""
        under: dict[str, int] = {}
        for key in tensors:
            prefix, dot, rest = key.partition(".")
            if dot and rest in self.expected and role(prefix) == "plain":
                under[prefix] = under.get(prefix, 0) + 1
        return next((prefix for prefix, count in under.items() if 2 * count > len(self.expected)), "")

    def _groups(self, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The tensors by the prefix that says raw, average or perhaps average; the others under an empty one."""
        groups: dict[str, dict[str, Tensor]] = {"": {}}
        for key, value in tensors.items():
            prefix, dot, rest = key.partition(".")
            told = bool(dot) and key not in self.expected and role(prefix) in ("ema", "raw", "suspect")
            groups.setdefault(prefix if told else "", {})[rest if told else key] = value
        return groups


def search(file: Mapping[Any, Any], expected: Collection[str] = ()) -> Search:
    """What a file holds.

    Args:
        file: as read, with containers in containers.
        expected: names of the network's own tensors, which are never taken for containers, prefixes or counters.
    """
    found = Search(frozenset(expected))
    if _by_mmengine(file):
        found.visit(file["state_dict"], ("state_dict",), "ema")
        found.visit(file["ema_state_dict"], ("ema_state_dict",), "raw")
    else:
        found.visit(file)
    return found


def _by_mmengine(file: Mapping[Any, Any]) -> bool:
    """Whether mmengine's EMAHook wrote the file: it saves the average as `state_dict` and raw as `ema_state_dict`.

    Its `meta` alone says nothing: others who keep one mean what they write.
    """
    raw = file.get("ema_state_dict")
    if not isinstance(raw, Mapping) or not isinstance(file.get("state_dict"), Mapping):
        return False
    return "meta" in file and ("steps" in raw or "message_hub" in file)


def inside(kind: Kind, meaning: str) -> Kind:
    """What a container holds that means `plain`, `raw` or `ema`, in one that holds `kind`."""
    if meaning == "plain":
        return "raw" if kind == "bare" else kind
    return "ema" if meaning == "ema" else "raw"


def with_dots(tensors: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under the ones of `names` that they have with the dots left out, as latent-diffusion's LitEma does.

    Unchanged if any has no such name, or more than one.
    """
    weights = {key: value for key, value in tensors.items() if key not in COUNTERS}
    if any("." in key for key in weights):
        return tensors
    dotted: dict[str, set[str]] = {}
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):
            dotted.setdefault("".join(parts[start:]), set()).add(name)
    found = {key: dotted.get(key, set()) for key in weights}
    if any(len(candidates) != 1 for candidates in found.values()):
        return tensors
    return {found[key].pop(): value for key, value in weights.items()}


def meaning_of(name: str) -> Role | None:
    """The role of a container's name, which may be several joined by dots: `trainer.var_wo_ddp`."""
    roles = [role(part) for part in name.split(".")]
    if None in roles or "suspect" in roles:
        return "suspect" if {"ema", "suspect"} & set(roles) else None
    return next((each for each in reversed(roles) if each != "plain"), "plain")
