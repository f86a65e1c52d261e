"""Merlin's inflated ResNet-152 (package merlin-vlm) as a tower."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.registry import TOWERS
from ctvlm.utils import MissingPackageError

# Parts of the published image encoder that come after the features.
HEADS = ("classifier.", "contrastive_head.")


class MerlinHead(nn.Conv3d):
    """``contrastive_head``: the mean of the features, to the shared space."""

    def forward(self, features_BExyz: Tensor) -> Tensor:
        return super().forward(features_BExyz.mean(dim=(2, 3, 4), keepdim=True)).flatten(1)


@TOWERS.register_module()
class MerlinTower(Tower):
    """The last feature map of Merlin's image encoder: 2,048 features, 32 x 32 x 16 voxels (x, y, z) apart.

    Key prefixes of Merlin's published file: ``encode_image.i3_resnet.``, and
    ``encode_image.i3_resnet.contrastive_head.`` for the head; the classifier is ignored.

    Args:
        blocks: number of bottleneck blocks in the four layers; the default is ResNet-152.
        img_size: voxels (x, y, z) of the training; smaller volumes are padded to it.
        spacing: mm per voxel (x, y, z); ``None``: that of the input.
        out_dims: width of the published embedding of a volume (512); ``None``: without its head.

    Raises:
        MissingPackageError: merlin-vlm is not installed.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int] = (3, 8, 36, 3),
        img_size: tuple[int, int, int] = (224, 224, 160),
        spacing: tuple[float, float, float] | None = (1.5, 1.5, 3.0),
        out_dims: int | None = None,
    ) -> None:
        try:
            from merlin.models.i3res import I3ResNet  # slow to import, and optional
            from torchvision.models.resnet import Bottleneck, ResNet
        except ImportError as error:
            raise MissingPackageError(f"MerlinTower needs merlin-vlm ({error}): pip install 'ctvlm[towers]'") from error
        net = I3ResNet(ResNet(Bottleneck, list(blocks)), conv_class=True)
        del net.classifier, net.contrastive_head
        convention = InputConvention("RAS", spacing, hu=(-1000.0, 1000.0), values=(0.0, 1.0), min_size=tuple(img_size))
        # Kernels are odd and padded, so each feature is centred at the first voxel of its stride.
        head = None if out_dims is None else MerlinHead(2048, out_dims, 1)
        super().__init__(net, 2048, convention, (32, 32, 16), first_center=(0.0, 0.0, 0.0), head=head)

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        x = volume_BCXYZ.permute(0, 1, 4, 2, 3).expand(-1, 3, -1, -1, -1)
        x = self.net.maxpool(self.net.relu(self.net.bn1(self.net.conv1(x))))
        for layer in self.stages():
            x = layer(x)
        return x.permute(0, 1, 3, 4, 2)

    def stages(self) -> Sequence[nn.Module]:
        return [self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4]

    def from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: value for key, value in weights.items() if not key.startswith(HEADS)}
