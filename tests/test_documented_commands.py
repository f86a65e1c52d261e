"""The commands of the READMEs run, with shrunken configs of the same names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict

from ctvlm.anatomy import RegionScheme
from ctvlm.engine import load_config
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, write_nifti
from tests.chromium import needs_chromium
from tests.test_docs import ROOT, commands, read

DOCUMENTS = ("README.md", "configs/README.md", "configs/towers/README.md", "projects/README.md")
DEFAULT, SMALL = "configs/vit3d_cot_contrastive.py", "configs/vit3d_cot_contrastive_small.py"
EPOCHS = 8  # a document names epoch_8.pth
SIZES = {
    "depth": 2, "embed_dims": 24, "num_heads": 2, "vocab_size": 300, "shared_dims": 16, "max_length": 48,
    "shape": (24, 96, 96), "img_size": (24, 96, 96), "num_cases": 8, "batch_size": 4, "num_workers": 0,
    "bootstrap": 20,
}  # fmt: skip
MANIFEST = "data/ct/manifest.jsonl"
TUNE = "configs/tune/phantom.py"
ABLATIONS = ("configs/ablations/full.py", "configs/ablations/no_slice_bias.py")
# Words that stand for a file or a number of the reader.
WORDS = {
    "CONFIG": DEFAULT,
    "CHECKPOINT": "work_dirs/vit3d_cot_contrastive/epoch_8.pth",
    "work_dirs/vit3d_cot_contrastive_bare/epoch_8.pth": "work_dirs/vit3d_cot_contrastive/epoch_8.pth",
    "FOLDER": "data/ct",
    "FOLDER/manifest.jsonl": MANIFEST,
    "ann_file=FOLDER/manifest.jsonl": f"ann_file={MANIFEST}",
    "MODEL": "released",
    "MANIFEST": MANIFEST,
    "FILE": "timm.pth",
    "model.backbone.pretrained=FILE": "model.backbone.pretrained=None",
    "work_dirs/hlip_frozen/epoch_20.pth": "work_dirs/hlip_frozen/epoch_1.pth",
    "configs/towers/coarse/*.py": "configs/towers/coarse/hlip.py",
    "1000": "20",  # --bootstrap
}
# Arguments that shorten a command, in place of those of the document.
SHORTER = {
    "tools/analysis_tools/ablate.py": [*ABLATIONS, "--seeds", "0", "--epochs", "1", "--cases", "8", "--val-cases", "4"],
    "tools/analysis_tools/benchmark.py": [DEFAULT, "--against", "timm-blocks", "--repeats", "1"],
    "tools/tune.py": [TUNE, "--trials", "1"],
    "tools/visualization/draw_viewer.py": ["--size", "640", "480", "--out", "viewer.png"],
}
# Needs the width of the 2D model.
INFLATE = "tools/model_converters/inflate_timm_vit.py"


def documented() -> list[tuple[str, ...]]:
    """Commands of the documents."""
    calls = [call for document in DOCUMENTS for call in commands(read(ROOT / document))]
    # An inline path without arguments is a mention.
    complete = [call for call in calls if call[0] == "python" or len(call) > (2 if call[0] == "ctvlm" else 1)]
    words = [tuple(call[1:] if call[0] == "python" else call) for call in complete]
    return list(dict.fromkeys(call for call in words if call[-1] != "--cfg-options"))


def shrunken(part: Any) -> Any:
    """A config with a small model, few cases and small volumes."""
    if isinstance(part, dict):
        return ConfigDict(
            {key: SIZES[key] if key in SIZES and value else shrunken(value) for key, value in part.items()}
        )
    return type(part)(map(shrunken, part)) if isinstance(part, (list, tuple)) else part


def differences(cfg: dict, small: dict) -> dict:
    """Values of ``small`` that differ from those of ``cfg``."""
    changed = {key: value for key, value in small.items() if key not in cfg or value != cfg[key]}
    return {
        key: differences(cfg[key], value) if isinstance(value, dict) and isinstance(cfg.get(key), dict) else value
        for key, value in changed.items()
    }


def write_shrunken(path: Path, out: Path) -> None:
    """Write a child of the config, so that its variables, such as ``ann_file``, can be set."""
    cfg = load_config(path)
    small = Config(shrunken(cfg._cfg_dict))
    if "train_cfg" in small:
        epochs = EPOCHS if path == ROOT / DEFAULT else 1
        small.train_cfg.update(max_epochs=epochs, val_interval=epochs)
        small.param_scheduler = None
    out.parent.mkdir(parents=True, exist_ok=True)
    changes = Config(differences(cfg.to_dict(), small.to_dict()))
    out.write_text(f"_base_ = [{str(path)!r}]\n{changes.pretty_text}")


def write_cts(folder: Path) -> None:
    """Phantoms of three patients with TotalSegmentator masks."""
    regions = RegionScheme.load().fold(np.arange(118), "totalsegmentator_v2")
    labels = np.array([0, *(int(np.argmax(regions == region)) for region in range(1, regions.max() + 1))])
    data = PhantomCT(num_cases=3, split="commands", shape=(24, 96, 96), num_workers=0, cache=False)
    for number in range(3):
        phantom = data.results(number)
        ct = CTVolume(phantom["volume"], phantom["affine"])
        write_nifti(ct, folder / f"p{number}/ct.nii.gz")
        write_nifti(ct.with_array(labels[phantom["region_map"]].astype(np.int16)), folder / f"p{number}/seg.nii.gz")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, released_model):
    """A copy of tools and projects, shrunken configs, and the files of the reader."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("tools", "projects"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    presets = [ROOT / "configs/finetune_classification.py", ROOT / "configs/evaluation/phantom_full.py"]
    presets += [ROOT / "configs/towers/hlip_frozen.py", ROOT / "configs/towers/coarse/hlip.py"]
    for path in [*ROOT.glob("configs/vit3d*.py"), *presets, *(ROOT / name for name in ABLATIONS), ROOT / TUNE]:
        write_shrunken(path, folder / path.relative_to(ROOT))
    write_cts(folder / "data/ct")
    shutil.copy(folder / "data/ct/p0/ct.nii.gz", folder / "ct.nii.gz")
    shutil.copytree(released_model, folder / "released")
    network = timm.create_model("vit_small_patch16_224", pretrained=False)
    torch.save(network.state_dict(), folder / "timm.pth")
    convert = ("tools/dataset_converters/folder_to_manifest.py", "data/ct", MANIFEST, "--test-fraction", "0.2")
    dump = ("tools/test.py", "configs/evaluation/phantom_full.py", "CHECKPOINT", "--out", "predictions.pt")
    for call in (convert, ("tools/train.py", DEFAULT), dump):
        done = run(folder, call)
        assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, call: tuple[str, ...]) -> subprocess.CompletedProcess:
    program, *arguments = call
    shorter = None if "--scale" in arguments else SHORTER.get(program)
    words = shorter or [WORDS.get(word, word) for word in arguments]
    if program == INFLATE:
        words[0] = str(ROOT / SMALL)
    if program == "ctvlm":
        command = [sys.executable, "-c", "import sys; from ctvlm.cli import main; sys.exit(main())", *words]
    elif program.endswith(".sh"):
        command = ["bash", program, *("2" if word == "8" else word for word in words)]
    else:
        command = [sys.executable, program, *words]
    variables = dict(PYTHONPATH=str(ROOT), PYTHON=sys.executable, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=1800,
    )  # fmt: skip


def parameters() -> Iterator[Any]:
    for call in documented():
        marks = [needs_chromium] if call[0] == "tools/visualization/draw_viewer.py" else []
        yield pytest.param(call, id=" ".join(call), marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("call", list(parameters()))
def test_command_runs(workspace, call):
    done = run(workspace, call)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Traceback" not in done.stderr
