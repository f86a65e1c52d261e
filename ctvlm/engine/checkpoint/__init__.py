"""Read and write checkpoints, and match their weights to a model."""

from ctvlm.engine.checkpoint.files import CheckpointError, read_checkpoint, write_json
from ctvlm.utils.weight_match import check_fits

__all__ = ["CheckpointError", "check_fits", "read_checkpoint", "write_json"]
