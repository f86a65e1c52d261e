from __future__ import annotations

import pytest

from ctvlm.engine import CTVLMRunner, load_config

TINY = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(
        img_size=(16, 64, 64), embed_dims=24, depth=2, block=dict(num_heads=2), token_selection="body",
        patch_embed=dict(widths=[16]),
    ),
    space=dict(shared_dims=16, volume_pooling=dict(num_heads=2)),
    text_encoder=dict(vocab_size=400, embed_dims=16, depth=1, num_heads=2),
)
data = dict(shape=(16, 64, 64), num_workers=0)
train_dataloader = dict(batch_size=4, dataset=dict(num_cases=8, **data))
val_cfg = val_dataloader = val_evaluator = None
test_dataloader = dict(dataset=dict(num_cases=2, **data))
train_cfg = dict(max_epochs=1)
work_dir = {work_dir!r}
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory, repo_root):
    """Config, checkpoint and runner of a small training run."""
    folder = tmp_path_factory.mktemp("trained")
    config = folder / "tiny.py"
    config.write_text(
        TINY.format(base=str(repo_root / "configs/vit3d_cot_contrastive.py"), work_dir=str(folder / "run"))
    )
    runner = CTVLMRunner.from_cfg(load_config(config))
    runner.train()
    return config, folder / "run" / "epoch_1.pth", runner
