from .atomic import WriteError as WriteError, append_text as append_text, atomic_write as atomic_write
from .checks import check_choice as check_choice
from .distributed import all_gather_with_grad as all_gather_with_grad
from .env import (
    describe_environment as describe_environment,
    random_states_kept as random_states_kept,
    seed_everything as seed_everything,
)
from .errors import (
    BadDataError as BadDataError,
    CaseError as CaseError,
    CTVLMError as CTVLMError,
    DataWorkerError as DataWorkerError,
    MissingPackageError as MissingPackageError,
)
from .memory import keep_freed_memory as keep_freed_memory
from .natural_sort import natural_key as natural_key
from .outputs import (
    OutputPathError as OutputPathError,
    check_out_file as check_out_file,
    check_out_folder as check_out_folder,
)
