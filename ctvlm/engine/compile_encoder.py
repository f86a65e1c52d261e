"""torch.compile of the vision encoder."""

from __future__ import annotations

import shutil
from typing import Any

from torch import nn

from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.utils import CTVLMError

# Selected tokens are padded to a multiple of this, so that the kernels have few shapes.
TOKEN_MULTIPLE = 16
COMPILERS = ("c++", "g++", "clang++")


def compile_encoder(model: nn.Module, **options: Any) -> None:
    """Compile the vision encoder of a model as one graph, in place. The state dict keeps its keys.

    The graph is made at the first batch, and again for another batch size, with an undetermined size. Texts, objectives
    and the optimizer are not compiled: their sizes change with every batch.

    Args:
        options: of torch.compile, such as ``mode``.

    Raises:
        CTVLMError: the encoder cannot be compiled, or the machine has no C++ compiler and no GPU.
    """
    inner: Any = unwrap_model(model)
    backbone: Any = getattr(inner, "backbone", None)
    if not hasattr(backbone, "token_multiple"):  # of ThreeDVisionEncoder, whose import takes long
        raise CTVLMError(
            f"compile: found the vision encoder {type(backbone).__name__}, which cannot be compiled; expected a "
            "ThreeDVisionEncoder or a subclass. Train without --compile"
        )
    if next(inner.parameters()).device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise CTVLMError(
            f"compile: found none of {', '.join(COMPILERS)}; torch.compile needs a C++ compiler on a CPU. "
            "Install one, or train without --compile"
        )
    backbone.token_multiple = TOKEN_MULTIPLE
    backbone.compile(fullgraph=True, **options)
