"""mmengine's optimizers without transformers.

mmengine imports transformers' trainer for one optimizer, Adafactor, and with it peft, torchvision, SciPy and
torch._dynamo: several seconds of each start. Here, transformers is imported when Adafactor is built.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_BUILDER = "mmengine.optim.optimizer.builder"


def adafactor(*args: Any, **kwargs: Any) -> Any:
    """The optimizer Adafactor of transformers; see its documentation for the arguments."""
    from transformers import Adafactor

    return Adafactor(*args, **kwargs)


class _Builder(SourceFileLoader):
    """Loads mmengine's builder, which registers ``transformers.Adafactor``, with a placeholder for transformers."""

    def exec_module(self, module: ModuleType) -> None:
        placeholder: Any = ModuleType("transformers")
        placeholder.Adafactor = adafactor
        before = sys.modules.get("transformers")
        sys.modules["transformers"] = placeholder
        try:
            super().exec_module(module)
        finally:
            if before is None:
                del sys.modules["transformers"]
            else:
                sys.modules["transformers"] = before


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == _BUILDER else None
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _Builder(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Let later imports of mmengine use the placeholder."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
