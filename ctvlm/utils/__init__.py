"""Small things that every floor above may use."""

from ctvlm.utils.distributed import all_gather_with_grad
from ctvlm.utils.env import describe_environment, seed_everything, seed_worker
from ctvlm.utils.errors import CTVLMError

__all__ = ["CTVLMError", "all_gather_with_grad", "describe_environment", "seed_everything", "seed_worker"]
