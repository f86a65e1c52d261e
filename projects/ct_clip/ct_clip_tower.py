"""CT-CLIP's image encoder (CTViT) as a tower, with its published embedding of a volume."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ctvlm.models.backbones import InputConvention, Tower
from ctvlm.registry import TOWERS
from projects.ct_clip.ct_vit import CTViTEncoder

# Parts of the published image encoder that its tokens do not use: the embedding of single slices, the decoder, the
# networks of its losses, the statistics of the codebook, and the parts of cross-attention.
UNUSED = ("to_patch_emb_first_frame.", "dec_", "to_pixels", "discr.", "vgg.")
UNUSED_ENDS = (".null_kv", ".context_norm.gamma", ".context_norm.beta", "_codebook.initted", "_codebook.cluster_size")


class CTClipHead(nn.Linear):
    """``to_visual_latent``: the mean over depth of all tokens, to the shared space."""

    def forward(self, features_BEthw: Tensor) -> Tensor:
        return super().forward(features_BEthw.mean(dim=2).permute(0, 2, 3, 1).flatten(1))


@TOWERS.register_module()
class CTClipTower(Tower):
    """The quantised tokens of CT-CLIP's image encoder: 512 features, 10 x 20 x 20 voxels (z, x, y) apart.

    Key prefixes of the published file: ``visual_transformer.``, and ``to_visual_latent.`` for the head. The defaults
    are CT-CLIP v2.

    Args:
        head_dims: width of an attention head.
        img_size: voxels (z, x, y) of the training; smaller volumes are padded to it.
        spacing: mm per voxel (z, x, y); ``None``: that of the input.
        out_dims: width of the published embedding of a volume (512); ``None``: without its head.
    """

    def __init__(
        self,
        embed_dims: int = 512,
        spatial_depth: int = 4,
        temporal_depth: int = 4,
        num_heads: int = 8,
        head_dims: int = 32,
        img_size: tuple[int, int, int] = (240, 480, 480),
        patch_size: tuple[int, int, int] = (10, 20, 20),
        codebook_size: int = 8192,
        spacing: tuple[float, float, float] | None = (1.5, 0.75, 0.75),
        out_dims: int | None = None,
    ) -> None:
        patch = tuple(patch_size)
        net = CTViTEncoder(embed_dims, spatial_depth, temporal_depth, num_heads, head_dims, patch, codebook_size)
        convention = InputConvention(
            "SLP",
            spacing,
            hu=(-1000.0, 1000.0),
            values=(-1.0, 1.0),
            multiple=patch,
            min_size=tuple(img_size),
            window_first=True,
            keeps="border",
        )
        places = (img_size[1] // patch[1]) * (img_size[2] // patch[2])
        head = None if out_dims is None else CTClipHead(places * embed_dims, out_dims, bias=False)
        super().__init__(net, embed_dims, convention, patch, head=head)

    def forward(self, volume_BCXYZ: Tensor) -> Tensor:
        return self.net(volume_BCXYZ).movedim(-1, 1)

    def stages(self) -> Sequence[nn.Module]:
        net, space, depth = self.net, self.net.enc_spatial_transformer, self.net.enc_temporal_transformer
        first = nn.ModuleList([net.to_patch_emb, net.spatial_rel_pos_bias])
        last = nn.ModuleList([depth.layers[-1], depth.norm_out])
        return [first, *space.layers, space.norm_out, *depth.layers[:-1], last]

    def from_published(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in weights.items()
            if not name.startswith(UNUSED) and not name.endswith(UNUSED_ENDS)
        }
