"""Model card of a released model: what it is, what it was trained on, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from ctvlm.engine.checkpoint.files import CheckpointError
from ctvlm.engine.checkpoint.model_tasks import TASKS, model_tasks
from ctvlm.utils.training_data import only_phantoms

TAGS = ("ct", "medical-imaging", "3d", "vision-language")
LICENSE = "apache-2.0"
_NOT_CLINICAL = "**For research only. Not a medical device, and not for clinical use.**"
_PHANTOMS = (
    "**Trained on phantoms only**: synthetic CTs that are drawn from a seed. Text scores, findings and generated text "
    "of real CTs are not meaningful."
)


def license_of(training_data: Sequence[dict], license_id: str | None, pretrained: Sequence[str] = ()) -> str:
    """License of the weights: the given one; Apache-2.0 for weights trained on phantoms only.

    Args:
        pretrained: sources of pretrained parts, see ``pretrained_sources``.

    Raises:
        CheckpointError: no license is given, and the weights were trained on other data or contain pretrained parts.
    """
    if license_id:
        return license_id
    if pretrained:
        raise CheckpointError(
            f"the license is missing: the model contains weights from {', '.join(pretrained)}, whose license applies. "
            "Pass an identifier of the hub, such as cc-by-nc-sa-4.0 (publish.py: --license; HubModel: license_id)"
        )
    if only_phantoms(list(training_data)):
        return LICENSE
    names = ", ".join(sorted({str(record.get("dataset")) for record in training_data})) or "unknown data"
    raise CheckpointError(
        f"the license is missing: the weights were trained on {names}, whose terms may extend to the weights. Pass "
        "an identifier of the hub, such as cc-by-nc-sa-4.0 (publish.py: --license; HubModel: license_id)"
    )


def model_card(
    name: str, config: Config, training_data: Sequence[dict], license_id: str, text: str = "", half: bool = False
) -> str:
    """Markdown with the YAML header of the Hugging Face hub.

    Args:
        name: title.
        text: further text, for example the recipe and the results; inserted before the usage.
        half: whether the weights are stored in half precision.
    """
    records = list(training_data)
    tags = [*TAGS, *(["synthetic-data"] if only_phantoms(records) else [])]
    header = dict(license=license_id, library_name="ctvlm", tags=tags)
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in header.items()) + "---",
        f"# {_cell(name)}",
        _NOT_CLINICAL,
        _PHANTOMS if only_phantoms(records) else "",
        _table(("", "value"), _facts(config, half)),
        "## Training data",
        _table(("data set", "split", "cases", "text", "synthetic", "region scheme", "sources"), map(_record, records)),
        text.strip(),
        "## Usage",
        f"```python\n{_imports(config)}from ctvlm.apis import init_model\n\n"
        'model = init_model("FOLDER")  # this folder; the weights are loaded in full precision\n```',
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _imports(config: Config) -> str:
    """Imports of the modules that register the components of the model."""
    names = (config.get("custom_imports") or {}).get("imports") or []
    return "".join(f"import {name}\n" for name in ([names] if isinstance(names, str) else names))


def _facts(config: Config, half: bool) -> list[tuple[str, Any]]:
    backbone = config.model.get("backbone", {})
    facts = [
        ("outputs", "; ".join(TASKS[task] for task in model_tasks(config))),
        ("encoder", backbone.get("type")),
        ("volume (z, y, x)", "×".join(map(str, backbone["img_size"])) if backbone.get("img_size") else None),
        ("width, depth", f"{backbone.get('embed_dims')}, {backbone.get('depth')}"),
        ("regions", backbone.get("num_regions")),
        ("text encoder", config.model.get("text_encoder", {}).get("type")),
        ("stored precision", "float16" if half else "float32"),
    ]
    return [(key, value) for key, value in facts if value is not None]


def _record(record: dict) -> list[Any]:
    keys = ("dataset", "split", "cases", "text", "synthetic", "scheme")
    return [*(record.get(key) for key in keys), ", ".join(map(str, record.get("sources") or []))]


def _table(titles: Sequence[str], rows: Any) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else " ".join(str(value).split()).replace("|", r"\|").replace("<", "&lt;")
