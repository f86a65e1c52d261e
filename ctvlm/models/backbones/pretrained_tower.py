"""A published vision tower as an encoder of ctvlm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ctvlm.models.backbones.base import VisionEncoder, host_token_spacing
from ctvlm.models.backbones.feature_cache import FeatureCache
from ctvlm.models.backbones.tower import Tower
from ctvlm.models.backbones.tower_canvas import from_canvas, to_canvas
from ctvlm.models.backbones.tower_weights import choose_trained, load_tower
from ctvlm.models.layers import check_channels, grid_of, init_vit
from ctvlm.models.layers.patch_embedding import as_grid
from ctvlm.registry import BACKBONES, TOWERS
from ctvlm.structures import Anatomy, EncoderOutput, TokenContext
from ctvlm.utils.errors import CTVLMError
from ctvlm.utils.pretrained_files import KEY, loads_weights, pack_files, take_packed_files
from ctvlm.utils.published_weights import read_published

# Key of the size of patches in mm on the host (B, 3): sizes of the tower's input depend on it.
PATCH_MM = "patch_mm"


@BACKBONES.register_module()
class PretrainedTower(VisionEncoder):
    """A published tower; its features are tokens on the patch grid of the input, and are pooled by region.

    The volume in HU is brought to the tower's convention (orientation, spacing, window, size), and the features are
    interpolated at the centres of the patches in mm, or averaged where a patch is larger than a feature. Tokens,
    attention maps and regions are therefore on the grid of the input. A linear layer and a norm follow, which are
    always trained. Patches of about the size of a feature (stride times spacing of the tower) lose least.

    The state dict contains the weights of the tower. A model that is built from its own checkpoint does not read
    ``pretrained`` again.

    Args:
        tower: config of a TOWERS component.
        pretrained: file of the published weights; ``None``: random weights, with a warning.
        prefix: start of the tower's names in that file; other names are ignored.
        train: ``frozen`` (no gradients, evaluation mode); ``top``: the last ``top_stages`` stages; ``lora``: adapters
            of all linear and convolution layers without groups, with ``lora`` as arguments of ``peft.LoraConfig``;
            ``full``. Batch norms keep their statistics in every mode.
        patch_size: voxels of the input per token (z, y, x).
        cache_dir: folder for the features of a frozen tower, see FeatureCache. A training, with its validation, writes
            and reads them; random augmentation makes them useless. They are data of patients, like the volumes.

    Raises:
        CheckpointError: the file cannot be read, or its weights do not match.
        CTVLMError: the package of the tower or peft is missing, or patches are masked.
        ValueError: an option is invalid.
    """

    reads_hu = True

    def __init__(
        self,
        tower: dict[str, Any],
        pretrained: str | None = None,
        prefix: str = "",
        train: str = "frozen",
        top_stages: int = 2,
        lora: dict[str, Any] | None = None,
        patch_size: tuple[int, int, int] = (4, 16, 16),
        embed_dims: int = 384,
        num_regions: int = 20,
        region_encoder: dict | None = None,
        cache_dir: str | None = None,
    ) -> None:
        if cache_dir is not None and train != "frozen":
            raise ValueError(f"backbone.cache_dir needs train = 'frozen', found train = {train!r}")
        super().__init__(embed_dims, num_regions, region_encoder, in_channels=1)
        built: Tower = TOWERS.build(tower)
        name = type(built).__name__
        if built.head is not None:
            raise ValueError("backbone.tower.out_dims: PretrainedTower has no use for the head of a tower; remove it")
        if loads_weights():
            pass  # the published file may be on another machine
        elif pretrained is None:
            print_log(f"backbone.pretrained is not set: {name} has random weights", logger="current", level=30)
        else:
            count = load_tower(built, read_published(pretrained), pretrained, prefix, "backbone")
            print_log(f"{name}: {count} weights loaded from {pretrained}", logger="current")
        if pretrained is not None:
            self.register_buffer(KEY, pack_files(pretrained, {}))
        self.convention, self.stride, self.first_center = built.convention, built.stride, built.first_center
        self.trained = train
        self.tower, self._in_training = choose_trained(built, train, top_stages, lora)
        self.patch_size = as_grid(patch_size)
        self.cache = None if cache_dir is None else FeatureCache(cache_dir, tower)
        self._was_trained = False
        self.proj = nn.Linear(built.width, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)
        self.proj.apply(init_vit)
        self.train()

    def train(self, mode: bool = True) -> PretrainedTower:
        """Set the mode; frozen parts and batch norms of the tower stay in evaluation mode."""
        super().train(mode)
        self.tower.eval()
        for module in self._in_training:
            module.train(mode)
        for module in self.tower.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        take_packed_files(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(
        self,
        volume_BCDHW: Tensor,
        region_map_BDHW: Tensor | None = None,
        spacing_B3: Tensor | None = None,
        anatomy: Anatomy | None = None,
        window: Callable[[Tensor], Tensor] | None = None,
        context: TokenContext | None = None,
    ) -> EncoderOutput:
        """``volume_BCDHW`` is in HU with one channel. ``window`` is not used: the tower has its own."""
        self.check_region_map(volume_BCDHW, region_map_BDHW)
        ctx = self.token_context(volume_BCDHW, spacing_B3) if context is None else context
        tokens_BNE = self.norm(self.proj(self.features(volume_BCDHW, ctx)))
        ctx = ctx.with_anatomy(anatomy)
        encoding = self.region_encoder.assign(tokens_BNE, region_map_BDHW, ctx)
        return self.assemble(tokens_BNE, ctx, encoding, [tokens_BNE])

    def token_context(
        self,
        volume_BCDHW: Tensor,
        spacing_B3: Tensor | None = None,
        window: Callable[[Tensor], Tensor] | None = None,
        visible_BN: Tensor | None = None,
    ) -> TokenContext:
        """Geometry of the tokens: all patches of the volume."""
        if visible_BN is not None:
            raise CTVLMError("PretrainedTower encodes all patches; remove the objective that masks patches")
        check_channels(volume_BCDHW, 1)
        grid = grid_of(as_grid(volume_BCDHW.shape[2:]), self.patch_size)
        patch_mm_B3 = host_token_spacing(volume_BCDHW.shape, spacing_B3, grid)
        on_device_B3 = patch_mm_B3.to(volume_BCDHW.device, non_blocking=True)
        return TokenContext.full(len(volume_BCDHW), grid, on_device_B3, cache={PATCH_MM: patch_mm_B3})

    def features(self, volume_B1DHW: Tensor, ctx: TokenContext) -> Tensor:
        """Features of the tower at the patches (B, N, width), in single precision."""
        patch_mm_B3 = ctx.cache[PATCH_MM]
        # Applications and measurements, which do not train, neither read nor write the cache.
        self._was_trained = self._was_trained or self.training
        of_case = self._computed if self.cache is None or not self._was_trained else self._cached
        # Spacings differ between cases, and so do the sizes of what the tower reads.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained != "frozen"):
            cases = zip(volume_B1DHW[:, 0], patch_mm_B3, strict=True)
            return torch.stack([of_case(hu_DHW, patch_mm_3, ctx.grid) for hu_DHW, patch_mm_3 in cases])

    def _computed(self, hu_DHW: Tensor, patch_mm_3: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Features of one case (N, width)."""
        canvas, maps = to_canvas(hu_DHW, patch_mm_3 / torch.tensor(self.patch_size), self.convention)
        features_Exyz = self.tower(canvas)[0].float()
        axes = self.convention.axes
        return from_canvas(features_Exyz, maps, self.stride, self.first_center, axes, grid, patch_mm_3)

    def _cached(self, hu_DHW: Tensor, patch_mm_3: Tensor, grid: tuple[int, int, int]) -> Tensor:
        assert self.cache is not None
        device = hu_DHW.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        settings = (self.convention, self.stride, self.first_center, self.patch_size, precision)
        fingerprint = self.cache.fingerprint(self.tower, *settings)
        shape = math.prod(grid), self.proj.in_features
        return self.cache.get(hu_DHW, patch_mm_3, shape, fingerprint, lambda: self._computed(hu_DHW, patch_mm_3, grid))
