"""Base class of ctvlm's errors, and errors of single cases."""

from __future__ import annotations

from typing import Any

from ctvlm.utils.worker_text import worker_message


class CTVLMError(Exception):
    """An error that the user can fix. The message states what was found and what was expected.

    Subclasses may have any constructor: errors are pickled with their message and attributes. torch rebuilds an error
    of a data worker from a text with its traceback, of which only the message is kept.
    """

    def __init__(self, *args: Any) -> None:
        if len(args) == 1 and isinstance(args[0], str):
            args = (worker_message(args[0]),)
        super().__init__(*args)

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CTVLMError], args: tuple, attributes: dict[str, Any]) -> CTVLMError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class CheckpointError(CTVLMError):
    """A checkpoint that cannot be read or does not fit the model."""


class MissingPackageError(CTVLMError, ImportError):
    """An optional package is not installed. The message states how to install it."""


class BadDataError(CTVLMError, ValueError):
    """The content of a case is invalid. A data set with ``bad_cases="skip"`` replaces the case."""


class CaseError(CTVLMError, ValueError):
    """A case of a data loader cannot be loaded. The message contains the case and the file."""


class DataWorkerError(CTVLMError):
    """A data worker was killed, or loads no case any more. The message contains the case."""
