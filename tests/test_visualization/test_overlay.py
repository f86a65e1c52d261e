"""Pages of maps: slices through the peak, HU window, and text layout."""

from __future__ import annotations

import numpy as np
import pytest

from ctvlm.anatomy import RegionScheme
from ctvlm.utils.training_data import PHANTOMS_ONLY
from ctvlm.visualization.overlay import Overlay, heat_colours, overlay_page, window_at, window_for
from ctvlm.volume import CTVolume, patch_grid_affine

SCHEME = RegionScheme.load()


def volume(shape=(16, 32, 40)) -> CTVolume:
    hu = np.full(shape, -1000, np.int16)
    hu[:, 4:28, 4:36] = 40
    hu[4:12, 10:20, 6:16] = -850
    hu[2:6, 20:26, 26:34] = 900
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    affine[:3, 3] = (-30, -20, 100)
    return CTVolume(hu, affine)


def heat(ct: CTVolume, at=(1, 2, 3)) -> CTVolume:
    values = np.full((4, 4, 5), 0.2)
    values[at] = 9
    return CTVolume(values, patch_grid_affine(ct.affine, ct.shape, values.shape))


def words(figure) -> str:
    drawn = [t for axes in figure.axes for t in (*axes.texts, axes.title, axes.yaxis.label)] + figure.texts
    return "\n".join(t.get_text() for t in drawn)


@pytest.mark.parametrize("shape", [(16, 32, 40), (4, 32, 40)], ids=["volume", "slab"])
def test_map_is_shown_through_its_peak(shape):
    ct = volume(shape)
    figure = overlay_page(
        ct, [Overlay("A stone costs $5.", heat(ct), ["peak: 9"], floor=1)], "case 1", SCHEME, "x mean"
    )
    page = words(figure)
    for word in (
        r"A stone costs \$5.",
        "peak: 9",
        "case 1",
        "20 mm",
        "soft tissue",
    ):
        assert word in page, word
    # Patch 1, 2, 3 of 4, 4, 5: its centre in voxels, counted from 1.
    centre = [int(round((i + 0.5) * n / m - 0.5)) + 1 for i, n, m in zip((1, 2, 3), shape, (4, 4, 5))]
    for plane, index, size in zip(("axial", "coronal", "sagittal"), centre, shape):
        assert any(f"{plane} {i} of {size}" in page for i in (index, index + 1, index - 1)), (plane, page)
    axial = figure.axes[0]
    hot = np.asarray(axial.images[1].get_array())
    row, col = np.unravel_index(hot.argmax(), hot.shape)
    # The left of the page is the patient's right (large x); the top is anterior (large y).
    assert abs(col / hot.shape[1] - (1 - 3.5 / 5)) < 0.12 and abs(row / hot.shape[0] - (1 - 2.5 / 4)) < 0.12
    cross = axial.lines[-1].get_xydata()[0]
    assert cross == pytest.approx((col * 2, row * 2), abs=16)


@pytest.mark.parametrize("shape", [(64, 32, 40), (16, 32, 40), (4, 32, 40)], ids=["tall", "volume", "slab"])
def test_pictures_fill_their_axes_with_equal_mm_in_both_directions(shape):
    ct = volume(shape)
    figure = overlay_page(ct, [Overlay("x", heat(ct))], "a", SCHEME, "unit")
    figure.canvas.draw()
    z, y, x = (n * s for n, s in zip(ct.shape, ct.spacing))
    for axes, (wide, high) in zip(figure.axes[:3], ((x, y), (x, z), (y, z))):
        assert (np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())) == (wide, high)
        drawn, cell = axes.get_position(), axes.get_position(original=True)
        assert drawn.width * drawn.height > 0.98 * cell.width * cell.height
        inches = drawn.size * figure.get_size_inches()
        assert inches[0] / inches[1] == pytest.approx(wide / high, rel=0.01)


def test_region_names_and_long_texts_fit():
    ct = volume()
    labels = np.zeros((4, 4, 5), np.uint8)
    labels[1:3, 1:3, 1:3] = 12
    rows = [Overlay("Regions", heat(ct).with_array(labels), ["liver"]), Overlay("word " * 150, heat(ct))]
    figure = overlay_page(ct, rows, "a", SCHEME, "unit")
    assert "liver" in words(figure)
    figure.canvas.draw()
    edge = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= edge.x1 + 1 and box.y0 >= -1, text.get_text()


def test_window_for_text_and_window_at_voxel():
    assert window_for("Consolidation in the left lower lobe.", SCHEME) == "lung"
    assert window_for("Fracture of the spine.", SCHEME) == "bone"
    assert window_for("The liver is normal.", SCHEME) == "soft_tissue"
    assert window_for("Nothing to see.", SCHEME) is None
    ct = volume()
    assert [window_at(ct, at, 4) for at in ((8, 15, 10), (4, 23, 30), (14, 24, 20))] == ["lung", "bone", "soft_tissue"]


def test_low_values_are_transparent():
    colours = heat_colours()
    assert colours(0.0)[3] == 0 and colours(0.2)[3] < colours(0.6)[3] < colours(1.0)[3] < 1
    ct = volume()
    flat = heat(ct).with_array(np.ones((4, 4, 5)))
    overlay_page(ct, [Overlay("even", flat, floor=1)], "a", SCHEME, "unit").canvas.draw()


def test_no_lung_window_for_a_ct_without_lung():
    hu = np.full((16, 32, 40), -1000, np.int16)
    hu[:, 4:28, 4:36] = 40
    ct = volume().with_array(hu)
    page = words(overlay_page(ct, [Overlay("Effusion in the left lower lobe.", heat(ct))], "a", SCHEME, "unit"))
    assert "soft tissue" in page and "lung  -600" not in page


@pytest.mark.parametrize("depth", [4, 8, 16])
def test_letters_do_not_overlap_in_a_sheared_input(depth):
    ct = volume((depth, 32, 40))
    ct = CTVolume(ct.array, np.diag([2.0, 2.0, 2.5, 1.0]), shear_degrees=15.0)
    figure = overlay_page(ct, [Overlay("x", heat(ct))], "a", SCHEME, "unit")
    assert "sheared by 15.0" in words(figure)
    figure.canvas.draw()
    for axes in figure.axes[:3]:
        drawn = [
            t.get_window_extent() for t in (*axes.texts, axes.title) if t.get_text() in "RLAPSI" or "of" in t.get_text()
        ]
        assert len(drawn) == 5
        for i, one in enumerate(drawn):
            assert not any(one.overlaps(other) for other in drawn[i + 1 :])


@pytest.mark.parametrize("depth", [4, 16])
def test_remark_has_a_separate_line(depth):
    ct = volume((depth, 32, 40))
    ct = CTVolume(ct.array, ct.affine, shear_degrees=15.0)
    row = Overlay("A stone.", heat(ct), ["peak: 9"])
    figure = overlay_page(ct, [row], "case 1", SCHEME, "x mean", PHANTOMS_ONLY)
    figure.canvas.draw()
    (remark,) = [text for text in figure.texts if text.get_text() == PHANTOMS_ONLY]
    box = remark.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    others = [t for t in figure.texts if t is not remark]
    others += [t for axes in figure.axes for t in (*axes.texts, axes.title) if t.get_text()]
    assert len(others) > 10
    assert not any(box.overlaps(t.get_window_extent()) for t in others)
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
