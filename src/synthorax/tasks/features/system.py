"""The network whose features patches are compared by: trained here, on the real patches' own tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from synthorax.metrics.extractors import FromNetwork
from synthorax.tasks.classification import Classification
from synthorax.tasks.config import TaskConfig


class FeatureNet(Classification):
    """A detector that also tells nodules by texture and size, so that its features see both."""

    name = "features"

    @classmethod
    def restore(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> FeatureNet:
        """What a run folder or a bundled model holds."""
        system = cls(TaskConfig.model_validate(config))
        system.load_weights(weights)
        return system

    def extractor(self, name: str, weights_sha256: str) -> FromNetwork:
        """Its features, as the metrics take them."""
        config = self.config
        return FromNetwork(
            self.network,
            name,
            weights_sha256,
            dimensions=int(self.network.feature_size),  # type: ignore[arg-type]
            window_hu=config.window_hu,
            spacing_mm=config.spacing_mm,
            classes=True,
        )


System = FeatureNet
