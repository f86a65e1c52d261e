"""Where a run writes scalars, the config, pictures and texts: local files, TensorBoard, Weights & Biases."""

from ctvlm.engine.visualizer.backends import LocalVisBackend, TensorboardVisBackend, WandbVisBackend
from ctvlm.engine.visualizer.ct_visualizer import CTVisualizer

__all__ = ["CTVisualizer", "LocalVisBackend", "TensorboardVisBackend", "WandbVisBackend"]
