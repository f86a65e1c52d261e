"""Turn user errors into one message; bugs keep their traceback."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from difflib import get_close_matches

from ctvlm.engine.cli.console import debugging
from ctvlm.engine.cli.peer_errors import is_lost_connection, peer_message
from ctvlm.utils import CTVLMError
from ctvlm.utils.parent_watch import watch_parent
from ctvlm.utils.stop_signals import STOP_SIGNALS, exit_code_of, handle_stop_signals, show_cursor
from ctvlm.utils.terminal_text import printable
from ctvlm.utils.worker_text import worker_message

# Raised by ctvlm for invalid input, and by the system for files. All other exceptions are bugs.
USER_ERRORS = (CTVLMError, ValueError, OSError)
_UNREGISTERED = re.compile(r"(\S+) is not in the (\w+)::([\w ]+) registry")


def run_tool(main: Callable[[], int | None]) -> int:
    """Run the main function of a tool.

    A user error is printed to stderr as one message. ``--debug`` or CTVLM_DEBUG=1 shows tracebacks and the complete
    log.

    Returns:
        The exit code of ``main`` (0 for None), 2 after a user error, or 128 + number of the signal (130 after Ctrl-C).

    Raises:
        Exception: any exception that is not a user error.
    """
    if "--debug" in sys.argv:
        os.environ["CTVLM_DEBUG"] = "1"
    watch_parent()
    interrupted = False
    with handle_stop_signals():
        try:
            code = main()
            _leave_process_group()
        except KeyboardInterrupt as error:
            code, interrupted = _end_interrupted(error), True
        except Exception as error:
            if is_lost_connection(error):  # the process that failed prints the cause
                _wait_for_launcher()
            message = user_message(error)
            if message is None or debugging():
                raise
            _print_error(error, message)
            return 2
    if interrupted and "WORLD_SIZE" in os.environ:
        # A launcher ends all processes after the first one has ended, which would change their exit codes.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return code or 0


def _end_interrupted(error: KeyboardInterrupt) -> int:
    """Print one line; returns the exit code."""
    show_cursor()
    if os.environ.get("RANK", "0") == "0":
        print(f"\n{printable(error) or 'interrupted'}", file=sys.stderr)
    if getattr(error, "agreed", False):
        _leave_process_group()
    return exit_code_of(error)


def _print_error(error: Exception, message: str) -> None:
    rank = int(os.environ.get("RANK", 0))
    if rank:
        if not is_lost_connection(error):  # usually all ranks fail with the same error, and rank 0 prints it
            _wait_for_launcher()
        message = f"(process {rank}) {message}"
    log_file = getattr(error, "log_file", None)
    hint = f"the traceback is in {log_file}" if log_file else "--debug shows the traceback"
    # Messages may contain text of files: a manifest, a report, a checkpoint.
    message = "\n".join(map(printable, message.split("\n")))
    print(f"error: {message}\n({hint})", file=sys.stderr)


def _wait_for_launcher() -> None:
    """Give the launcher time to end this process after another one has failed."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    time.sleep(30)


def _leave_process_group() -> None:
    """Leave the process group of distributed training, if this process has joined one."""
    if "torch" in sys.modules:  # a tool that has not imported torch need not wait for it
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


def user_message(error: Exception) -> str | None:
    """Message for the user; None if the error is a bug."""
    from ctvlm.engine.cli.argument_errors import missing_type, unexpected_argument

    text = worker_message(str(error))
    unregistered = _UNREGISTERED.search(text) if isinstance(error, KeyError) else None
    if unregistered:
        return _unregistered_message(*unregistered.groups())
    if isinstance(error, KeyError) and (message := missing_type(error)):
        return message
    if isinstance(error, TypeError) and (message := unexpected_argument(error)):
        return message
    if isinstance(error, TypeError) and _is_wrong_arguments(error):
        return f"invalid arguments in the config: {text}"
    if message := peer_message(error):
        return message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {printable(error.filename)}" if error.filename else error.strerror
    return text if isinstance(error, USER_ERRORS) and text else None


def _unregistered_message(name: str, scope: str, kind: str) -> str:
    from ctvlm.engine.cli.registries import all_registries  # imports mmengine

    name = name.strip("'\"")
    available: set[str] = set()
    other_kinds = []
    for registry in all_registries():
        if registry.name.replace("_", " ") == kind.replace("_", " "):
            available |= set(registry.module_dict)
        elif registry.scope == "ctvlm" and name in registry.module_dict:
            other_kinds.append(registry.name)
    parts = [f"'{name}' is not registered as a {kind}"]
    if other_kinds:
        parts.append(f"it is registered as a {' and a '.join(other_kinds)}")
    matches = get_close_matches(name, available, n=3, cutoff=0.5)
    if matches:
        parts.append(f"did you mean {' or '.join(matches)}?")
    parts.append(f"registered: {', '.join(sorted(available)) or 'none'}")
    return "; ".join(parts) + ". A custom component must be imported with custom_imports of the config."


def _is_wrong_arguments(error: TypeError) -> bool:
    """Whether calling a component with the arguments of its config failed, and not code inside the component."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.replace("\\", "/").endswith("mmengine/registry/build_functions.py")
