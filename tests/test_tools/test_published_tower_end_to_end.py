"""A model on a published tower with every tool: trained, tested, released, used and compared."""

from __future__ import annotations

import json

import pytest

from ctvlm.cli import main
from tests.test_apis.test_published_towers import config_of

TEXT = "Small right pleural effusion."


@pytest.mark.slow
def test_train_test_release_and_use(tool, repo_root, monkeypatch, capsys, tmp_path):
    def ctvlm(*words):
        monkeypatch.setattr("sys.argv", ["ctvlm", *map(str, words)])
        code = main()
        captured = capsys.readouterr()
        assert "random weights" not in captured.out + captured.err
        return code, captured.out, captured.err

    def done(script, *words):
        outcome = tool(script, *words)
        assert outcome.code == 0, outcome.err
        return outcome

    splits = ("train", "val", "test")
    done(
        "dataset_converters/write_phantom.py",
        tmp_path / "data",
        "--num-cases",
        2,
        "--shape",
        16,
        64,
        64,
        "--splits",
        *splits,
    )
    manifest = tmp_path / "data/manifest.jsonl"
    cfg = config_of(repo_root, "hlip")
    cfg.merge_from_dict({"train_cfg.max_epochs": 1, "param_scheduler": None})
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.ann_file = str(manifest)
        for step in loader.dataset.pipeline:
            if step.type == "ResampleCT":
                step.shape = (16, 64, 64)
    config = tmp_path / "small.py"
    cfg.dump(config)
    done("train.py", config, "--work-dir", tmp_path / "work")
    checkpoint = tmp_path / "work/epoch_1.pth"
    done("test.py", config, checkpoint, "--work-dir", tmp_path / "tested")
    done("model_converters/publish.py", checkpoint, tmp_path / "released", "--config", config)
    ct = next((tmp_path / "data/ct").glob("*train*.nii.gz"))
    model = ("--model", config, "--checkpoint")
    embeddings = []
    for weights in (checkpoint, tmp_path / "released"):
        out = tmp_path / f"embedded_{weights.stem}"
        code, text, error = ctvlm("embed", ct, *model, weights, "--out", out)
        assert code == 0, error
        embeddings.append(next(out.glob("*.npz")).read_bytes())
    assert embeddings[0] == embeddings[1]
    code, text, error = ctvlm("search", ct, "--text", TEXT, *model, checkpoint, "--index", tmp_path / "index", "--json")
    assert code == 0 and "train" in text, error
    code, text, error = ctvlm("view", ct, *model, tmp_path / "released", "--text", TEXT, "-o", tmp_path / "page.html")
    assert code == 0 and (tmp_path / "page.html").stat().st_size > 100_000, error
    done("visualization/vis_attention.py", config, checkpoint, ct, "--text", TEXT, "--out", tmp_path / "maps")
    maps = json.loads((tmp_path / "maps/maps.json").read_text())["maps"]
    assert [entry["text"] for entry in maps if "peak_mm_ras" in entry] == [f"1. {TEXT}"]
    arguments = ("--data", manifest, "--split", "all", "--bootstrap", 2, "--device", "cpu", "--out", tmp_path / "table")
    done("analysis_tools/compare_models.py", config, checkpoint, *arguments, "--checkpoint", tmp_path / "released")
    table = (tmp_path / "table/table.md").read_text()
    assert table.count("(trained on phantoms only and on a tower without published weights)") == 2
