"""What a pickle that is no data would do."""

from __future__ import annotations

from pathlib import Path


class Payload:
    """Unpickling it would create the file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.target,))  # type: ignore[return-value]
