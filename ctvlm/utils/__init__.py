"""Small things that every floor above may use."""

from ctvlm.utils.distributed import all_gather_with_grad
from ctvlm.utils.env import describe_environment, seed_everything, seed_worker
from ctvlm.utils.errors import CTVLMError
from ctvlm.utils.memory import keep_freed_memory

__all__ = [
    "CTVLMError",
    "all_gather_with_grad",
    "describe_environment",
    "keep_freed_memory",
    "seed_everything",
    "seed_worker",
]
