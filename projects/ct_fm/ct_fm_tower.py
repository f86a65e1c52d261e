"""CT-FM's encoder (MONAI's SegResEncoder) as a tower."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.registry import TOWERS
from ctvlm.utils import MissingPackageError


@TOWERS.register_module()
class CTFMTower(Tower):
    """The deepest feature map of CT-FM's encoder: 512 features, 16 voxels apart in each direction.

    The file of the feature extractor has the names of the encoder (``prefix=""``); in files of a SegResNet they start
    with ``encoder.``. The defaults are the published ones.

    Args:
        init_filters: channels of the first level; they double with each level.
        blocks: residual blocks of each level; the stride doubles between levels.
        spacing: mm per voxel (z, y, x); ``None``: that of the input, as published.

    Raises:
        MissingPackageError: MONAI is not installed.
    """

    def __init__(
        self,
        init_filters: int = 32,
        blocks: Sequence[int] = (1, 2, 2, 4, 4),
        spacing: tuple[float, float, float] | None = None,
    ) -> None:
        try:
            from monai.networks.nets.segresnet_ds import SegResEncoder  # slow to import, and optional
        except ImportError as error:
            raise MissingPackageError(f"CTFMTower needs MONAI ({error}): pip install 'ctvlm[towers]'") from error
        net = SegResEncoder(spatial_dims=3, in_channels=1, init_filters=init_filters, blocks_down=tuple(blocks))
        stride = 2 ** (len(blocks) - 1)
        convention = InputConvention("SPL", spacing, hu=(-1024.0, 2048.0), multiple=(stride,) * 3)
        # Kernels are odd and padded, so each feature is centred at the first voxel of its stride.
        super().__init__(net, init_filters * stride, convention, stride=(stride,) * 3, first_center=(0.0, 0.0, 0.0))

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        return self.net(volume_BCXYZ)[-1]

    def stages(self) -> Sequence[nn.Module]:
        first, *others = self.net.layers
        return [nn.ModuleList([self.net.conv_init, first]), *others]
