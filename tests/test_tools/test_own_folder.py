"""README example for a folder of CTs: two commands from files to a checkpoint."""

from __future__ import annotations

import csv
import json

import pytest

from ctvlm.datasets import read_manifest
from ctvlm.phantom import PhantomCT
from ctvlm.volume import CTVolume, write_nifti

CONVERT, TRAIN = "dataset_converters/folder_to_manifest.py", "train.py"
CONFIG = "configs/vit3d_cot_contrastive_manifest.py"
SMALL = (
    "train_cfg.max_epochs=1", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1",
    "model.space.shared_dims=16", "model.backbone.embed_dims=24", "model.backbone.depth=2",
    "model.backbone.block.num_heads=2",
    "model.text_encoder.embed_dims=16", "model.text_encoder.depth=1", "model.text_encoder.num_heads=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cts(tmp_path_factory):
    """Three CTs without masks in one folder with reports, and one folder per patient with masks."""
    root = tmp_path_factory.mktemp("own")
    data = PhantomCT(num_cases=3, split="own", shape=(16, 40, 48), num_workers=0, cache=False)
    rows = []
    for number in range(3):
        case = data.results(number)
        ct = CTVolume(case["volume"], case["affine"])
        write_nifti(ct, root / "flat" / f"scan{number}.nii.gz")
        write_nifti(ct, root / "masks" / f"p{number}" / "ct.nii.gz")
        write_nifti(ct.with_array(case["region_map"]), root / "masks" / f"p{number}" / "seg.nii.gz")
        text = f"The liver contains {number + 2} cysts. No pleural effusion."
        rows.append({"Accession": f"scan{number}", "Findings": text, "Impression": f"{number + 2} liver cysts."})
    with open(root / "reports.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.mark.parametrize("kind", ["masks", "reports"])
def test_convert_and_train(tool, cts, tmp_path, kind):
    out, work = tmp_path / "manifest.jsonl", tmp_path / "work"
    options = ("--reports", cts / "reports.csv") if kind == "reports" else ("--source", "thorax_abdomen_20")
    done = tool(CONVERT, cts / ("flat" if kind == "reports" else "masks"), out, *options)
    assert done.code == 0, done.out
    assert "CTVLM_DATA_ROOTS" in done.out
    cases = read_manifest(out, allow_outside=True)
    assert {case["split"] for case in cases} == {"train", "val"}
    assert all(bool(case["report"]) == (kind == "reports") for case in cases)
    done = tool(TRAIN, CONFIG, "--work-dir", work, "--cfg-options", f"ann_file={out}", "allow_outside=True", *SMALL)
    assert done.code == 0, done.err
    assert (work / "epoch_1.pth").is_file() and "warning" not in (done.out + done.err).lower()
    results = json.loads((work / "results.json").read_text())
    assert "retrieval/t2i_MedR" in json.dumps(results)
