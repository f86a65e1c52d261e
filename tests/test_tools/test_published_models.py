"""A published image-text model in the tools that evaluate models, with random weights in a file of its layout."""

from __future__ import annotations

import json

import pytest
import torch

from ctvlm.apis import init_model
from ctvlm.engine import load_config
from ctvlm.engine.checkpoint.release import write_release
from ctvlm.registry import MODELS
from ctvlm.utils import CTVLMError
from tests.released import SHAPE
from tests.test_models.text_checkpoints import save_cxr_bert

SIZES = dict(embed_dims=16, num_heads=2, head_dims=8, spatial_depth=1, temporal_depth=1, codebook_size=32, out_dims=12)
CONFIG = """
_base_ = ["{root}/configs/towers/ct_clip_published.py"]
weights = {weights!r}
tokenizer = {tokenizer!r}
model = dict(tower=dict(img_size=(20, 40, 40), **{sizes}), text_encoder=dict(out_dims=12))
"""


@pytest.fixture
def published(repo_root, tmp_path):
    """Config of a small CT-CLIP with its file."""
    settings = dict(root=repo_root.as_posix(), tokenizer=str(save_cxr_bert(tmp_path / "text")), sizes=SIZES)
    config = tmp_path / "ct_clip.py"
    config.write_text(CONFIG.format(weights=None, **settings))
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    parts = {
        "visual_transformer.": model.backbone.net,
        "to_visual_latent.": model.backbone.head,
        "text_transformer.": model.text_encoder.model,
        "to_text_latent.": model.text_encoder.projection[0],
    }
    weights = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    torch.save(weights | {"temperature": torch.tensor(2.0)}, tmp_path / "CT-CLIP.pt")
    config.write_text(CONFIG.format(weights=str(tmp_path / "CT-CLIP.pt"), **settings))
    return config


def test_tools_evaluate_without_training(tool, published, tmp_path):
    written = tool("dataset_converters/write_phantom.py", tmp_path / "data", "--num-cases", 3, "--shape", *SHAPE)
    assert written.code == 0, written.err
    manifest = next((tmp_path / "data").glob("*.jsonl"))
    data = ("--data", manifest, "--split", "all", "--protocols", "ct_clip", "--bootstrap", 0, "--device", "cpu")
    outcome = tool("analysis_tools/compare_models.py", published, *data, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    (model,) = json.loads((tmp_path / "out/table.json").read_text())["models"]
    rows = model["metrics"]
    assert {"retrieval/t2i_MRR", "retrieval_ct_clip/t2i_R@5", "zero_shot_ct_clip/auroc"} <= rows.keys()
    assert "random weights" not in (tmp_path / "out/table.md").read_text()
    assert model["cost"]["encoder_parameters"] > 0
    dump = torch.load(tmp_path / "out/predictions/ct_clip.pt", weights_only=True)
    assert dump["scale"] == pytest.approx(torch.tensor(2.0).exp().item())

    options = (
        "--cfg-options",
        f"ann_file={manifest}",
        "test_dataloader.dataset.split=None",
        "test_dataloader.num_workers=0",
    )
    tested = tool("test.py", published, "--work-dir", tmp_path / "work", *options)
    assert tested.code == 0, tested.err
    found = json.loads((tmp_path / "work/test_results.json").read_text())["metrics"]
    for key in ("retrieval/t2i_MRR", "zero_shot_ct_clip/auroc"):
        assert found[key] == pytest.approx(rows[key]["value"], abs=1e-6), key


def test_random_weights_are_refused(tool, published, tmp_path):
    outcome = tool("test.py", published, "--work-dir", tmp_path / "work", "--cfg-options", "weights=None")
    assert outcome.code == 2 and "has random weights. Name a CHECKPOINT" in " ".join(outcome.err.split())


def test_released_model_needs_no_other_file(published, tmp_path):
    model = init_model(published, device="cpu")
    inputs = dict(volume=torch.randn(1, 1, 12, 30, 30) * 500, spacing=torch.tensor([[3.0, 1.5, 1.5]]))
    expected = model(inputs), model.embed_texts(["small nodule"])
    write_release(tmp_path / "released", model.cfg, model.state_dict(), model.training_data)
    (tmp_path / "CT-CLIP.pt").unlink()
    (tmp_path / "text").rename(tmp_path / "moved")
    again = init_model(tmp_path / "released", device="cpu")
    torch.testing.assert_close((again(inputs), again.embed_texts(["small nodule"])), expected)
    assert again.logit_scale() == model.logit_scale()
    with pytest.raises(CTVLMError, match="no patches or regions"):
        _ = again.context(inputs).encoded
