"""Models on the hub, without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, hub_mixin

from ctvlm.apis import HubModel, init_model
from ctvlm.engine import CheckpointError
from ctvlm.utils.training_data import data_record


@pytest.fixture(scope="module")
def model(released_model):
    return init_model(released_model, device="cpu")


def test_a_local_folder_is_written_and_read(model, tmp_path):
    HubModel(model).save_pretrained(tmp_path / "out")
    loaded = HubModel.from_pretrained(tmp_path / "out", device="cpu").model
    assert loaded.training_data == model.training_data
    for one, other in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.library_name == "ctvlm" and card.data.license == "apache-2.0"
    assert {"ct", "synthetic-data"} <= set(card.data.tags)


def test_push_uploads_the_released_folder(model, tmp_path, monkeypatch):
    class Api:
        def __init__(self, **kwargs):
            pass

        def create_repo(self, repo_id, **kwargs):
            return type("Repo", (), dict(repo_id=repo_id))

        def upload_folder(self, repo_id, folder_path, **kwargs):
            shutil.copytree(folder_path, tmp_path / "uploaded" / repo_id)

    monkeypatch.setattr(hub_mixin, "HfApi", Api)
    HubModel(model, half=True).push_to_hub("me/small")
    uploaded = tmp_path / "uploaded/me/small"
    assert {path.name for path in uploaded.iterdir()} >= {"README.md", "config.json", "model.safetensors"}
    assert len(init_model(uploaded, device="cpu").state_dict()) == len(model.state_dict())


def test_download_reads_the_files_of_a_release(released_model, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "ctvlm.apis.hub_model.snapshot_download", lambda name, **kwargs: asked.update(kwargs) or released_model
    )
    monkeypatch.setattr(hub_mixin, "hf_hub_download", lambda **kwargs: str(Path(released_model) / "config.json"))
    loaded = HubModel.from_pretrained("me/small", revision="v1", device="cpu")
    assert asked["revision"] == "v1" and not loaded.model.needs_tokenizer()


def test_weights_of_real_data_need_a_license(released_model, tmp_path):
    model = init_model(released_model, device="cpu")
    model.training_data = [data_record("ManifestCT", 10, synthetic=False, sources=["CT-RATE"])]
    with pytest.raises(CheckpointError, match="license is missing.*ManifestCT"):
        HubModel(model).save_pretrained(tmp_path / "out")
    HubModel(model, license_id="cc-by-nc-sa-4.0").save_pretrained(tmp_path / "out")
    card = ModelCard.load(tmp_path / "out/README.md")
    assert card.data.license == "cc-by-nc-sa-4.0" and "phantoms only" not in card.text and "CT-RATE" in card.text
    assert "synthetic-data" not in card.data.tags
