"""A problem in a submission."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem in a submission.

    Attributes:
        where: case or part of the file.
        what: message with the found value, the expected value and the action.
        fatal: the challenge would reject or misread the submission; otherwise it is a warning.
    """

    where: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.fatal else 'warning'}: {self.where}: {self.what}"
