"""Cost of a training step at full size, against real steps of a small model and against formulas."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from mmengine.registry import init_default_scope

from ctvlm.engine import load_config
from ctvlm.experiments.benchmark.scale import StepCost, cases_of_mean_length, count_step, fake_step, step_cost
from ctvlm.experiments.benchmark.scale_plan import MEMORY, RESERVE, memory, plan, scale_table
from ctvlm.registry import MODELS
from ctvlm.utils import CTVLMError

SIZE, WIDTH, HEADS, RATIO = (8, 32, 32), 32, 2, 3


def small_config(repo_root, depth=3):
    """The small preset, shrunken: 8 patches in 2 slices."""
    cfg = load_config(repo_root / "configs/vit3d_cot_contrastive_small.py")
    cfg.model.backbone.update(img_size=SIZE, depth=depth, embed_dims=WIDTH)
    cfg.model.backbone.block.update(num_heads=HEADS, mlp_ratio=RATIO)
    cfg.model.text_encoder.update(depth=1, embed_dims=32, dropout=0.0)
    init_default_scope("ctvlm")
    return cfg


def real_step(cfg):
    """Model and case as ``fake_step`` makes them, with values."""
    model = MODELS.build(cfg.model).train()
    model.backbone.token_selection = "none"
    samples = cases_of_mean_length(1, model.backbone.num_regions)
    model.fit_tokenizer([text for s in samples for text in (s.impression, *(step.text for step in s.steps))])
    volume, region_map = (torch.zeros(1, *shape, dtype=torch.int16) for shape in ((1, *SIZE), SIZE))
    return model, dict(volume=volume, region_map=region_map, spacing=torch.ones(1, 3)), samples


def test_fake_tensors_cost_what_real_ones_cost(repo_root):
    cfg = small_config(repo_root)
    real = count_step(*real_step(cfg))
    fake = count_step(*fake_step(cfg))
    assert fake.flops == real.flops and fake.repeated_flops == real.repeated_flops
    assert fake.copy_bytes == real.copy_bytes
    # Kernels may add a few bytes.
    assert fake.kept_bytes == pytest.approx(real.kept_bytes, rel=1e-3)
    assert fake.checkpointed_bytes == pytest.approx(real.checkpointed_bytes, rel=1e-3)


def test_kept_tensors_are_those_of_torch(repo_root, monkeypatch):
    """Bytes that autograd keeps in a real step in full precision, by storage, also with activation checkpointing."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    cfg = small_config(repo_root)
    counted = count_step(*real_step(cfg))
    assert counted.copy_bytes == 0
    for checkpointed, expected in ((False, counted.kept_bytes), (True, counted.checkpointed_bytes)):
        model, inputs, samples = real_step(cfg)
        model.backbone.checkpointed = [checkpointed] * 3
        kept = {}
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.setdefault(tensor.untyped_storage()._cdata, tensor), lambda tensor: tensor
        )
        with hooks:
            losses = model(inputs, samples, mode="loss")
            _ = model.parse_losses(losses)
        weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        found = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in weights)
        if checkpointed:
            found += max(counted.block_bytes)  # recomputed in the backward pass
        assert found == pytest.approx(expected, rel=0.02)


def test_operations_of_a_block_follow_the_formula(repo_root):
    """The products of a block: self-attention with 16 columns of slice bias, attention to regions, MLP."""
    costs = [count_step(*fake_step(small_config(repo_root, depth))) for depth in (2, 3)]
    tokens, regions, square = 8, 21, WIDTH * WIDTH  # with the background
    attention = 2 * tokens * tokens * HEADS * (WIDTH // HEADS + 16)
    linear = tokens * square * 4 + tokens * square * 2 * RATIO  # queries, keys, values, output; MLP
    linear += regions * square * 4 + regions * WIDTH  # keys and values of regions, projected to the patches; bias
    linear += 2 * tokens * regions * HEADS * WIDTH  # scores and output of the attention to regions
    pooling = tokens * (regions - 1) * WIDTH
    assert costs[1].repeated_flops - costs[0].repeated_flops == 2 * (linear + attention + pooling)
    # The backward pass has two products for each one, one where the assignment to regions is given; fused attention
    # also computes the scores again.
    step = 2 * (3 * linear + 3.5 * attention + 2 * pooling)
    assert costs[1].flops - costs[0].flops == pytest.approx(step, rel=1e-3)


def test_weights_and_optimizer_state(repo_root):
    cost = step_cost(small_config(repo_root))
    assert cost.weight_bytes == cost.gradient_bytes == 4 * cost.parameters
    assert cost.optimizer_bytes == pytest.approx(8 * cost.parameters, rel=1e-3)  # AdamW
    assert cost.tokens == 8 and cost.copy_bytes <= 2 * cost.parameters


COST = StepCost(
    parameters=10**8, tokens=4096, flops=10**12, repeated_flops=2 * 10**11, weight_bytes=4 * 10**8,
    gradient_bytes=4 * 10**8, optimizer_bytes=8 * 10**8, copy_bytes=2 * 10**8, kept_bytes=10**9,
    checkpointed_bytes=2 * 10**8, input_bytes=10**7, gathered_bytes=10**4,
)  # fmt: skip


def test_plan_uses_checkpointing_and_smaller_batches_only_where_needed(repo_root):
    cfg = small_config(repo_root)  # batch 16
    assert plan("a", cfg, COST, 1).checkpointed is False
    large = replace(COST, kept_bytes=10**10)
    assert plan("a", cfg, large, 1).checkpointed is True
    larger = plan("a", cfg, replace(large, checkpointed_bytes=10**10), 1)
    assert larger.batch == 4 and larger.checkpointed_bytes <= MEMORY * (1 - RESERVE)
    with pytest.raises(CTVLMError, match="one case"):
        plan("a", cfg, replace(large, checkpointed_bytes=10**11), 1)


def test_eight_gpus_take_an_eighth_of_the_time_and_shard_the_state(repo_root):
    cfg = small_config(repo_root)
    one, eight = (plan("a", cfg, COST, gpus) for gpus in (1, 8))
    assert one.hours / eight.hours == pytest.approx(8, rel=1e-2)
    assert one.hours == pytest.approx(20 * 47149 * 1e12 / (989e12 * 0.35) / 3600, rel=1e-3)
    assert (one.reduced_bytes, eight.reduced_bytes) == (0, 7 * 10**8)
    saved = memory(COST, 1, 8, True, False) - memory(COST, 1, 8, True, True)
    assert saved == 7 * 10**8


def test_another_encoder_is_refused(repo_root):
    cfg = load_config(repo_root / "configs/baselines/slice_wise_timm.py")
    with pytest.raises(CTVLMError, match="ThreeDVisionEncoder"):
        step_cost(cfg)


def test_table_of_the_document_is_that_of_the_command(repo_root):
    name = "vit3d_cot_contrastive.py"
    cfg = load_config(repo_root / "configs" / name)
    cost = step_cost(cfg)
    document = (repo_root / "configs/README.md").read_text(encoding="utf-8")
    for line in scale_table([plan(name, cfg, cost, gpus) for gpus in (1, 8)]).split("\n"):
        assert line in document
