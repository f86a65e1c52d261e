"""Contract of a published vision tower: its input convention and its feature grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from ctvlm.utils import CTVLMError, check_choice

# Directions in which the axes (z, y, x) of ctvlm's volumes grow, and the opposite of each direction.
ZYX = "SAR"
OPPOSITE = dict(zip("SARIPL", "IPLSAR"))
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputConvention:
    """How a tower expects its input (B, C, X, Y, Z). Triples are in the order of the tower's own axes.

    Attributes:
        orientation: direction in which each axis grows, as in nibabel's axis codes: 'RAS' is an array (x, y, z) of
            an RAS+ image, 'SAR' is ctvlm's (z, y, x).
        spacing: mm per voxel; ``None``: the spacing of the input.
        hu: range of Hounsfield units that is mapped to ``values``, with clipping.
        multiple: sizes are padded with air, on both sides, to a multiple of this.
        min_size: size to which smaller volumes are padded. The published embedding of a volume (``Tower.embed``) reads
            exactly this size: larger volumes are cropped around their centre.
        channels: number of equal channels.
        window_first: map HU to values before the volume is resampled, else after it.
        keeps: what resampling leaves in place: ``first``: the centre of the first voxel (MONAI's Spacing); ``center``:
            that of the volume (TorchIO's Resample); ``border``: both borders, so that the spacing is not exact
            (torch's interpolate).
        odd_first: of an odd number of voxels to pad or crop, one more is at the start of the axis, else at its end.
    """

    orientation: str
    spacing: Triple | None
    hu: tuple[float, float]
    values: tuple[float, float] = (0.0, 1.0)
    multiple: tuple[int, int, int] = (1, 1, 1)
    min_size: tuple[int, int, int] = (1, 1, 1)
    channels: int = 1
    window_first: bool = False
    keeps: str = "first"
    odd_first: bool = False

    def __post_init__(self) -> None:
        check_choice("InputConvention", "keeps", self.keeps, ("first", "center", "border"))
        if sorted(min(code, OPPOSITE.get(code, "")) for code in self.orientation) != ["A", "I", "L"]:
            raise ValueError(
                f"orientation = {self.orientation!r}; expected three letters, one of each pair R/L, A/P, S/I, as 'RAS'"
            )
        if self.spacing is not None and (len(self.spacing) != 3 or min(self.spacing) <= 0):
            raise ValueError(f"spacing = {self.spacing}; expected three positive numbers of mm, or None")

    @property
    def axes(self) -> tuple[int, int, int]:
        """Axis of (z, y, x) that each axis of the tower is."""
        first, second, third = (ZYX.index(code if code in ZYX else OPPOSITE[code]) for code in self.orientation)
        return first, second, third

    @property
    def flipped(self) -> tuple[bool, bool, bool]:
        """Whether each axis of the tower grows against ctvlm's axis."""
        first, second, third = (code not in ZYX for code in self.orientation)
        return first, second, third

    def window(self, hu: Tensor) -> Tensor:
        """HU to the values of the tower."""
        (low, high), (first, last) = self.hu, self.values
        return ((hu - low) / (high - low)).clamp(0, 1) * (last - first) + first


class Tower(nn.Module, ABC):
    """Base class of published towers, registered in TOWERS: volumes (B, C, X, Y, Z) to features (B, E, x, y, z).

    A subclass builds ``net``, whose state dict is what a checkpoint is matched with, and implements ``forward`` and
    ``stages``. Feature ``i`` of an axis is centred at voxel ``first_center + i * stride``.

    Args:
        net: the published module.
        width: number of features.
        stride: voxels between two features, in the order of the tower's axes.
        first_center: voxel at the centre of the first feature; default: that of a patch of ``stride`` voxels. A
            convolution with an odd kernel and padding has 0.
        head: published layers from features to the embedding of a volume, for ``embed``; ``None``: they are not built.
    """

    def __init__(
        self,
        net: nn.Module,
        width: int,
        convention: InputConvention,
        stride: tuple[int, int, int],
        first_center: Triple | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.net, self.width, self.convention, self.stride = net, width, convention, stride
        self.first_center = first_center or ((stride[0] - 1) / 2, (stride[1] - 1) / 2, (stride[2] - 1) / 2)
        self.head = head

    @abstractmethod
    def forward(self, volume_BCXYZ: Tensor) -> Tensor: ...

    @abstractmethod
    def stages(self) -> Sequence[nn.Module]:
        """Modules in the order in which they run; ``train='top'`` trains the last ones."""

    def from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a published checkpoint, below its key prefix, with the names of ``net``."""
        return weights

    def embed(self, volume_BCXYZ: Tensor) -> Tensor:
        """Published embedding of volumes of the size ``convention.min_size`` (B, P), not normalised."""
        return self.published_head()(self.forward(volume_BCXYZ))

    def published_head(self) -> nn.Module:
        """The head.

        Raises:
            CTVLMError: the tower was built without it, or has none.
        """
        if self.head is None:
            raise CTVLMError(
                f"{type(self).__name__} has no published embedding of a volume: set out_dims of the tower, if it has "
                "this argument"
            )
        return self.head

    def head_from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a published checkpoint, below the key prefix of the head, with the names of ``head``."""
        return weights
