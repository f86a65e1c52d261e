"""The models that are part of the package, in ``ctvlm/weights``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctvlm.engine import CheckpointError
from ctvlm.engine.checkpoint.model_tasks import TASKS
from ctvlm.engine.checkpoint.release import is_release, read_release_info

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"
DEFAULT_MODEL = "vit3d_phantom"


@dataclass(frozen=True)
class ModelInfo:
    """One model of the package.

    Attributes:
        name: argument of ``init_model``.
        tasks: what the model can be used for: keys of ``ctvlm.engine.checkpoint.model_tasks.TASKS``.
        parameters: number of weights.
        training_data: see ``ctvlm.utils.training_data.data_record``.
        folder: files of the model, with its model card.
    """

    name: str
    tasks: tuple[str, ...]
    parameters: int
    training_data: tuple[dict, ...]
    folder: Path

    @property
    def description(self) -> str:
        """What the model does, in one line."""
        return "; ".join(TASKS[task] for task in self.tasks if task in TASKS)


def list_models() -> list[ModelInfo]:
    """The models of the package, by name.

    Raises:
        CheckpointError: the installation is damaged.
    """
    models = []
    for name in shipped_names():
        info = read_release_info(WEIGHTS_FOLDER / name)
        models.append(
            ModelInfo(
                name=name,
                tasks=tuple(info.get("tasks", ())),
                parameters=info.get("parameters", 0),
                training_data=tuple(info["training_data"]),
                folder=WEIGHTS_FOLDER / name,
            )
        )
    return models


def shipped_names() -> list[str]:
    """Names of the models of the package."""
    return sorted(path.name for path in WEIGHTS_FOLDER.glob("*") if is_release(path))


def shipped_folder(name: str) -> Path:
    """Folder of a model of the package.

    Raises:
        CheckpointError: this installation does not contain the model.
    """
    if name not in shipped_names():
        available = ", ".join(shipped_names()) or "none"
        raise CheckpointError(
            f"this installation of ctvlm does not contain the model {name} (models: {available}): pass a checkpoint, a "
            "released folder or a config"
        )
    return WEIGHTS_FOLDER / name
