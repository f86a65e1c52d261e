"""The encoder alone: the exported graph, and MONAI's conventions."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from ctvlm.apis import CTEncoder, EncoderFeatures, FeatureExtractor, MonaiEncoder, init_model
from ctvlm.apis.encoder import example_input
from ctvlm.models.backbones.body_selection import _outside_by_closure, _outside_by_growth
from tests.released import SHAPE


@pytest.fixture(scope="module")
def model(released_model):
    return init_model(released_model, device="cpu")


@pytest.fixture(scope="module")
def asymmetric_ct(tmp_path_factory):
    """A CT in LPS order whose content differs along each axis, with a spacing that differs too."""
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in reversed(SHAPE)), indexing="ij")
    hu = -1000 + 1200 * x + 500 * y**2 + 800 * z**3
    hu[:20, :24, :4] = 700  # a corner: right, front, head after reorientation of LPS to RAS is left, back
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    nib.save(nib.Nifti1Image(hu.astype(np.int16), np.diag([-2.0, -2.5, 4.0, 1.0])), path)
    return path


def as_monai(path):
    """What MONAI's LoadImaged, EnsureChannelFirstd and Orientationd("RAS") give: (1, 1, x, y, z), spacing (x, y, z)."""
    image = nib.as_closest_canonical(nib.load(path))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    return torch.tensor(image.get_fdata(dtype=np.float32))[None, None], torch.tensor([image.header.get_zooms()])


def test_monai_input_gives_the_features_of_the_own_pipeline(model, asymmetric_ct):
    extract = FeatureExtractor(model, pipeline=[])
    own = model.encode(extract.inputs([extract.read(asymmetric_ct)]))
    image, spacing = as_monai(asymmetric_ct)
    encoder = MonaiEncoder(model)
    with torch.no_grad():
        found = encoder(image, spacing)
        flipped = encoder(image.flip(2), spacing)
    expected = own.tokens[0].T.unflatten(1, own.grid)  # (E, z, y, x)
    assert found.shape == (1, 24, 4, 4, 4)
    torch.testing.assert_close(found[0].permute(0, 3, 2, 1), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(flipped, found, atol=1e-2)
    torch.testing.assert_close(encoder.embed(image, spacing)[0], extract(asymmetric_ct).volume, rtol=1e-4, atol=1e-5)


def test_monai_spacing_of_a_meta_tensor(model, asymmetric_ct):
    class MetaTensor(torch.Tensor):
        def as_tensor(self):
            return self.as_subclass(torch.Tensor)

    image, spacing = as_monai(asymmetric_ct)
    with_affine = image.as_subclass(MetaTensor)
    with_affine.affine = torch.tensor(nib.as_closest_canonical(nib.load(asymmetric_ct)).affine)[None]
    _, found = MonaiEncoder(model)._inputs(with_affine, None)
    torch.testing.assert_close(found, spacing.flip(-1))
    assert type(MonaiEncoder(model)(with_affine)) is torch.Tensor


def test_monai_encoder_is_trainable_and_checks_its_input(model):
    encoder = MonaiEncoder(model)
    assert encoder.patch_size == (16, 16, 4)
    image = example_input(SHAPE, 1)[0].permute(0, 1, 4, 3, 2)
    encoder(image).sum().backward()
    assert model.backbone.patch_embed.linears[0].weight.grad.abs().sum() > 0
    model.zero_grad()
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8, 8\); expected \(B, 1, H, W, D\) in HU"):
        encoder(torch.zeros(1, 3, 8, 8, 8))
    with pytest.raises(ValueError, match="patch size"):
        encoder(torch.zeros(1, 1, 65, 64, 16))


@pytest.mark.parametrize("size", [(6, 6), (1, 5), (9, 7), (2, 2), (1, 1)])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_air_outside_the_body_does_not_depend_on_the_method(size, share):
    air = torch.rand(40, *size, generator=torch.Generator().manual_seed(0)) < share
    assert torch.equal(_outside_by_closure(air), _outside_by_growth(air))


def test_exported_graph_equals_the_encoder_at_any_batch_size(model):
    encoder, batch = CTEncoder(model), torch.export.Dim("batch")
    shapes = dict(hu_B1DHW={0: batch}, spacing_B3={0: batch})
    exported = torch.export.export(encoder, example_input(SHAPE, 2), dynamic_shapes=shapes, strict=False).module()
    for number in (1, 3):
        inputs = example_input(SHAPE, number, seed=number)
        with torch.no_grad():
            expected = encoder(*inputs)
            assert not EncoderFeatures(*expected).token_mask.all()
            for one, other in zip(expected, exported(*inputs), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # A trace leaves nothing behind in the model.
    assert torch.equal(encoder(*inputs)[0], expected[0])
