"""Loss and every gradient are the same in chunks as at once, on any number of ranks."""

from __future__ import annotations

import pytest
import torch

from ctvlm.engine import CTDistributedDataParallel
from ctvlm.registry import LOSSES as LOSS_KINDS, MODELS
from ctvlm.structures import CoTStep, CTDataSample, Pairs
from tests.ranks import on_ranks

REGIONS = 5
# Steps per case: uneven, and the cases of some rank have none. Each names regions, so regions are uneven too.
STEPS = [3, 1, 4, 2, 0, 0, 5, 2]
# Cases of each rank: uneven too.
SHARES = {1: [range(8)], 2: [range(5), range(5, 8)], 4: [range(3), range(3, 4), range(4, 6), range(6, 8)]}
LOSSES = dict(
    nce=dict(
        volume=dict(type="CrossModalContrastiveLoss"),
        region=dict(type="RegionAlignmentLoss", local_loss=True),
        step=dict(type="StepAlignmentLoss"),
        focus=dict(type="AttentionFocusLoss"),
    ),
    sigmoid=dict(
        volume=dict(type="SigmoidContrastiveLoss"),
        region=dict(type="SigmoidContrastiveLoss", local_loss=True),
        step=dict(type="SigmoidContrastiveLoss"),
    ),
)


def build(losses: str = "nce", dropout: float = 0.0, frozen: str | None = None, **changes):
    torch.manual_seed(0)
    config = dict(
        type="CoTContrastiveVLM",
        backbone=dict(
            type="ThreeDVisionEncoder",
            img_size=(8, 32, 32),
            embed_dims=24,
            depth=2,
            num_regions=REGIONS,
            patch_embed=dict(patch_size=(4, 16, 16)),
            block=dict(num_heads=2, drop=dropout),
        ),
        space=dict(
            shared_dims=12,
            regions_in_volume=True,
            volume_pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
            region_pooling=dict(type="RegionPooling", mode="attention"),
        ),
        text_encoder=dict(
            type="CompactTextEncoder", vocab_size=400, embed_dims=16, depth=1, num_heads=2, dropout=dropout
        ),
        losses=LOSSES[losses],
    )
    model = MODELS.build(config | changes)
    model.fit_tokenizer([text for sample in batch(range(8))["data_samples"] for text in sample.texts])
    if frozen is not None:
        model.get_submodule(frozen).requires_grad_(False)
    return model.train()


def batch(cases) -> dict:
    """Random cases whose texts partly repeat."""
    volumes, maps, samples = [], [], []
    for case in cases:
        generator = torch.Generator().manual_seed(case)
        volumes.append(torch.randint(-1000, 1000, (1, 8, 32, 32), generator=generator, dtype=torch.int16))
        region_map = torch.randint(0, REGIONS + 1, (2, 2, 2), generator=generator, dtype=torch.uint8)
        maps.append(region_map.repeat_interleave(4, 0).repeat_interleave(16, 1).repeat_interleave(16, 2))
        steps = [
            CoTStep(f"step {(case + s) % 6} says", regions=(1 + (case + s) % REGIONS,)) for s in range(STEPS[case])
        ]
        sample = CTDataSample(metainfo=dict(case_id=str(case), spacing=(3.0, 1.0, 1.0)))
        sample.impression, sample.steps = f"impression {case % 5}", steps
        sample.texts = [sample.impression, *(step.text for step in steps)]
        samples.append(sample)
    return dict(inputs=dict(volume=volumes, region_map=maps), data_samples=samples)


def gradients(model, cases, chunk_size: int | None, wrapped=None, autocast: bool = False):
    """The losses, and the gradient of each parameter that has one."""
    model.chunk_size = chunk_size
    model.zero_grad()
    data = model.data_preprocessor(batch(cases), training=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        losses = (wrapped or model)(**data, mode="loss")
    sum(losses.values()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: float(loss.detach()) for name, loss in losses.items()}, found


def double(model):
    """The model in float64 from the first voxel on."""
    window = model.data_preprocessor.window
    model.data_preprocessor.window = lambda hu: window(hu).double()
    return model.double()


def assert_same(found, expected, tolerance: float = 1e-9):
    for name, loss in expected[0].items():
        assert found[0][name] == pytest.approx(loss, abs=tolerance), name
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        difference = (found[1][name] - gradient).abs().max()
        assert difference <= tolerance, f"gradients of {name} differ by {difference:.2g}"


CASES = [("nce", None), ("sigmoid", None), ("nce", "text_encoder"), ("nce", "backbone")]


@pytest.mark.parametrize(("losses", "frozen"), CASES)
def test_chunks_equal_the_whole_batch(losses, frozen):
    model = double(build(losses, frozen=frozen))
    expected = gradients(model, range(8), None)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert expected[1].keys() == trained, "every parameter that is trained has a gradient"
    assert any(gradient.abs().max() > 1e-6 for gradient in expected[1].values())
    for chunk_size in (1, 3, 8):
        assert_same(gradients(model, range(8), chunk_size), expected)


def test_cases_stay_apart_until_their_chunk_is_encoded():
    model = build(chunk_size=3)
    data = batch(range(8))
    assert model.data_preprocessor(data, training=True) is data
    assert model.data_preprocessor(data)["inputs"]["volume"].shape == (8, 1, 8, 32, 32)
    # Stacked as a whole, as a data preprocessor of one's own may do, is as good.
    expected = gradients(model, range(8), 3)[0]
    stacked = model(**model.data_preprocessor(data), mode="loss")
    assert {name: float(loss.detach()) for name, loss in stacked.items()} == pytest.approx(expected)


def test_a_chunk_of_cases_without_region_maps_is_as_unknown_as_in_the_whole_batch():
    model = double(build())
    found = []
    for model.chunk_size in (None, 1):
        data = batch(range(4))
        data["inputs"]["region_map"][1:3] = [None, None]
        model.zero_grad()
        losses = model(**model.data_preprocessor(data, training=True), mode="loss")
        sum(losses.values()).backward()
        found.append((losses, {name: p.grad for name, p in model.named_parameters()}))
    for name, loss in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], loss, rtol=0, atol=1e-9)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=0, atol=1e-9)


def rank_gradients(rank: int, world_size: int) -> dict:
    found = {}
    for case in CASES:
        model = double(build(case[0], frozen=case[1]))
        wrapped = CTDistributedDataParallel(model)
        for chunk_size in (None, 1, 3, 8) if case == CASES[0] else (3,):
            found[case, chunk_size] = gradients(model, SHARES[world_size][rank], chunk_size, wrapped)
    return found


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_chunks_on_ranks_equal_the_whole_batch_in_one_process(world_size):
    """Under DDP, with as many chunks on each rank as its own number of cases asks for."""
    expected = {case: gradients(double(build(case[0], frozen=case[1])), range(8), None) for case in CASES}
    for results in on_ranks(rank_gradients, world_size):
        for (case, _), found in results.items():
            assert_same(found, expected[case])


def test_both_passes_see_the_same_dropout():
    """The gradient in chunks is that of the loss that was computed: a step along it changes that very loss so much."""
    model = double(build(dropout=0.3, data_preprocessor=dict(type="CTDataPreprocessor", region_map_drop=0.5)))

    def seeded(chunk_size=3):
        torch.manual_seed(5)
        return gradients(model, range(8), chunk_size)

    first = seeded()
    assert_same(seeded(), first, tolerance=0.0)
    torch.manual_seed(6)
    assert gradients(model, range(8), 3)[0] != first[0], "dropout is on"
    # Directional derivative, against the losses of the same masks.
    step = 1e-6
    parameters = dict(model.named_parameters())
    norm = sum(gradient.square().sum() for gradient in first[1].values()).sqrt()
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, gradient in first[1].items():
                parameters[name] += sign * step * gradient / norm
        sides.append(sum(seeded()[0].values()))
        with torch.no_grad():
            for name, gradient in first[1].items():
                parameters[name] -= sign * step * gradient / norm
    assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(norm), rel=1e-4)


def test_bfloat16_gives_the_loss_of_float32():
    """Features in bfloat16, logits and softmax in float32: within a hundredth, in chunks or not."""
    model = build()
    expected = gradients(model, range(8), None)[0]
    for chunk_size in (None, 3):
        losses, found = gradients(model, range(8), chunk_size, autocast=True)
        assert losses == pytest.approx(expected, rel=1e-2)
        assert all(torch.isfinite(gradient).all() for gradient in found.values())


@pytest.mark.parametrize("kind", ["CrossModalContrastiveLoss", "RegionAlignmentLoss", "SigmoidContrastiveLoss"])
def test_a_comparison_row_by_row_equals_the_whole(kind, monkeypatch):
    """Many pairs are compared some rows at a time: the same loss and gradients."""

    def run() -> list:
        torch.manual_seed(0)
        loss = LOSS_KINDS.build(dict(type=kind, cross_region=kind != "RegionAlignmentLoss")).double()
        visual, text = (torch.randn(23, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
        value = loss(Pairs(visual, text, torch.arange(23) % 7, torch.arange(23) % 3))
        value.backward()
        return [value.detach(), visual.grad, text.grad, *(p.grad for p in loss.parameters())]

    expected = run()
    monkeypatch.setattr("ctvlm.models.losses.contrastive._ROWS", 5)
    for found, wanted in zip(run(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_chunks_keep_one_chunk_of_activations():
    """What autograd holds after the forward pass does not grow with the activations of the batch."""

    def held(chunk_size: int | None) -> int:
        model = build()
        data = model.data_preprocessor(batch(range(8)))
        model.chunk_size = chunk_size
        sizes: dict[int, int] = {}

        def pack(x):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(**data, mode="loss")
        return sum(sizes.values())

    assert held(1) < 0.2 * held(None)
