"""The models that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def models() -> list[dict[str, Any]]:
    """Return facts about each bundled model: name, system, what it makes, results, patients, licence, size in MB.

    >>> import synthorax as sx
    >>> [model["name"] for model in sx.models()]
    ['ac-wgan', 'class-aware', 'eraser', 'features-24mm', 'flow', 'injector', 'translation']
    """
    from synthorax import hub

    return [{**hub.read_card(folder).facts, "mb": _mb(folder)} for folder in hub.bundled().values()]


def _mb(folder: Path) -> float:
    return round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 2)
