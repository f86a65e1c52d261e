"""Generated steps with attention as in training, regions, slices and confidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctvlm.apis import FeatureExtractor, ReasoningInferencer
from ctvlm.models.heads.generation.answers import Answer, WrittenStep
from ctvlm.utils import CTVLMError
from ctvlm.utils.training_data import PHANTOMS_ONLY, data_record

TEXTS = ["The heart is normal.", "Small pleural effusion on the left."]


@pytest.fixture
def reason(model, monkeypatch):
    """The head writes the two texts as steps, with the heart as region of the first."""
    made = ReasoningInferencer(model)
    answer = Answer("", [WrittenStep(TEXTS[0], (7,)), WrittenStep(TEXTS[1])], "The heart is normal.")
    monkeypatch.setattr(made._heads[0], "generate", lambda encoded, questions: [[answer] for _ in questions])
    return made


def test_steps_have_the_attention_of_training(reason, model, phantom_files):
    file, mask = phantom_files / "p0" / "ct.nii.gz", phantom_files / "p0" / "seg.nii.gz"
    result = reason(file, mask, "thorax_abdomen_20")
    extract = FeatureExtractor(model)
    features = extract(file, mask, "thorax_abdomen_20")
    expected_SN = extract.similarity(features, TEXTS).attention
    assert [step.text for step in result.steps] == TEXTS and result.impression == TEXTS[0]
    assert [step.regions for step in result.steps] == [("heart",), ()]
    for step, attention_N in zip(result.steps, expected_SN, strict=True):
        relative = attention_N * features.patch_mask.sum()
        np.testing.assert_allclose(step.attention.array.ravel(), relative, rtol=1e-3)
        np.testing.assert_allclose(step.attention.affine, features.affine)


@pytest.mark.parametrize("name", ["liver", "spine", "heart"])
def test_peak_and_region_are_those_of_the_attended_patch(reason, phantom_files, monkeypatch, name):
    """All attention is on the patch with most voxels of a region of the mask."""
    read = reason.read(phantom_files / "p0" / "ct.nii.gz", phantom_files / "p0" / "seg.nii.gz", "thorax_abdomen_20")
    regions, scheme = np.asarray(read.packed["inputs"]["region_map"]), reason.read.scheme
    grid = reason.context([read]).encoded.grid
    size = np.array(regions.shape) // grid
    blocks = regions.reshape(grid[0], size[0], grid[1], size[1], grid[2], size[2]).transpose(0, 2, 4, 1, 3, 5)
    patch = np.unravel_index((blocks == scheme.id_of(name)).sum(axis=(3, 4, 5)).argmax(), grid)
    largest = scheme.name_of(int(np.bincount(blocks[patch].ravel())[1:].argmax()) + 1)
    attention_1dhw = torch.zeros(1, *grid)
    attention_1dhw[(0, *patch)] = 1
    monkeypatch.setattr(reason, "text_attention", lambda c, b, texts: attention_1dhw.flatten(1).repeat(len(texts), 1))
    step = reason.predict([read])[0].steps[0]
    centre = (np.array(patch) + 0.5) * size - 0.5
    np.testing.assert_allclose(step.peak_mm, (read.affine @ [*centre[::-1], 1])[:3], atol=0.01)
    assert step.top_region == largest


def test_confidences_are_those_of_the_head(reason, model, phantom_files):
    read = reason.read(phantom_files / "p0" / "ct.nii.gz")
    result = reason.predict([read])[0]
    head = reason._heads[0]
    context = reason.context([read])
    with torch.no_grad():
        answer = head.generate(context.encoded, [[""]])[0][0]
        expected = head.confidences(context.encoded, [answer])[0]
    assert [*(step.confidence for step in result.steps), result.impression_confidence] == pytest.approx(expected)
    assert all(0 < value < 1 for value in expected)


def test_slice_is_at_the_most_attended_layer(reason, phantom_files, monkeypatch):
    read = reason.read(phantom_files / "p0" / "ct.nii.gz")
    grid = (4, 4, 4)

    def attend_to_layer(layer):
        def attention(context, b, texts):
            attention_Ndhw = torch.zeros(len(texts), *grid)
            attention_Ndhw[:, layer] = 1 / 16
            return attention_Ndhw.flatten(1)

        return attention

    slices = []
    for layer in range(4):
        monkeypatch.setattr(reason, "text_attention", attend_to_layer(layer))
        step = reason.predict([read])[0].steps[0]
        slices.append(step.slice_index)
        centre = (read.ct.affine @ [0, 0, step.slice_index, 1])[2]
        patch = (step.attention.affine @ [0, 0, layer, 1])[2]
        assert abs(centre - patch) <= read.ct.spacing[0]
    assert slices == sorted(set(slices))


def test_remark_for_real_cts(reason, model, phantom_files, shared_data):
    assert reason(phantom_files / "p0" / "ct.nii.gz").remark == ""
    model.training_data = [data_record("PhantomCT", synthetic=True)]
    try:
        real = reason(shared_data / "ct" / "ts_small_117" / "example_ct_sm.nii.gz")
    finally:
        model.training_data = []
    assert real.remark == PHANTOMS_ONLY


def test_no_steps_are_a_valid_result(reason, phantom_files, monkeypatch):
    monkeypatch.setattr(reason._heads[0], "generate", lambda encoded, questions: [[Answer()] for _ in questions])
    result = reason(phantom_files / "p0" / "ct.nii.gz")
    assert result.steps == () and result.impression == "" and result.impression_confidence is None


def test_model_without_generation_head_is_an_error(trained):
    with pytest.raises(CTVLMError, match="vit3d_cot_generation"):
        ReasoningInferencer(trained[0], trained[1], "cpu")
