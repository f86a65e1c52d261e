"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import typer

# Options with several values, as in the mm-family: --cfg-options a=1 b=2.
_REPEATED = ("--cfg-options",)
# Options whose value may be omitted, and the value that is used then.
_OPTIONAL = {"--resume": "auto"}


class Launcher(str, Enum):
    """How the processes of a distributed run are started."""

    none = "none"
    pytorch = "pytorch"
    slurm = "slurm"
    mpi = "mpi"


def flag(name: str, **settings: Any) -> Any:
    """An option without a value."""
    return typer.Option(name, metavar="", **settings)


Config = Annotated[str, typer.Argument(metavar="CONFIG", help="config file, or the name of one of ctvlm's configs")]
WorkDir = Annotated[str | None, typer.Option(metavar="FOLDER", help="default: work_dirs/<config name>")]
CfgOptions = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE ...", help="override keys of the config: a.b=1 c=[2,3]")
]
LauncherOption = Annotated[Launcher, typer.Option(help="how the processes were started")]
# Passed by old launchers.
LocalRank = Annotated[int | None, typer.Option("--local-rank", "--local_rank", hidden=True)]
AllowOutside = Annotated[bool, flag("--allow-outside", help="trust the manifest: accept files outside its folder")]
Json = Annotated[bool, flag("--json", help="print one JSON document and nothing else")]
Debug = Annotated[bool, flag("--debug", help="show tracebacks and the complete log")]


def with_values(arguments: Sequence[str]) -> list[str]:
    """Rewrite options with several values, or without a value, to one value each.

    ``--cfg-options a=1 b=2`` becomes ``--cfg-options=a=1 --cfg-options=b=2``, and ``--resume`` becomes
    ``--resume=auto``. Values end at the next word that starts with a hyphen.
    """
    out: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in _REPEATED:
            values = _take(rest, len(rest))
            out += [f"{word}={value}" for value in values] or [word]
        elif word in _OPTIONAL:
            values = _take(rest, 1)
            out.append(f"{word}={values[0] if values else _OPTIONAL[word]}")
        else:
            out.append(word)
    return out


def _take(words: list[str], count: int) -> list[str]:
    """Remove and return the first words that do not start with a hyphen."""
    taken: list[str] = []
    while words and len(taken) < count and not words[0].startswith("-"):
        taken.append(words.pop(0))
    return taken
