"""No command runs code from a file that it opens: checkpoints, dumps, studies, caches and text encoders."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import pytest
import torch

from ctvlm.cli import main
from ctvlm.engine import CTVLMRunner
from ctvlm.evaluation import load_dump
from ctvlm.models.text_encoders import HFTextEncoder

TOY = "tests/test_engine/toy_config.py"
SEGMENTATION = "configs/vit3d_region_pretrain.py"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "executed"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of the toy model."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(Path(__file__).parents[1] / "test_engine" / "toy_config.py"))
    cfg.work_dir = str(tmp_path_factory.mktemp("toy"))
    cfg.merge_from_dict({"train_cfg.max_epochs": 1, "default_hooks.checkpoint.save_best": None})
    CTVLMRunner.from_cfg(cfg).train()
    return Path(cfg.work_dir) / "epoch_1.pth"


def code(marker: Path) -> str:
    return f"from pathlib import Path\nmodel = Path({str(marker)!r}).touch()\n"


ATTACKS = {
    "pickle": lambda content, marker: content["meta"].update(extra=Payload(marker)),
    "pickled weights": lambda content, marker: content["state_dict"].update(extra=Payload(marker)),
    "meta.config": lambda content, marker: content["meta"].update(config=code(marker)),
    "meta.cfg": lambda content, marker: content["meta"].update(cfg=code(marker)),
    "import": lambda content, marker: content["meta"].update(
        cfg=f"model = dict(type='os.mkdir', path={str(marker)!r})\n"
    ),
    "custom_imports": lambda content, marker: content["meta"].update(
        cfg="custom_imports = dict(imports=['hostile_module'])\nmodel = dict(type='hostile_module.Model')\n"
    ),
}

# Script and its arguments; {} is the checkpoint, OUT a new path.
COMMANDS = {
    "resume": ("train.py", TOY, "--resume", "{}", "--work-dir", "OUT"),
    "load_from": ("train.py", TOY, "--work-dir", "OUT", "--cfg-options", "load_from={}", "train_cfg.max_epochs=1"),
    "test": ("test.py", TOY, "{}", "--work-dir", "OUT"),
    "publish": ("model_converters/publish.py", "{}", "OUT"),
    "export": ("model_converters/export_encoder.py", "{}", "OUT.onnx"),
    "inflate": ("model_converters/inflate_timm_vit.py", SEGMENTATION, "vit_tiny_patch16_224", "OUT", "--weights", "{}"),
    "probe": ("analysis_tools/linear_probe.py", TOY, "{}", "--work-dir", "OUT"),
    "dice": ("analysis_tools/region_dice.py", TOY, "{}", "MANIFEST"),
    "attention": ("visualization/vis_attention.py", TOY, "{}", "ct.nii.gz", "--out", "OUT"),
    "dump": ("analysis_tools/eval_predictions.py", "{}"),
    "compare": ("analysis_tools/compare_models.py", "{}", "--data", "MANIFEST", "--out", "OUT"),
}


# All attacks on one command of each kind; the others share the code that reads checkpoints.
CASES = [
    (command, attack)
    for command in COMMANDS
    for attack in ATTACKS
    if command in ("resume", "publish")
    or attack == "pickle"
    or (attack == "meta.cfg" and command in ("load_from", "test", "export"))
]


@pytest.mark.parametrize(("command", "attack"), CASES)
def test_tools_do_not_execute_checkpoints(tool, tmp_path, monkeypatch, checkpoint, marker, command, attack):
    (tmp_path / "hostile_module.py").write_text(code(marker))
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    ATTACKS[attack](content, marker)
    hostile = tmp_path / "hostile.pth"
    torch.save(content, hostile)
    script, *arguments = COMMANDS[command]
    arguments = [part.replace("{}", str(hostile)).replace("OUT", str(tmp_path / "out")) for part in arguments]
    (tmp_path / "cases.jsonl").write_text(
        '{"case_id": "a", "patient_id": "a", "split": "test", "volume": "ct.nii.gz", '
        '"region_map": {"path": "seg.nii.gz", "source": "totalsegmentator_v2"}}\n'
    )
    arguments = [part.replace("MANIFEST", str(tmp_path / "cases.jsonl")) for part in arguments]
    outcome = tool(script, *arguments)
    assert not marker.exists()
    if "pickle" in attack or command == "dump":
        assert outcome.code == 2 and "hostile.pth" in outcome.err.replace("\n", ""), outcome.err


@pytest.mark.parametrize("attack", ["pickle", "meta.cfg", "import", "custom_imports"])
@pytest.mark.parametrize("command", ["classify", "embed", "reason", "segment", "search", "view"])
def test_commands_do_not_execute_checkpoints(tmp_path, monkeypatch, capsys, checkpoint, marker, command, attack):
    (tmp_path / "hostile_module.py").write_text(code(marker))
    monkeypatch.syspath_prepend(tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    ATTACKS[attack](content, marker)
    hostile = tmp_path / "hostile.pth"
    torch.save(content, hostile)
    (tmp_path / "ct.nii.gz").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["ctvlm", command, str(tmp_path / "ct.nii.gz"), "--model", str(hostile)])
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert "hostile.pth" in capsys.readouterr().err.replace("\n", "")
    assert not marker.exists()


def test_a_dump_is_not_executed(tmp_path, marker):
    torch.save({"format": "x", "cases": [Payload(marker)]}, tmp_path / "dump.pt")
    with pytest.raises(ValueError, match="dump.pt"):
        load_dump(tmp_path / "dump.pt")
    assert not marker.exists()


def test_a_text_encoder_folder_is_not_executed(tmp_path, marker):
    from ctvlm.utils import CTVLMError
    from tests.test_models import text_checkpoints

    folder = Path(text_checkpoints.save_bert(tmp_path / "bert"))
    (folder / "hostile.py").write_text(code(marker))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "hostile.Model")
    (folder / "config.json").write_text(json.dumps(config))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    torch.save({"x": Payload(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(CTVLMError):
        HFTextEncoder(str(folder))
    assert not marker.exists()


def test_a_study_is_not_executed(tool, tmp_path, marker):
    """Options that a study contains are printed, quoted, and never run."""
    optuna = pytest.importorskip("optuna")
    folder = tmp_path / "study"
    folder.mkdir()
    study = optuna.create_study(storage=f"sqlite:///{folder / 'study.db'}", study_name="phantom", direction="maximize")
    hostile = [f"a=$(touch {marker})", f"`touch {marker}`", f"a=__import__('pathlib').Path({str(marker)!r}).touch()"]
    trial = optuna.create_trial(value=1.0, user_attrs={"options": hostile})
    study.add_trial(trial)
    tool("tune.py", "configs/tune/phantom.py", "--trials", 0, "--work-dir", folder)
    assert not marker.exists()
    with sqlite3.connect(folder / "study.db") as database:
        assert database.execute("SELECT count(*) FROM trials").fetchone()[0] == 1
