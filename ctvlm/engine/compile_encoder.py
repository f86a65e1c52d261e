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
    """Compile the vision encoder of a model, see ``compile_backbone``.

    Texts, objectives and the optimizer are not compiled: their sizes change with every batch.
    """
    inner: Any = unwrap_model(model)
    compile_backbone(getattr(inner, "backbone", None), **options)


def compile_backbone(backbone: Any, **options: Any) -> None:
    """Compile a vision encoder as one graph, in place. The state dict keeps its keys.

    The graph is made at the first batch, and again for another batch size or number of tokens, with undetermined sizes.

    Args:
        options: of torch.compile, such as ``mode``.

    Raises:
        CTVLMError: the encoder cannot be compiled, or the machine has no C++ compiler and no GPU.
    """
    if not hasattr(backbone, "token_multiple"):  # of ThreeDVisionEncoder, whose import takes long
        raise CTVLMError(
            f"compile: found the vision encoder {type(backbone).__name__}, which cannot be compiled; expected a "
            "ThreeDVisionEncoder or a subclass. Train without --compile"
        )
    if next(backbone.parameters()).device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        raise CTVLMError(
            f"compile: found none of {', '.join(COMPILERS)}; torch.compile needs a C++ compiler on a CPU. "
            "Install one, or train without --compile"
        )
    backbone.token_multiple = TOKEN_MULTIPLE
    backbone.compile(fullgraph=True, **options)
