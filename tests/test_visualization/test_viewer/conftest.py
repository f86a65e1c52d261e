from __future__ import annotations

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.visualization.viewer import CasePage, PageCase, PageStep, page_html
from ctvlm.volume import CTVolume

SHAPE = (40, 40, 48)  # z, y, x
# The page shows the position of the first step at these voxels (x, y, z).
BRIGHT = (36, 28, 28)
HOSTILE = "</script><script>document.title='owned'</script>\"'<img src=x onerror=alert(1)>&amp;\u2028"


def asymmetric(affine: np.ndarray) -> CTVolume:
    """Soft tissue with a bright block towards the patient's right, front and head."""
    hu = np.full(SHAPE, -1000, dtype=np.int16)
    hu[2:-2, 4:-4, 4:-4] = 0
    x, y, z = BRIGHT
    hu[z - 3 : z + 4, y - 4 : y + 5, x - 4 : x + 5] = 1500
    return CTVolume(hu, affine)


def regions_of(ct: CTVolume, scheme: RegionScheme) -> CTVolume:
    return CTVolume(np.where(ct.array > 1000, scheme.id_of("liver"), 0).astype(np.uint8), ct.affine)


def attention_on(ct: CTVolume) -> CTVolume:
    """Patches of 8 voxels; the patch with the bright block has all the attention."""
    depth, height, width = (n // 8 for n in SHAPE)
    heat = np.zeros((depth, height, width), dtype=np.float32)
    x, y, z = (n // 8 for n in BRIGHT)
    heat[z, y, x] = heat.size
    affine = ct.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, 3.5)
    affine[:3, :3] *= 8
    return CTVolume(heat, affine)


def example_page(affine: np.ndarray | None = None, **changes) -> CasePage:
    affine = np.array([[2.0, 0, 0, -40], [0, 2, 0, 10], [0, 0, 4, -300], [0, 0, 0, 1]]) if affine is None else affine
    ct, scheme = asymmetric(affine), RegionScheme.load()
    position = tuple(float(v) for v in (affine @ (*BRIGHT, 1))[:3])
    settings = dict(
        case_id="case 1",
        ct=ct,
        scheme=scheme,
        regions=regions_of(ct, scheme),
        region_origin="mask",
        steps=[
            PageStep("Bright liver.", ["liver"], 0.75, attention_on(ct), position),
            PageStep("Normal spleen.", ["spleen"]),
        ],
        step_origin="generated",
        impression="A bright liver.",
        findings={"Calcification": 0.91, "Effusion": 0.12},
        similar=[PageCase("case 2", 0.87, "Another liver.")],
        metadata={"File": "case_1.nii.gz"},
        remark="trained on phantoms only",
    )
    return CasePage(**(settings | changes))


@pytest.fixture(scope="session")
def example_html() -> str:
    return page_html(example_page())
