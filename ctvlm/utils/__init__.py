"""Utilities shared by all packages."""

from ctvlm.utils.atomic import atomic_write
from ctvlm.utils.checks import check_choice
from ctvlm.utils.distributed import all_gather_with_grad
from ctvlm.utils.env import describe_environment, seed_everything, seed_worker
from ctvlm.utils.errors import CTVLMError, MissingPackageError
from ctvlm.utils.memory import keep_freed_memory
from ctvlm.utils.natural_sort import natural_key

__all__ = [
    "CTVLMError",
    "MissingPackageError",
    "all_gather_with_grad",
    "atomic_write",
    "check_choice",
    "describe_environment",
    "keep_freed_memory",
    "natural_key",
    "seed_everything",
    "seed_worker",
]
