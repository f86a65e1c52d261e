"""A small released model with random weights. It accepts CTs without masks and has every kind of output."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from ctvlm.apis import init_model
from ctvlm.engine import load_config
from ctvlm.engine.checkpoint.release import write_release
from ctvlm.utils.training_data import data_record

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHAPE = (16, 64, 64)
TEXTS = [
    "Small right pleural effusion.",
    "The heart is not enlarged.",
    "Impression: a nodule in the left upper lobe; no lymphadenopathy.",
    "Calcifications of the aorta and the coronary arteries.",
]


def small_config() -> Config:
    """``vit3d_cot_contrastive_bare.py`` with a head for generated steps, in a size for tests."""
    cfg = load_config(CONFIGS / "vit3d_cot_contrastive_bare.py")
    cfg.merge_from_dict(
        {
            "model.backbone.img_size": SHAPE,
            "model.backbone.embed_dims": 24,
            "model.backbone.depth": 2,
            "model.backbone.block.num_heads": 2,
            "model.backbone.patch_embed.widths": [8, 16],
            "model.space.shared_dims": 16,
            "model.space.volume_pooling.num_heads": 2,
            "model.text_encoder": dict(
                type="CompactTextEncoder", vocab_size=300, embed_dims=16, depth=1, num_heads=2, _delete_=True
            ),
            "model.objectives.voxels.head.dims": 8,
            "model.objectives.generation": dict(
                type="GenerationObjective",
                head=dict(
                    type="CoTGenerationHead",
                    vocab_size=300,
                    embed_dims=16,
                    depth=1,
                    num_heads=2,
                    max_length=48,
                    generation=dict(do_sample=False),
                ),
            ),
            "test_pipeline.0.shape": SHAPE,
            "test_dataloader.dataset.pipeline.0.shape": SHAPE,
            "test_dataloader.dataset.shape": SHAPE,
            "test_dataloader.dataset.num_cases": 2,
        }
    )
    return cfg


def write_small_model(folder: Path, half: bool = False) -> Path:
    """Write the released folder of ``small_config`` with random weights and fitted tokenizers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = init_model(small_config(), device="cpu")
    model.fit_tokenizer(TEXTS)
    records = [data_record("PhantomCT", 8, "train", "phantom", synthetic=True, scheme="thorax_abdomen_20")]
    return write_release(folder, model.cfg, model.state_dict(), records, half)
