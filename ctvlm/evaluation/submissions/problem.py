"""What is wrong with a submission."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One finding of a checker.

    Attributes:
        where: case or part of the file.
        what: what was found, what was expected, what to do.
        fatal: the challenge would refuse or misread it; otherwise it is only unusual.
    """

    where: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.fatal else 'warning'}: {self.where}: {self.what}"
