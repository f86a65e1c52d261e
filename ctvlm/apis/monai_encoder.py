"""The vision encoder of a model in MONAI's conventions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ctvlm.apis.encoder import CTEncoder
from ctvlm.apis.init_model import ModelSource, init_model


class MonaiEncoder(nn.Module):
    """The vision encoder as a module for MONAI: input (B, C, H, W, D) in RAS orientation and HU.

    The input is what ``LoadImaged``, ``EnsureChannelFirstd`` and ``Orientationd(axcodes="RAS")`` give: one channel of
    HU whose axes point to the right, the front and the head. The output is a feature map (B, E, h, w, d) in the same
    order, with one cell per patch. Train it further as any module; gradients flow through it.

    Example::

        from ctvlm.apis import MonaiEncoder

        encoder = MonaiEncoder("epoch_8.pth")
        features = encoder(image)  # (B, 1, H, W, D) to (B, E, h, w, d)

    Args:
        model: a source of ``init_model``, or a built model; None: the model of the package.
        checkpoint, device: see ``init_model``.

    Raises:
        ConfigError, CheckpointError: as ``init_model``.
        ValueError: the input has more than one channel, or the patch size does not divide it.
    """

    def __init__(
        self,
        model: ModelSource | nn.Module | None = None,
        checkpoint: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        self.encoder = CTEncoder(model if isinstance(model, nn.Module) else init_model(model, checkpoint, device))

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Voxels of a patch in the input's order (H, W, D)."""
        return tuple(reversed(self.encoder.backbone.patch_size))

    def forward(self, image_B1HWD: Tensor, spacing_B3: Tensor | None = None) -> Tensor:
        """Feature map (B, E, h, w, d).

        Args:
            spacing_B3: voxel size in mm in the input's order; None: from the affine of a MetaTensor, else 1 mm.
        """
        encoded = self.encoder.encode(*self._inputs(image_B1HWD, spacing_B3))
        return encoded.tokens.transpose(1, 2).unflatten(2, encoded.grid).permute(0, 1, 4, 3, 2)

    def embed(self, image_B1HWD: Tensor, spacing_B3: Tensor | None = None) -> Tensor:
        """Unit embedding of the volume in the space of the texts (B, P)."""
        return self.encoder.features(*self._inputs(image_B1HWD, spacing_B3)).volume

    def _inputs(self, image_B1HWD: Tensor, spacing_B3: Tensor | None) -> tuple[Tensor, Tensor]:
        if image_B1HWD.ndim != 5 or image_B1HWD.shape[1] != 1:
            raise ValueError(
                f"the image has shape {tuple(image_B1HWD.shape)}; expected (B, 1, H, W, D) in HU, without windowing"
            )
        if spacing_B3 is None:
            spacing_B3 = _spacing(image_B1HWD)
        if hasattr(image_B1HWD, "as_tensor"):  # a MetaTensor, whose metadata would be carried through every layer
            image_B1HWD = image_B1HWD.as_tensor()
        return image_B1HWD.permute(0, 1, 4, 3, 2).float(), spacing_B3.flip(-1).to(image_B1HWD.device, torch.float32)


def _spacing(image_B1HWD: Any) -> Tensor:
    """Voxel size of a MetaTensor (B, 3); its affine is (4, 4), or (B, 4, 4) after collation."""
    affine = getattr(image_B1HWD, "affine", None)
    batch = image_B1HWD.shape[0]
    if affine is None:
        return torch.ones(batch, 3)
    return torch.as_tensor(affine)[..., :3, :3].norm(dim=-2).expand(batch, 3)
