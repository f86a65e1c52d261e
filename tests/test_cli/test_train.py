from __future__ import annotations


def test_custom_imports_of_the_current_folder(ctvlm, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "module_of_the_folder.py").write_text("VALUE = 1")
    imports = "custom_imports = dict(imports=['module_of_the_folder'])"
    (tmp_path / "own.py").write_text(f"_base_ = 'vit3d_cot_contrastive'\n{imports}")
    outcome = ctvlm("train", "own.py", "--cfg-options", "modle.width=1")
    assert outcome.code == 2 and "'model'" in outcome.err  # the import did not fail


def test_unknown_config(ctvlm, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in (["train"], ["test", "epoch_1.pth"]):
        outcome = ctvlm(command[0], "vit3d_cot_contrastve", *command[1:])
        assert outcome.code == 2 and "did you mean vit3d_cot_contrastive" in outcome.err
        assert list(tmp_path.iterdir()) == []
