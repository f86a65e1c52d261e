"""Patches compared with reasoning steps."""

from __future__ import annotations

from collections.abc import Collection

from ctvlm.models.objectives.base import Objective
from ctvlm.models.objectives.batch_context import BatchContext, request_steps
from ctvlm.models.objectives.text_bank import TextBank
from ctvlm.registry import OBJECTIVES
from ctvlm.structures import Pairs


@OBJECTIVES.register_module()
class StepTextObjective(Objective):
    """Align each step's text with the patches of its target.

    Predictions: ``pred_steps`` (S, P) and ``pred_patches`` (N, P; half precision), normalised;
    ``pred_step_attention`` (S, N; inverse temperature ``pred_step_scale``) on ``pred_grid`` (d, h, w) with
    ``pred_token_mask`` (N); ``patch_occupancy`` (N, R + 1), the overlap with the region map, if the case has one.

    Args:
        pool_by_mask: pool the patches of a step over its lesion or regions, if a map shows them, else by the step's
            attention. False: always by attention. A text can then select patches that resemble it, and learns little
            about the patches of its target.
        kwargs: as Objective.
    """

    default_loss = "StepAlignmentLoss"
    needs = frozenset(
        {
            "pred_steps", "pred_patches", "pred_step_attention", "pred_step_scale", "pred_grid", "pred_token_mask",
            "patch_occupancy",
        }
    )  # fmt: skip

    def __init__(self, pool_by_mask: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pool_by_mask = pool_by_mask

    def request(self, texts: TextBank) -> None:
        request_steps(texts)

    def features(self, context: BatchContext) -> Pairs:
        steps, pooled_BSP = context.steps, context.pooled_steps(self.pool_by_mask)
        return Pairs(steps.of_steps(pooled_BSP), steps.of_steps(steps.text_BSP), steps.ids_M)

    def predict(self, context: BatchContext, keys: Collection[str]) -> None:
        if "pred_step_attention" in keys:
            attention_BSN = context.step_attention_BSN.float().cpu()
            for sample, attention_SN in zip(context.samples, attention_BSN, strict=True):
                sample.pred_step_attention = attention_SN[: len(sample.steps)]
        if "pred_patches" in keys:
            for sample, patch_NP in zip(context.samples, context.unit_patch_BNP.half().cpu(), strict=True):
                sample.pred_patches = patch_NP
        for b, sample in enumerate(context.samples):
            if "pred_steps" in keys:
                sample.pred_steps = context.texts.unit_embed([step.text for step in sample.steps])
            if "pred_step_scale" in keys:
                sample.pred_step_scale = context.space.step_scale
            if "pred_grid" in keys:
                sample.pred_grid = context.encoded.grid
            if "pred_token_mask" in keys:
                sample.pred_token_mask = context.encoded.token_mask[b].cpu()
        anatomy = context.anatomy if "patch_occupancy" in keys else None
        if anatomy is not None:
            for b, sample in enumerate(context.samples):
                if bool(anatomy.known_BN[b].any()):
                    sample.patch_occupancy = anatomy.shares_BNR1[b].float().cpu()
