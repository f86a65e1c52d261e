"""Where exceptions turn into one message: what the user can put right is said in words, a bug keeps its traceback."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from difflib import get_close_matches

import mmengine.registry
import torch.distributed as dist
from mmengine.registry import Registry

import ctvlm.registry
from ctvlm.engine.cli.console import debugging
from ctvlm.utils import CTVLMError

# Raised by ctvlm where input is refused, and by the system for files. Everything else is a bug of ours.
USER_ERRORS = (CTVLMError, ValueError, OSError)
_UNREGISTERED = re.compile(r"(\S+) is not in the (\w+)::([\w ]+) registry")


def run_tool(main: Callable[[], int | None]) -> int:
    """Run a tool's main function; returns its exit code (None is 0), or 2 after one message on the standard error.

    ``--debug`` on the command line, or CTVLM_DEBUG=1, shows tracebacks and the whole log. Bugs are re-raised.
    """
    if "--debug" in sys.argv:
        os.environ["CTVLM_DEBUG"] = "1"
    try:
        code = main()
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = user_message(error)
        if message is None or debugging():
            raise
        rank = int(os.environ.get("RANK", 0))
        if rank:
            # Mostly every process fails alike. Then rank 0 speaks, and the launcher ends this one meanwhile.
            time.sleep(30)
            message = f"(process {rank}) {message}"
        traceback_in = getattr(error, "log_file", None)
        where = f"the traceback is in {traceback_in}" if traceback_in else "--debug shows the traceback"
        print(f"error: {message}\n({where})", file=sys.stderr)
        return 2
    return code or 0


def user_message(error: Exception) -> str | None:
    """What to tell the user; None for a bug."""
    text = _without_worker_traceback(str(error))
    unregistered = _UNREGISTERED.search(text) if isinstance(error, KeyError) else None
    if unregistered:
        return _unregistered_message(*unregistered.groups())
    if isinstance(error, TypeError) and _is_wrong_arguments(error):
        return f"the config does not fit the component: {text}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return text if isinstance(error, USER_ERRORS) and text else None


def _unregistered_message(name: str, scope: str, kind: str) -> str:
    name = name.strip("'\"")
    here, elsewhere = set(), []
    for registry in {id(r): r for r in _registries()}.values():
        if registry.name.replace("_", " ") == kind.replace("_", " "):
            here |= set(registry.module_dict)
        elif registry.scope == "ctvlm" and name in registry.module_dict:
            elsewhere.append(registry.name)
    parts = [f"'{name}' is not registered as a {kind}"]
    if elsewhere:
        parts.append(f"it stands in the registry of {' and '.join(elsewhere)}, which is not asked for here")
    near = get_close_matches(name, here, n=3, cutoff=0.5)
    if near:
        parts.append(f"did you mean {' or '.join(near)}?")
    parts.append(f"registered: {', '.join(sorted(here)) or 'nothing'}")
    return "; ".join(parts) + ". A component of your own must be imported through the config's custom_imports."


def _registries() -> list[Registry]:
    modules = (ctvlm.registry, mmengine.registry)
    return [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]


def _is_wrong_arguments(error: TypeError) -> bool:
    """Whether the call of a component from its config failed, and nothing inside of the component."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.replace("\\", "/").endswith("mmengine/registry/build_functions.py")


def _without_worker_traceback(text: str) -> str:
    """torch wraps the exception of a data worker into the text of its traceback: keep the last message."""
    if "Original Traceback" not in text:
        return text
    lines = text.rstrip().splitlines()
    start = max((i for i, line in enumerate(lines) if re.match(r"[\w.]+(: |$)", line)), default=0)
    return "\n".join(lines[start:]).partition(": ")[2] or lines[start]
