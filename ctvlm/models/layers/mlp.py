"""Feed-forward network of a transformer block."""

from __future__ import annotations

import torch.nn as nn
from torch import Tensor

from ctvlm.models.layers.init import init_vit
from ctvlm.registry import LAYERS


@LAYERS.register_module()
class MLP(nn.Module):
    """Linear, GELU, linear: (..., E) to (..., E).

    A replacement takes the same arguments. Its last linear layer should be called ``fc2``, see ThreeDTransformerBlock.
    """

    def __init__(self, embed_dims: int, hidden_dims: int | None = None, drop: float = 0.0) -> None:
        super().__init__()
        hidden_dims = hidden_dims or 4 * embed_dims
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.act = nn.GELU()
        self.drop = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)
        self.apply(init_vit)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
