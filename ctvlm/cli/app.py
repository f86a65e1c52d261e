"""The entry point ``ctvlm``: its commands, and how errors are reported."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ctvlm.cli.arguments import flag, with_values
from ctvlm.cli.classify_command import classify_command
from ctvlm.cli.embed_command import embed_command
from ctvlm.cli.list_command import list_command
from ctvlm.cli.reason_command import reason_command
from ctvlm.cli.search_command import search_command
from ctvlm.cli.segment_command import segment_command
from ctvlm.cli.test_command import test_command
from ctvlm.cli.train_command import train_command
from ctvlm.cli.verify_command import verify_command
from ctvlm.cli.view import view_command
from ctvlm.version import __version__

COMMANDS: dict[str, dict[str, Callable]] = {
    "Use a model": {
        "view": view_command,
        "embed": embed_command,
        "classify": classify_command,
        "search": search_command,
        "segment": segment_command,
        "reason": reason_command,
    },
    "Train a model": {"train": train_command, "test": test_command, "verify": verify_command},
    "Look up names": {"list": list_command},
}
# typer exports only this subclass of the error.
UsageError: Any = typer.BadParameter.__base__


def main() -> int:
    """Run the command in the arguments of the process; returns the exit code, see ``run_command``."""
    return _run(typer.main.get_command(app), sys.argv[1:] or ["--help"], "ctvlm")


def run_command(name: str, arguments: Sequence[str], prog: str) -> int:
    """Run one command, also for the script in ``tools/`` that does the same.

    Args:
        name: such as ``train``.
        prog: what the user calls, for help and error messages.

    Returns:
        The exit code: that of the command, 2 after a user error (one message on stderr), or 130 after Ctrl-C.
    """
    group: Any = typer.main.get_command(app)
    return _run(group.commands[name], arguments, prog)


def _run(command: Any, arguments: Sequence[str], prog: str) -> int:
    try:
        return command.main(args=with_values(arguments), prog_name=prog, standalone_mode=False) or 0
    except UsageError as error:
        where = error.ctx.command_path if error.ctx else prog
        message = " ".join(error.format_message().split())
        print(f"error: {message}\n({where} --help lists the arguments)", file=sys.stderr)
        return 2


def _show_version(value: bool) -> None:
    """Print the version and exit."""
    if value:
        print(__version__)
        raise typer.Exit


def _in_tool(function: Callable) -> Callable:
    """Run a command with the error messages of a tool."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> int:
        from ctvlm.engine.cli.errors import run_tool

        # custom_imports of a config may name modules of the current folder, such as projects/.
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return run_tool(lambda: function(*args, **kwargs))

    return run


def _paragraphs(function: Callable) -> str:
    """Docstring of a function without the line breaks inside its paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))


def _build() -> typer.Typer:
    built = typer.Typer(
        help="3D CT vision-language learning: look at a CT, embed, classify and search CTs, train models.",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @built.callback()
    def options(
        version: Annotated[
            bool, flag("--version", callback=_show_version, is_eager=True, help="print the version")
        ] = False,
    ) -> None:
        pass

    for panel, commands in COMMANDS.items():
        for name, function in commands.items():
            built.command(name, help=_paragraphs(function), rich_help_panel=panel)(_in_tool(function))
    return built


app = _build()
