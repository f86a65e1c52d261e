"""Attention picture and texts of one validation case after each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ctvlm.anatomy import region_names_of, scheme_of
from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.registry import HOOKS
from ctvlm.utils import random_states_kept, seed_everything

# Predictions that the hook reads; each is optional.
KEYS = frozenset(
    {"pred_step_attention", "pred_grid", "pred_token_mask", "patch_occupancy", "pred_cot", "pred_conclusion"}
)


@HOOKS.register_module()
class CaseVisualizationHook(Hook):
    """Send a picture of the attention (``attention``) and the ``texts`` of one validation case to the visualizer.

    The texts are the generated steps next to the reference if the model generates, otherwise the steps and the regions
    with most of their attention. The hook runs on rank 0, in evaluation mode, and restores all random states: losses
    do not depend on it. A run without validation data is not affected.

    Args:
        draw: False: do nothing.
        interval: number of epochs between two pictures.
        case: index of the case in the validation data set.
        max_steps: number of steps in the picture.
    """

    # After the checkpoint has been saved.
    priority = "LOWEST"

    def __init__(self, draw: bool = False, interval: int = 1, case: int = 0, max_steps: int = 4):
        for name, value, least in (("interval", interval, 1), ("case", case, 0), ("max_steps", max_steps, 1)):
            if value < least:
                raise ValueError(f"CaseVisualizationHook.{name} is {value}; expected at least {least}")
        self.draw, self.interval, self.case, self.max_steps = draw, interval, case, max_steps

    def after_train_epoch(self, runner: Runner) -> None:
        epoch = runner.epoch + 1
        if not self.draw or runner.rank != 0 or runner.val_loop is None or epoch % self.interval:
            return
        dataset = runner.val_dataloader.dataset
        if self.case >= len(dataset):
            raise ValueError(
                f"CaseVisualizationHook.case is {self.case}; the validation data set has {len(dataset)} cases"
            )
        model = unwrap_model(runner.model)
        with random_states_kept(), _evaluation(model), torch.no_grad():
            seed_everything(runner.seed or 0)  # generation draws the same random numbers after each epoch
            item = dataset[self.case]
            sample = model.val_step(pseudo_collate([item]))[0]
        title = f"{sample.get('case_id', self.case)}, epoch {epoch}"
        if "pred_step_attention" in sample and len(sample.pred_step_attention):
            picture = attention_picture(item["inputs"], sample, title, self.max_steps)
            runner.visualizer.add_image("attention", picture, epoch)
        if (text := sample_texts(sample)) and hasattr(runner.visualizer, "add_text"):
            runner.visualizer.add_text("texts", f"{title}\n\n{text}", epoch)


@contextmanager
def _evaluation(model: Any) -> Iterator[None]:
    """Evaluation mode and the predictions of the hook; PredictionKeysHook sets those of the metrics before each use."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    if hasattr(model, "set_predictions"):
        model.set_predictions(KEYS)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        if hasattr(model, "set_predictions"):
            model.set_predictions(None)


def attention_picture(inputs: Mapping[str, Any], sample: Any, title: str, max_steps: int) -> np.ndarray:
    """The attention of the first steps over the CT as an RGB picture (height, width, 3; uint8)."""
    from ctvlm.visualization.overlay import Overlay, overlay_page
    from ctvlm.volume import CTVolume, patch_grid_affine

    ct = CTVolume(np.asarray(inputs["volume"]).squeeze(), np.asarray(sample.affine, dtype=np.float64))
    d, h, w = (int(n) for n in sample.pred_grid)
    grid = (d, h, w)
    affine = patch_grid_affine(ct.affine, ct.shape, grid)
    kept = int(sample.pred_token_mask.sum()) if "pred_token_mask" in sample else sample.pred_step_attention.shape[1]
    overlays = []
    for number, (step, attention_N) in enumerate(zip(sample.steps[:max_steps], sample.pred_step_attention), start=1):
        heat = CTVolume((attention_N * kept).reshape(grid).numpy(), affine)
        note = f"peak: {heat.array.max():.1f} times the mean of all patches"
        overlays.append(Overlay(f"{number}. {step.text}", heat, [note, *attended(sample, number - 1)], floor=1))
    figure = overlay_page(ct, overlays, title, scheme_of(sample), "times the mean of all patches")
    figure.canvas.draw()
    return np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]


def attended(sample: Any, step: int, count: int = 3) -> list[str]:
    """The regions with most of the attention of a step, such as ``liver 0.41``; empty without a region map."""
    if "patch_occupancy" not in sample or "pred_step_attention" not in sample:
        return []
    share_R: Tensor = (sample.pred_step_attention[step] @ sample.patch_occupancy)[1:]  # column 0: background
    names = region_names_of(sample)
    best = share_R.argsort(descending=True)[:count].tolist()
    return [f"{names[i].replace('_', ' ')} {share_R[i]:.2f}" for i in best if share_R[i] > 0]


def sample_texts(sample: Any) -> str:
    """Markdown table: reference and generated steps, or the steps with the regions that they attend to."""
    reference = [step.text for step in sample.get("steps", [])]
    if "pred_cot" in sample or "pred_conclusion" in sample:
        generated = [step["text"] for step in sample.get("pred_cot", [])]
        rows = [(str(i + 1), *_pair(reference, generated, i)) for i in range(max(len(reference), len(generated)))]
        rows.append(("impression", sample.get("impression") or "", sample.get("pred_conclusion") or ""))
        return markdown_table(("step", "reference", "generated"), rows)
    rows = [(str(i + 1), text, ", ".join(attended(sample, i))) for i, text in enumerate(reference)]
    return markdown_table(("step", "text", "share of the attention"), rows) if rows else ""


def _pair(first: Sequence[str], second: Sequence[str], i: int) -> tuple[str, str]:
    return first[i] if i < len(first) else "", second[i] if i < len(second) else ""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; characters with a meaning are escaped."""
    lines = [header, ["---"] * len(header), *([_escaped(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    text = " ".join(text.split())
    for character, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("_", "\\_"), ("`", "\\`")):
        text = text.replace(character, safe)
    return text
