"""Content of the page: escaping, geometry of its volumes, size, and no address outside the page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest

from ctvlm.visualization.viewer import PageCase, PageStep, niivue as niivue_file, page_html
from ctvlm.visualization.viewer.niivue import NiiVueError, niivue_module
from ctvlm.visualization.viewer.volumes import limited_shape, on_grid_of, page_heat
from ctvlm.volume import CTVolume

from .conftest import BRIGHT, HOSTILE, asymmetric, attention_on, example_page

OBLIQUE = np.array([[1.9, -0.5, 0.2, -40], [0.6, 1.9, -0.3, 10], [-0.3, 0.4, 3.9, -300], [0, 0, 0, 1.0]])


class Elements(HTMLParser):
    """Start tags, and the text of each element with an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self._id = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._id = dict(attrs).get("id")

    def handle_data(self, data):
        if self._id:
            self.texts[self._id] = self.texts.get(self._id, "") + data


def volume_in(text: str, name: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(Elements(text).texts[name])))


def content_of(text: str) -> dict:
    return json.loads(Elements(text).texts["page-content"])


def test_texts_do_not_become_elements(example_html):
    hostile = page_html(
        example_page(
            case_id=HOSTILE,
            steps=[PageStep(HOSTILE)],
            impression=HOSTILE,
            findings={HOSTILE: 0.5},
            similar=[PageCase(HOSTILE, 0.5, HOSTILE)],
            metadata={HOSTILE: HOSTILE},
            remark=HOSTILE,
        )
    )
    tags = [tag for tag, _ in Elements(hostile).tags]
    assert tags.count("img") == 0
    # One attention map less.
    assert tags.count("script") == [tag for tag, _ in Elements(example_html).tags].count("script") - 1
    content = content_of(hostile)
    assert content["case"] == content["remark"] == content["steps"][0]["text"] == HOSTILE
    assert content["metadata"] == [[HOSTILE, HOSTILE]]


def test_page_names_no_other_address(example_html):
    for _, attributes in Elements(example_html).tags:
        assert not {"src", "srcset", "action"} & attributes.keys()
        assert attributes.get("href", "data:,") in ("data:,", "")
    assert "://" not in re.sub(r'<script type="text/plain".*?</script>', "", example_html, flags=re.DOTALL)


@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 4, 1]), OBLIQUE])
def test_volumes_keep_their_place_in_mm(affine):
    text = page_html(example_page(affine))
    ct, regions, heat = (volume_in(text, name) for name in ("ct", "regions", "attention-0"))
    np.testing.assert_allclose(ct.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(ct.get_fdata()[BRIGHT], 1500)
    np.testing.assert_array_equal(regions.get_fdata() > 0, ct.get_fdata() == 1500)
    peak = np.unravel_index(int(heat.get_fdata().argmax()), heat.shape)
    mm = nib.affines.apply_affine(heat.affine, np.argwhere(heat.get_fdata() > 0.99 * heat.get_fdata()[peak]).mean(0))
    centre_of_patch = nib.affines.apply_affine(affine, [n // 8 * 8 + 3.5 for n in BRIGHT])
    np.testing.assert_allclose(mm, centre_of_patch, atol=0.5)
    np.testing.assert_allclose(content_of(text)["steps"][0]["voxel"], BRIGHT, atol=1e-4)


def test_regions_of_another_orientation_are_moved_to_the_ct():
    ct = asymmetric(np.diag([2.0, 2, 4, 1]))
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = ct.shape[2] - 1, ct.shape[1] - 1
    flipped = CTVolume((ct.array[:, ::-1, ::-1] > 1000).astype(np.uint8), ct.affine @ flip)
    np.testing.assert_array_equal(on_grid_of(flipped, ct).array > 0, ct.array > 1000)


def test_heat_map_covers_the_field_of_view_of_its_patches():
    patches = attention_on(asymmetric(OBLIQUE))
    heat = page_heat(patches)
    corner = np.array([-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(heat.affine @ corner, patches.affine @ corner)
    end = [np.append(np.array(v.shape[::-1]) - 0.5, 1) for v in (heat, patches)]
    np.testing.assert_allclose(heat.affine @ end[0], patches.affine @ end[1])


def test_large_ct_is_limited_and_says_so():
    assert limited_shape((102, 512, 512), (3.0, 0.88, 0.88), 8_000_000) == (102, 280, 280)
    assert limited_shape((24, 40, 48), (4.0, 2.0, 2.0), 46_080) == (24, 40, 48)
    text = page_html(example_page(), max_voxels=10_000)
    assert np.prod(volume_in(text, "ct").shape) <= 10_000
    assert any("shown at" in fact for fact in content_of(text)["facts"])


def test_niivue_is_a_module_with_two_exports():
    assert re.search(r"export\{[\w$]+ as default\};\s*export\{[\w$]+ as Niivue\};\s*$", niivue_module())
    assert "</script" not in niivue_module()


def test_missing_package_is_one_line_with_the_extra(monkeypatch):
    monkeypatch.setattr(niivue_file, "PACKAGE", "ipyniivue-that-is-missing")
    niivue_module.cache_clear()
    with pytest.raises(NiiVueError, match=r"pip install 'ctvlm\[viewer\]'"):
        niivue_module()
    niivue_module.cache_clear()
