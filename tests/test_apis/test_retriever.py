"""Search finds the most similar cases; an index belongs to one model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from ctvlm.apis import FeatureExtractor, Retriever, retriever as retriever_module
from ctvlm.apis.case_input import InputCase
from ctvlm.apis.fingerprint import case_key, model_checksum
from ctvlm.apis.search_index import IndexedCase, SearchIndex
from ctvlm.utils import CTVLMError
from ctvlm.volume import read_ct


def unit(rng, *shape) -> np.ndarray:
    array = rng.standard_normal(shape).astype(np.float32)
    return array / np.linalg.norm(array, axis=-1, keepdims=True)


@pytest.fixture
def index(tmp_path):
    """500 random cases in two parts."""
    embeddings = unit(np.random.default_rng(0), 500, 16)
    made = SearchIndex(tmp_path / "index", "model")
    cases = [IndexedCase(f"/data/c{i}.nii.gz", f"c{i}", f"/data/c{i}.nii.gz", str(i), False) for i in range(500)]
    made.append(embeddings[:300], cases[:300])
    made.append(embeddings[300:], cases[300:])
    return made, embeddings


@pytest.mark.parametrize("backend", ["numpy", "faiss"])
def test_search_equals_a_naive_loop(index, backend):
    if backend == "faiss":
        pytest.importorskip("faiss", reason="needs FAISS: pip install 'ctvlm[faiss]'")
    made, embeddings = index
    reopened = SearchIndex(made.folder, "model")
    for query in unit(np.random.default_rng(1), 5, 16):
        scores = {f"c{i}": float(row @ query) for i, row in enumerate(embeddings)}
        expected = sorted(scores, key=scores.get, reverse=True)[:7]
        for opened in (made, reopened):
            found = opened.search(query, 7, backend)
            assert [case.case_id for case, _ in found] == expected
            assert [score for _, score in found] == pytest.approx([scores[name] for name in expected], abs=1e-5)


def test_case_with_the_same_key_is_replaced(index):
    made, embeddings = index
    made.append(embeddings[:1], [IndexedCase("/data/c7.nii.gz", "new", "/data/c7.nii.gz", "x", True)])
    reopened = SearchIndex(made.folder, "model")
    assert len(reopened) == 500 and reopened.has("x", "/data/c7.nii.gz") and not reopened.has("7", "/data/c7.nii.gz")
    assert {case.case_id for case, _ in reopened.search(embeddings[0], 2)} == {"c0", "new"}


def test_removed_case_is_not_found(index):
    made, embeddings = index
    made.remove("/data/c7.nii.gz")
    assert len(SearchIndex(made.folder, "model")) == 499
    again = [IndexedCase("/data/c7.nii.gz", "again", "/data/c7.nii.gz", "x", True)]
    made.append(embeddings[7:8], again)
    made.remove("/data/c8.nii.gz")
    reopened = SearchIndex(made.folder, "model")
    for opened in (made, reopened):
        assert len(opened) == 499 and opened.search(embeddings[7], 1)[0][0] == again[0]
        assert "c8" not in {case.case_id for case, _ in opened.search(embeddings[8], 499)}


@pytest.mark.parametrize("backend", ["numpy", "faiss"])
def test_excluded_case_does_not_reduce_the_hits(index, backend):
    if backend == "faiss":
        pytest.importorskip("faiss", reason="needs FAISS: pip install 'ctvlm[faiss]'")
    made, embeddings = index
    names = [case.case_id for case, _ in made.search(embeddings[3], 6, backend)]
    assert names[0] == "c3"
    without = made.search(embeddings[3], 5, backend, exclude="/data/c3.nii.gz")
    assert [case.case_id for case, _ in without] == names[1:]
    assert len(made.search(embeddings[3], 900, backend, exclude="/data/c3.nii.gz")) == 499


def test_interrupted_first_append_is_no_error(tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    case = IndexedCase("/a", "a", "/a", "1", False)
    array = np.ones((1, 4), np.float32)
    with monkeypatch.context() as patch:
        patch.setattr(SearchIndex, "_add", stop)  # after the part was written
        with pytest.raises(KeyboardInterrupt):
            SearchIndex(tmp_path / "index", "model").append(array, [case])
    assert [path.suffix for path in sorted((tmp_path / "index").iterdir())] == [".json", ".safetensors"]
    again = SearchIndex(tmp_path / "index", "model")
    assert len(again) == 0
    again.append(array, [case])
    assert SearchIndex(tmp_path / "index", "model").cases == [case]


def test_embeddings_without_a_case_are_an_error(index):
    made, _ = index
    content = json.loads((made.folder / "index.json").read_text())
    content["parts"][1]["cases"].pop()
    (made.folder / "index.json").write_text(json.dumps(content))
    with pytest.raises(CTVLMError, match="part_00002.safetensors has 200 embeddings for 199 cases"):
        SearchIndex(made.folder, "model")


def test_unusable_index_is_an_error(index, tmp_path):
    made, _ = index
    with pytest.raises(CTVLMError, match="index of another model.*index in another folder"):
        SearchIndex(made.folder, "other")
    (made.folder / "part_00002.safetensors").unlink()
    with pytest.raises(CTVLMError, match="damaged index"):
        SearchIndex(made.folder, "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "report.txt").write_text("keep me")
    with pytest.raises(CTVLMError, match="without index.json"):
        SearchIndex(tmp_path / "full", "model")
    with pytest.raises(CTVLMError, match="empty index"):
        SearchIndex(tmp_path / "new", "model").search(np.zeros(4, np.float32), 1)


def test_text_search_equals_similarity(model, phantom_files, tmp_path):
    find, extract = Retriever(model, index=tmp_path / "index"), FeatureExtractor(model)
    assert find.add(phantom_files).count("done") == 2
    texts = ["Pleural effusion.", "The heart is normal."]
    similarity = {f.case_id: extract.similarity(f, texts).volume for f in extract.run(phantom_files).results}
    for t, hits in enumerate(find.search(texts, k=5)):
        assert hits.query == texts[t] and [hit.rank for hit in hits.hits] == [1, 2]
        assert {h.case_id: h.score for h in hits.hits} == pytest.approx(
            {name: float(values[t]) for name, values in similarity.items()}, abs=1e-5
        )
        assert hits.hits[0].score >= hits.hits[1].score
    assert json.loads(json.dumps(hits.to_dict()))["hits"][0]["path"].endswith("ct.nii.gz")


def test_ct_search_excludes_the_ct_itself(model, phantom_files, tmp_path):
    find = Retriever(model, index=tmp_path / "index", k=1)
    find.add(phantom_files)
    assert [hit.case_id for hit in find(phantom_files / "p0" / "ct.nii.gz").hits] == ["p1"]
    copy = shutil.copy(phantom_files / "p0" / "ct.nii.gz", tmp_path / "copy.nii.gz")
    hit = find(copy).hits[0]
    assert hit.case_id == "p0" and hit.score == pytest.approx(1, abs=1e-4)


def test_files_with_equal_names_are_different_cases(model, phantom_files, tmp_path, monkeypatch):
    find = Retriever(model, index=tmp_path / "index")
    monkeypatch.chdir(phantom_files)
    for name in ("p0", "p1"):
        assert find.add(f"{name}/ct.nii.gz").count("done") == 1
    files = [str((phantom_files / name / "ct.nii.gz").resolve()) for name in ("p0", "p1")]
    assert [(case.case_id, case.path) for case in find.index.cases] == [("ct", files[0]), ("ct", files[1])]
    # The folder gives the same files other ids and absolute paths.
    assert find.add(phantom_files).count("kept") == 2
    assert [hit.path for hit in find(phantom_files / "p0" / "ct.nii.gz").hits] == files[1:]
    assert [hit.path for hit in find("p0/ct.nii.gz").hits] == files[1:]


def test_arrays_are_identified_by_their_content(model, phantom_files, tmp_path):
    find = Retriever(model, index=tmp_path / "index", k=1)
    volumes = [read_ct(phantom_files / name / "ct.nii.gz") for name in ("p0", "p1")]
    assert [find.add(volume).count("done") for volume in volumes] == [1, 1]
    assert find.add(volumes).count("kept") == 2 and len(find.index) == 2
    p1 = find.index.cases[1]
    assert find.index.search(find.embed(volumes[0]).volume.numpy(), 1, exclude=find.read(volumes[0]).key)[0][0] == p1
    assert len(find(volumes[0]).hits) == 1 and find(volumes[0]).hits[0].score < 1 - 1e-6


def test_damaged_ct_is_removed_and_missing_ct_is_kept(model, phantom_files, tmp_path):
    shutil.copytree(phantom_files, tmp_path / "cts")
    files = [tmp_path / "cts" / name / "ct.nii.gz" for name in ("p0", "p1")]
    find = Retriever(model, index=tmp_path / "index")
    find.add(files)
    files[0].write_bytes(b"damaged")
    files[1].unlink()
    assert find.add(files).count("failed") == 2
    assert [case.path for case in Retriever(model, index=tmp_path / "index").index.cases] == [str(files[1])]


def test_series_of_a_folder_are_different_cases():
    entry = dict(case_id="a", volume={"path": "/data/a", "key": "1.2"})
    other = dict(entry, volume={"path": "/data/a", "key": "1.3"})
    assert case_key(InputCase(entry)) == "/data/a#1.2" and case_key(InputCase(other)) == "/data/a#1.3"


def test_interrupted_run_resumes(model, phantom_files, tmp_path, monkeypatch):
    find = Retriever(model, index=tmp_path / "index")
    monkeypatch.setattr(retriever_module, "CASES_PER_FLUSH", 1)
    original = find.embed.predict

    def stop_at_second(cases, context=None):
        if len(find.index):
            raise KeyboardInterrupt
        return original(cases, context)

    monkeypatch.setattr(find.embed, "predict", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        find.add(phantom_files, batch_size=1)
    again = Retriever(model, index=tmp_path / "index")
    assert [case.case_id for case in again.index.cases] == ["p0"]
    summary = again.add(phantom_files)
    assert (summary.count("kept"), summary.count("done")) == (1, 1)


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, results):
        return results


def test_model_with_another_transform_is_another_model(model):
    def checksum(by):
        resample = dict(type="ResampleCT", shape=(16, 64, 64), crop_to_body=True)
        return model_checksum(FeatureExtractor(model, pipeline=[resample, Shift(by)]))

    assert checksum(1) == checksum(1) != checksum(2)


def test_index_of_another_model_is_refused(model, phantom_files, tmp_path):
    Retriever(model, index=tmp_path / "index").add(phantom_files / "p0" / "ct.nii.gz")
    scale = next(model.text_encoder.parameters())
    with torch.no_grad():
        scale += 0.01
    try:
        with pytest.raises(CTVLMError, match="another model"):
            Retriever(model, index=tmp_path / "index")
    finally:
        with torch.no_grad():
            scale -= 0.01


def test_failed_case_is_reported(model, phantom_files, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    find = Retriever(model, index=tmp_path / "index")
    summary = find.add([tmp_path / "bad.nii.gz", phantom_files / "p0" / "ct.nii.gz"])
    assert summary.exit_code == 1 and summary.count("done") == 1 and len(find.index) == 1
