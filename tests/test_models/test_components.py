"""What every registered part of a vision model must do."""

import dataclasses

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from ctvlm.models.region_encoders import overlap, patch_overlap
from ctvlm.structures import Anatomy
from tests.test_models.component_cases import (
    GRIDS,
    all_cases,
    build,
    case_id,
    loss_of,
    make_inputs,
    random_context,
    tensors_of,
)

CASES = all_cases()


def gradients(component):
    return {name: p.grad for name, p in component.named_parameters()}


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_any_grid_and_batch_gives_finite_numbers(case):
    component = build(*case).eval()
    for grid in GRIDS:
        for batch in (1, 3):
            outputs = tensors_of(component(*make_inputs(*case[:2], component, batch, grid)))
            assert outputs
            assert all(torch.isfinite(tensor).all() for tensor in outputs), f"grid {grid}, batch {batch}"


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_parameter_gets_a_gradient(case):
    component = build(*case).train()
    parameters = list(component.parameters())
    if not parameters:
        pytest.skip("has no parameters")
    loss_of(component(*make_inputs(*case[:2], component, 3, (2, 3, 2)))).backward()
    missing = [name for name, grad in gradients(component).items() if grad is None or not grad.abs().sum() > 0]
    assert not missing
    assert all(torch.isfinite(grad).all() for grad in gradients(component).values())


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_bfloat16_autocast_gives_finite_numbers_close_to_float32(case):
    component = build(*case).eval()
    inputs = make_inputs(*case[:2], component, 2, (2, 3, 2))
    full = tensors_of(component(*inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tensors_of(component(*inputs))
        loss = loss_of(half)
    for a, b in zip(full, half):
        assert torch.isfinite(b).all()
        assert (a - b).abs().max() <= 0.05 * a.abs().max() + 0.02
    if loss.requires_grad:
        loss.backward()
        assert all(torch.isfinite(g).all() for g in gradients(component).values() if g is not None)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_checkpointed_equals_plain(case):
    results = []
    for use_checkpoint in (False, True):
        component = build(*case).train()
        inputs = make_inputs(*case[:2], component, 2, (2, 3, 2))
        torch.manual_seed(3)  # drop path and dropout draw the same numbers
        if use_checkpoint and hasattr(component, "use_checkpoint"):
            component.use_checkpoint = True
            output = component(*inputs)
        elif use_checkpoint:
            output = checkpoint(component, *inputs, use_reentrant=False)
        else:
            output = component(*inputs)
        loss = loss_of(output)
        if loss.requires_grad:
            loss.backward()
        results.append((tensors_of(output), gradients(component)))
    (plain, plain_grads), (again, again_grads) = results
    assert all(torch.equal(a, b) for a, b in zip(plain, again))
    for name, grad in plain_grads.items():
        torch.testing.assert_close(again_grads[name], grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("case", [c for c in CASES if c[0] in ("backbone", "region_encoder")], ids=case_id)
def test_works_without_a_region_map(case):
    component = build(*case).train()
    inputs = make_inputs(*case[:2], component, 2, (2, 3, 2), with_map=False)
    output = component(*inputs)
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(output))
    if loss_of(output).requires_grad:
        loss_of(output).backward()


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "backbone"], ids=case_id)
def test_backbone_keeps_the_contract_of_its_output(case):
    backbone = build(*case).eval()
    grid, batch = (2, 3, 2), 3
    out = backbone(*make_inputs(*case[:2], backbone, batch, grid))
    cells, width, regions = 12, backbone.embed_dims, backbone.num_regions
    assert out.grid == grid
    assert out.tokens.shape == (batch, cells, width)
    assert out.token_mask.shape == (batch, cells)
    assert out.positions.shape == (batch, cells, 3)
    assert out.region_tokens.shape == (batch, regions, width)
    assert out.patch_to_region.shape == (batch, cells, regions + 1)
    torch.testing.assert_close(out.patch_to_region.sum(dim=-1), torch.ones(batch, cells))
    assert torch.equal(out.levels[-1], out.tokens)
    assert not out.tokens[~out.token_mask].any()
    assert not out.region_tokens[~out.region_mask].any()


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "backbone"], ids=case_id)
def test_backbone_with_given_anatomy_equals_one_that_computes_it(case, monkeypatch):
    results = []
    for given in (False, True):
        backbone = build(*case).train()
        inputs = make_inputs(*case[:2], backbone, 2, (2, 3, 2))
        anatomy = Anatomy(*patch_overlap(inputs[1], (2, 3, 2), backbone.num_regions))
        before = [anatomy.shares_BNR1.clone(), anatomy.known_BN.clone()]
        torch.manual_seed(3)
        if given:
            monkeypatch.setattr(overlap, "patch_overlap", None)
        output = backbone(*inputs, anatomy) if given else backbone(*inputs)
        loss_of(output).backward()
        results.append((tensors_of(output), gradients(backbone)))
        assert all(torch.equal(a, b) for a, b in zip(before, (anatomy.shares_BNR1, anatomy.known_BN), strict=True))
    (computed, computed_grads), (given, given_grads) = results
    assert all(torch.equal(a, b) for a, b in zip(computed, given, strict=True))
    assert all(torch.equal(given_grads[name], grad) for name, grad in computed_grads.items())


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "backbone"], ids=case_id)
def test_backbone_names_sizes_that_do_not_fit(case):
    backbone = build(*case)
    volume, region_map, spacing = make_inputs(*case[:2], backbone, 1, (2, 2, 2))
    legal = tuple(volume.shape[2:])
    cut = volume[..., :-1]
    with pytest.raises(ValueError, match=r"does not divide") as caught:
        backbone(cut)
    for named in (tuple(cut.shape[2:]), tuple(backbone.patch_size), legal):
        assert str(named) in str(caught.value)
    with pytest.raises(ValueError, match="region map has shape"):
        backbone(volume, region_map[..., :-1])
    with pytest.raises(ValueError, match="intensity windows"):
        backbone(volume[:, :1])
    with pytest.raises(ValueError, match="spacing"):
        backbone(volume, None, -spacing)


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "attention"], ids=case_id)
def test_attention_is_blind_to_the_order_of_tokens(case):
    """Tokens and their places permuted together: the outputs are permuted likewise."""

    layer = build(*case).double().eval()
    torch.manual_seed(4)
    ctx = random_context(2, (3, 2, 2), padded=True, dtype=torch.float64)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24, dtype=torch.float64)
    order = torch.randperm(x_BNE.shape[1])
    moved = dataclasses.replace(
        ctx,
        index_BN=ctx.index_BN[:, order],
        token_mask_BN=ctx.token_mask_BN[:, order],
        patch_to_region_BNR1=ctx.patch_to_region_BNR1[:, order],
        cache={},
    )
    torch.testing.assert_close(layer(x_BNE[:, order], moved), layer(x_BNE, ctx)[:, order])


@pytest.mark.parametrize("case", [c for c in CASES if c[0] == "attention"], ids=case_id)
def test_attention_never_reads_padding(case):

    layer = build(*case).double().eval()
    torch.manual_seed(5)
    ctx = random_context(3, (3, 2, 2), padded=True, dtype=torch.float64)
    x_BNE = torch.randn(*ctx.index_BN.shape, 24, dtype=torch.float64)
    other = torch.where(ctx.token_mask_BN[..., None], x_BNE, torch.randn_like(x_BNE))
    kept = ctx.token_mask_BN
    assert not kept.all()
    torch.testing.assert_close(layer(other, ctx)[kept], layer(x_BNE, ctx)[kept])
