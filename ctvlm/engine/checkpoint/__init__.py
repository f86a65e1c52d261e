"""Read and write checkpoints, and match their weights to a model."""

from ctvlm.engine.checkpoint.files import CheckpointError, read_checkpoint, write_json

__all__ = ["CheckpointError", "read_checkpoint", "write_json"]
