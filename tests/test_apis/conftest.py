from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.apis import init_model
from ctvlm.engine import CTVLMRunner, load_config
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, write_nifti
from tests.test_apis.oriented_ct import AXES, write_oriented_ct

TINY = """
_base_ = [{base!r}]
model = dict(
    backbone=dict(
        img_size=(16, 64, 64), embed_dims=24, depth=2, block=dict(num_heads=2), token_selection="body",
        patch_embed=dict(widths=[8, 16]),
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


@pytest.fixture(scope="session")
def model(repo_root):
    """A model for CTs without masks, with random weights: predicts regions, generates text."""
    cfg = load_config(repo_root / "configs/vit3d_cot_contrastive_bare.py")
    cfg.model = cfg.model.to_dict() | dict(
        backbone=cfg.model.backbone.to_dict()
        | dict(img_size=(16, 64, 64), embed_dims=24, block=dict(cfg.model.backbone.block, num_heads=2), depth=2)
        | dict(patch_embed=dict(cfg.model.backbone.patch_embed, widths=[8, 16])),
        space=cfg.model.space.to_dict() | dict(shared_dims=16, volume_pooling=dict(type="VolumePooling")),
        text_encoder=dict(cfg.model.text_encoder, vocab_size=400, embed_dims=16, depth=1, num_heads=2),
        objectives=dict(
            cfg.model.objectives,
            generation=dict(
                type="GenerationObjective",
                head=dict(type="CoTGenerationHead", vocab_size=400, embed_dims=16, depth=1, num_heads=2, max_length=96),
            ),
        ),
    )
    cfg.test_dataloader.dataset.pipeline = [
        dict(type="ResampleCT", shape=(16, 64, 64), crop_to_body=True),
        dict(type="PackCTInputs"),
    ]
    torch.manual_seed(0)
    model = init_model(cfg, device="cpu")
    model.fit_tokenizer(["The heart is normal.", "Small pleural effusion on the left."] * 4)
    return model


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory):
    """Folder with two phantoms, ``p0`` and ``p1``: ct.nii.gz, and the label map seg.nii.gz with the scheme's ids."""
    folder = tmp_path_factory.mktemp("phantoms")
    data = PhantomCT(num_cases=2, split="apis", shape=(20, 72, 72), num_workers=0, cache=False)
    for number in range(2):
        phantom = data.results(number)
        ct = CTVolume(np.asarray(phantom["volume"]), phantom["affine"])
        write_nifti(ct, folder / f"p{number}" / "ct.nii.gz")
        write_nifti(ct.with_array(phantom["region_map"]), folder / f"p{number}" / "seg.nii.gz")
    return folder


@pytest.fixture(params=AXES)
def ct_file(request, tmp_path):
    """File of ``write_oriented_ct``, and the name of its axes."""
    return write_oriented_ct(tmp_path / "ct.nii.gz", AXES[request.param]), request.param
