"""An encoder that reads HU windows only its tokens; the result is that of the windowed volume."""

import pytest
import torch

from ctvlm.models.backbones import ThreeDVisionEncoder
from ctvlm.registry import MODELS

WINDOWS = ["lung", "soft_tissue", "bone"]
EMBEDDINGS = {
    "convolution": dict(patch_size=(2, 4, 4)),
    "hierarchical": dict(
        type="HierarchicalPatchEmbedding", patch_size=(2, 4, 4), merges=[(1, 2, 2), (2, 2, 2)], widths=[8]
    ),
}


def hu_batch(dtype):
    """Bodies of different size in air, with a lung; the last case contains only air."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in (4, 32, 32)), indexing="ij")
    radius = (y**2 + x**2).sqrt()
    cases = [torch.where(radius < size, torch.where(radius < 0.2, -850.0, 60.0), -1000.0) for size in (0.5, 0.9, -1)]
    noise = 10 * torch.randn(3, *z.shape, generator=torch.Generator().manual_seed(0))
    return (torch.stack(cases) + noise)[:, None].to(dtype)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
@pytest.mark.parametrize("selection", ["none", "body"])
@pytest.mark.parametrize("position", ["sincos", "learned", "rotary"])
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_equals_the_encoder_of_the_windowed_volume(embedding, position, selection, dtype):
    torch.manual_seed(0)
    model = ThreeDVisionEncoder(
        img_size=(4, 32, 32),
        embed_dims=24,
        depth=2,
        num_regions=5,
        normalize=dict(mean=[0.5, 0.2, 0.1], std=[0.3, 0.2, 0.1]),
        patch_embed=EMBEDDINGS[embedding],
        position=position,
        block=dict(num_heads=2),
        token_selection=selection,
    )
    hu, window = hu_batch(dtype), MODELS.build(dict(type="CTDataPreprocessor", windows=WINDOWS)).window
    region_map = torch.randint(-1, 6, (3, 4, 32, 32))
    results = []
    for output in (model(window(hu), region_map), model(hu, region_map, window=window)):
        model.zero_grad()
        (output.tokens.square().sum() + output.region_tokens.square().sum()).backward()
        results.append((output, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (expected, expected_grads), (found, grads) = results
    assert torch.equal(found.token_mask, expected.token_mask)
    assert expected.token_mask.all() == (selection == "none")
    for name in ("tokens", "region_tokens", "patch_to_region", "positions"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=2e-5, rtol=1e-4, msg=name)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], atol=1e-4, rtol=1e-3, msg=name)


def test_dropped_patches_are_not_windowed():
    model = ThreeDVisionEncoder(
        img_size=(4, 32, 32), embed_dims=24, depth=1, patch_embed=dict(patch_size=(2, 4, 4)),
        block=dict(num_heads=2), token_selection="body",
    )  # fmt: skip
    hu = hu_batch(torch.int16)[:2]
    apply = MODELS.build(dict(type="CTDataPreprocessor", windows=WINDOWS)).window
    voxels = []

    def window(hu_M1dhw):
        voxels.append(hu_M1dhw.numel())
        return apply(hu_M1dhw)

    kept = int(model(hu, window=window).token_mask.sum())
    assert kept < 2 * 128
    # One value per patch for the selection, then the voxels of the kept patches, without padding.
    assert voxels[0] == 2 * 128 and sum(voxels[1:]) == kept * 32


def test_patches_are_selected_from_single_volumes_as_from_a_batch():
    """The data preprocessor keeps single volumes on the host, where the selection needs no wait for the device."""
    model = ThreeDVisionEncoder(
        img_size=(4, 32, 32), embed_dims=24, depth=1, patch_embed=dict(patch_size=(2, 4, 4)),
        block=dict(num_heads=2), token_selection="body",
    )  # fmt: skip
    hu, window = hu_batch(torch.int16), MODELS.build(dict(type="CTDataPreprocessor", windows=WINDOWS)).window
    selected = model.select_patches(list(hu), (2, 8, 8), window)
    assert torch.equal(selected, model.select_patches(hu, (2, 8, 8), window))
    assert torch.equal(selected, model(window(hu)).token_mask)
