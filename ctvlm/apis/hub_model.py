"""Models on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from torch import nn

from ctvlm.apis.init_model import init_model
from ctvlm.engine.checkpoint.model_card import license_of, model_card
from ctvlm.engine.checkpoint.release import write_release
from ctvlm.utils.pretrained_files import pretrained_sources

FILES = ("*.json", "*.safetensors", "README.md")


class HubModel(ModelHubMixin):
    """A model that is read from the hub, or written to it, as a released folder.

    ``save_pretrained``, ``push_to_hub`` and ``from_pretrained`` are those of ``huggingface_hub.ModelHubMixin``::

        HubModel(init_model("epoch_8.pth")).push_to_hub("me/my-model", private=True)
        model = HubModel.from_pretrained("me/my-model").model

    Args:
        model: a model of ``init_model``.
        half: store the weights in half precision.
        license_id: license of the weights; needed unless they were trained on phantoms only, without pretrained parts.
    """

    def __init__(self, model: nn.Module, half: bool = False, license_id: str | None = None) -> None:
        self.model: Any = model
        self.half = half
        self.license_id = license_id

    def _save_pretrained(self, save_directory: Path) -> None:
        records = self.model.training_data
        license_id = license_of(records, self.license_id, pretrained_sources(self.model.state_dict()))
        card = model_card(save_directory.name, self.model.cfg, records, license_id, half=self.half)
        write_release(save_directory, self.model.cfg, self.model.state_dict(), records, self.half, card)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **model_kwargs: Any,
    ) -> HubModel:
        folder = model_id
        if not Path(model_id).is_dir():
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=list(FILES),
            )
        return cls(init_model(Path(folder), **model_kwargs))
