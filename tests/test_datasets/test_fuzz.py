"""Random manifests, steps, file headers and dumps raise only the project's errors.

300 examples per test; CTVLM_FUZZ_EXAMPLES=5000 sets another number, as in the nightly workflow.
"""

from __future__ import annotations

import gzip
import json
import os
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch

from ctvlm.datasets import read_manifest, write_manifest
from ctvlm.datasets.manifest import ManifestError
from ctvlm.evaluation import load_dump
from ctvlm.utils import CTVLMError
from ctvlm.utils.pretrained_files import unpack_files
from ctvlm.volume import CTReadError, read_ct, read_label_map
from tests.test_volume.test_size_limits import META, NRRD

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
EXAMPLES = int(os.environ.get("CTVLM_FUZZ_EXAMPLES", "300"))

# Surrogates, too: JSON can contain them as \ud800.
texts = st.one_of(
    st.text(st.characters(), max_size=8), st.sampled_from(["", "../a", "/etc/passwd", "a.nii", "train", "s3://a/b"])
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
values = st.recursive(
    leaves, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(texts, v, max_size=3)), max_leaves=8
)
keys = ("case_id", "patient_id", "split", "volume", "region_map", "lesion_masks", "report", "cot", "labels", "source")
inner = st.sampled_from(
    ["path", "files", "source", "id", "name", "spacing", "axes", "affine", "key", "text", "regions"]
)
objects = st.dictionaries(inner, values, max_size=4)
fields = st.one_of(values, objects, st.lists(objects, max_size=3))
valid = dict(case_id="a", patient_id="a", split="train", volume="a.nii")
lines = st.one_of(
    values,
    st.builds(lambda changes: valid | changes, st.dictionaries(st.sampled_from((*keys, "extra")), fields, max_size=4)),
)


def fuzz(test):
    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )
    return settings(test)


@fuzz
@hypothesis.given(st.lists(lines, min_size=1, max_size=3))
def test_manifest_lines(tmp_path, content):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, content)))
    try:
        cases = read_manifest(path)
    except ManifestError as error:
        assert "m.jsonl" in str(error) and "\n" not in str(error)
        return
    # What the reader accepts can be written and read again.
    write_manifest(cases, path)
    assert read_manifest(path) == cases


@fuzz
@hypothesis.given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))))
def test_manifest_bytes(tmp_path, content):
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match="m.jsonl"):
        read_manifest(tmp_path / "m.jsonl")


def read(path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for reader in (read_ct, read_label_map):
            try:
                reader(path)
            except CTReadError as error:
                assert "\n" not in str(error)


@fuzz
@hypothesis.given(
    st.dictionaries(st.integers(0, 351), st.integers(0, 255), max_size=6), st.integers(0, 2000), st.booleans()
)
def test_nifti_headers(tmp_path, changes, length, compressed):
    image = nib.Nifti1Image(np.arange(216, dtype=np.int16).reshape(6, 6, 6) - 900, np.diag([2.0, 2, 4, 1]))
    data = bytearray(image.to_bytes())
    for place, value in changes.items():
        data[place] = value
    path = tmp_path / ("a.nii.gz" if compressed else "a.nii")
    content = bytes(data[: max(length, 352)])
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    read(path)


words = st.one_of(
    st.sampled_from(["8 8 8", "-1 8 8", "0 0 0", "1e9 1 1", "LOCAL", "LIST", "../a", "True", "nan nan nan", ""]),
    st.text(st.characters(codec="latin-1"), max_size=12),
)


@fuzz
@hypothesis.given(st.sampled_from([".mha", ".mhd", ".nrrd", ".nhdr"]), st.integers(0, 7), words, st.binary(max_size=64))
def test_text_headers(tmp_path, suffix, number, word, data):
    meta = suffix in (".mha", ".mhd")
    rows = (META if meta else NRRD).replace("30000", "4").format("LOCAL" if meta else "").split("\n")
    key = rows[number].partition("=" if meta else ":")[0]
    rows[number] = f"{key}{'=' if meta else ':'} {word}"
    path = tmp_path / f"a{suffix}"
    path.write_bytes("\n".join(rows).encode("latin-1", "replace") + data)
    read(path)


@fuzz
@hypothesis.given(st.sampled_from([".npz", ".b2nd", ".dcm", ".nii", ".img", ".mha"]), st.binary(max_size=200))
def test_image_bytes(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    read(path)


tensors = st.sampled_from([torch.zeros(2), torch.tensor([2**40]), torch.zeros(1).expand(10**10), torch.zeros(0)])
plain = st.recursive(
    st.one_of(leaves.filter(lambda v: not isinstance(v, str)), st.text(max_size=4), tensors),
    lambda v: st.one_of(
        st.lists(v, max_size=3),
        st.dictionaries(
            st.sampled_from(["cases", "prompts", "run_lengths", "run_values", "shape", "x"]), v, max_size=4
        ),
    ),
    max_leaves=8,
)


@fuzz
@hypothesis.given(st.dictionaries(st.sampled_from(["cases", "version", "prompts", "scale", "remark"]), plain))
def test_dumps(tmp_path, content):
    torch.save({"format": "ctvlm-predictions", "version": 2, "cases": [], **content}, tmp_path / "a.pt")
    try:
        load_dump(tmp_path / "a.pt")
    except ValueError as error:
        assert "a.pt" in str(error)


@fuzz
@hypothesis.given(st.binary(min_size=1, max_size=80))
def test_files_in_checkpoints(content):
    with pytest.raises(CTVLMError, match="pretrained_files"):
        unpack_files(torch.frombuffer(bytearray(content), dtype=torch.uint8))
