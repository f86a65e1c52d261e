"""mmengine's Visualizer with backends given by name, and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import master_only
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend

from ctvlm.registry import VISBACKENDS, VISUALIZERS


@VISUALIZERS.register_module()
class CTVisualizer(Visualizer):
    """mmengine's Visualizer. It writes on rank 0 only.

    Args:
        vis_backends: names or configs of backends, such as ``["LocalVisBackend", "TensorboardVisBackend"]``.
        kwargs: as mmengine's Visualizer.
    """

    def __init__(
        self,
        name: str = "visualizer",
        vis_backends: str | dict | Sequence[str | dict | BaseVisBackend] | None = None,
        **kwargs: Any,
    ):
        listed = [vis_backends] if isinstance(vis_backends, (str, dict)) else list(vis_backends or [])
        super().__init__(name, vis_backends=[_with_class(backend) for backend in listed], **kwargs)

    @master_only
    def add_text(self, name: str, text: str, step: int = 0) -> None:
        """Write a text in Markdown to the backends that have a method ``add_text``."""
        for backend in self._vis_backends.values():
            if hasattr(backend, "add_text"):
                backend.add_text(name, text, step)


def _with_class(backend: str | dict | BaseVisBackend) -> dict | BaseVisBackend:
    """Config with the class of a backend: that of ctvlm, if there is one, whatever the current scope is."""
    config = dict(type=backend) if isinstance(backend, str) else backend
    if isinstance(config, dict) and isinstance(config.get("type"), str):
        config = {**config, "type": VISBACKENDS.get(config["type"]) or config["type"]}
    return config
