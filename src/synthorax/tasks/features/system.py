"""The feature network: a classifier of real patches by nodule, texture and size, whose features FID and KID use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from synthorax.metrics.extractors import FromNetwork
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig


class FeatureNet(Classification):
    """A detector that also classifies nodules by texture and size, so that its features depend on both."""

    name = "features"

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> FeatureNet:
        """Return the system with the configuration and weights of a run folder or a bundled model."""
        system = cls(TaskConfig.model_validate(config))
        system.load_weights(weights)
        return system

    def extractor(self, name: str, weights_sha256: str) -> FromNetwork:
        """Return the network as an extractor for the metrics.

        Args:
            name: name of the extractor.
            weights_sha256: hash of the weights file.
        """
        config = self.config
        return FromNetwork(
            self.best_network,
            name,
            weights_sha256,
            dimensions=int(self.best_network.feature_size),  # type: ignore[arg-type]
            window_hu=config.window_hu,
            spacing_mm=config.spacing_mm,
            classes=True,
        )


System = FeatureNet
