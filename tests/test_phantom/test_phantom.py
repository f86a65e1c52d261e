"""Phantoms are reproducible and anatomically plausible, and their text matches the drawing."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from ctvlm.anatomy import RegionScheme
from ctvlm.phantom.case import draw_plan, generate_case
from ctvlm.phantom.findings import FINDINGS, Finding
from ctvlm.phantom.phrases import NORMALS
from ctvlm.phantom.plan import ON_SIDE, REGION_Z, Plan, in_scan, sample_plan
from ctvlm.phantom.reasoning import write_report
from ctvlm.text.finding_labels import CT_RATE_LABELS

SHAPE = (24, 96, 96)
SCHEME = RegionScheme.load("thorax_abdomen_20")


@lru_cache(maxsize=64)
def case(seed: int):
    return generate_case(seed, SHAPE)


def digest(seed: int, shape=SHAPE) -> str:
    c = generate_case(seed, shape)
    arrays = b"".join(a.tobytes() for a in (c.volume, c.region_map, c.lesion_map, c.affine))
    return hashlib.sha256(arrays + repr((c.cot, c.report, c.labels, c.spacing)).encode()).hexdigest()


def test_same_seed_gives_same_bytes_in_another_process():
    code = (
        "import hashlib; from ctvlm.phantom.case import generate_case as g; c = g(11, (24, 96, 96));"
        "a = b''.join(x.tobytes() for x in (c.volume, c.region_map, c.lesion_map, c.affine));"
        "print(hashlib.sha256(a + repr((c.cot, c.report, c.labels, c.spacing)).encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert digest(11) == digest(11) == other.stdout.strip()
    assert digest(11) != digest(12)


@pytest.mark.parametrize("seed", [3, 8])
def test_another_shape_is_the_same_patient(seed):
    """Regions have the same volume (ml) and position; text, labels and field of view are equal."""
    small, large = generate_case(seed, (36, 80, 80)), generate_case(seed, (72, 160, 160))
    assert small.cot == large.cot and small.labels == large.labels and small.report == large.report
    extent = [np.multiply(c.spacing, c.volume.shape) for c in (small, large)]
    np.testing.assert_allclose(*extent, rtol=1e-6)
    for region in range(1, 21):
        ml = [(c.region_map == region).sum() * np.prod(c.spacing) / 1000 for c in (small, large)]
        if ml[1] > 25:
            assert ml[0] == pytest.approx(ml[1], rel=0.15), SCHEME.name_of(region)
        where = [np.argwhere(c.region_map == region).mean(0) * c.spacing for c in (small, large) if ml[1] > 25]
        if where:
            assert np.abs(where[0] - where[1]).max() < 8
    pooled = large.volume.reshape(36, 2, 80, 2, 80, 2).mean((1, 3, 5), dtype=np.float64)
    assert np.corrcoef(pooled.ravel(), small.volume.ravel())[0, 1] > 0.97


def test_arrays_and_geometry():
    c = case(0)
    assert (c.volume.dtype, c.region_map.dtype, c.lesion_map.dtype) == (np.int16, np.uint8, np.uint8)
    assert c.volume.shape == c.region_map.shape == c.lesion_map.shape == SHAPE
    assert -1024 <= c.volume.min() < -900 and 400 < c.volume.max() <= 3071
    np.testing.assert_allclose(np.diag(c.affine), (*c.spacing[::-1], 1.0))
    assert 9 < c.spacing[0] < 20 and 2.5 < c.spacing[1] < 5


def test_every_region_is_drawn_with_plausible_hu():
    drawn = Counter()
    for seed in range(12):
        c = case(seed)
        for region in SCHEME.regions:
            inside = (c.region_map == region.id) & (c.lesion_map == 0)
            if inside.sum() > 10:
                drawn[region.name] += 1
                low, high = region.hu
                assert low <= c.volume[inside].mean() <= high, (seed, region.name)
    assert set(drawn) == set(SCHEME.names)


def test_axis_directions():
    """x grows to the right of the patient, y to the front, z to the head."""
    for seed in range(8):
        c = case(seed)
        at = {r.name: np.argwhere(c.region_map == r.id).mean(0) for r in SCHEME.regions if (c.region_map == r.id).any()}
        spine = at["spine"][2]
        for name in ("liver", "gallbladder", "kidney_right", "lung_lower_lobe_right", "lung_upper_lobe_right"):
            assert at[name][2] > spine, name
        for name in ("spleen", "stomach", "kidney_left", "lung_lower_lobe_left", "heart"):
            assert at[name][2] < spine, name
        assert at["trachea"][0] > at["heart"][0] > at["liver"][0] > at["kidney_right"][0]
        assert at["heart"][1] > at["spine"][1] and at["lung_middle_lobe_right"][1] > at["lung_lower_lobe_right"][1]


def plan_with(kind: str, site: int = 0, size: str | None = None) -> Plan:
    """A plan with one finding, of a patient whose scan includes the site."""
    finding_type = FINDINGS[kind]
    where = finding_type.sites[site]
    size = size or list(finding_type.sizes)[-1]
    for seed in range(40):
        plan = sample_plan(seed)
        if in_scan(plan.base, where.z):
            amount = float(np.mean(finding_type.sizes[size]))
            return Plan(seed, plan.base, (Finding(kind, where, size, amount, 1, 5),), plan.text_seed, plan.noise_seed)
    raise AssertionError(f"no patient of 40 has {where} in the scan")


@pytest.mark.parametrize("kind", FINDINGS)
def test_finding_changes_the_image_inside_its_mask(kind):
    for size in FINDINGS[kind].sizes:
        plan = plan_with(kind, site=len(FINDINGS[kind].sites) - 1, size=size)
        after, canvas = draw_plan(plan, SHAPE)
        before, _ = draw_plan(plan.without(1), SHAPE)
        mask = canvas.lesion == 1
        assert mask.any()
        change = np.abs(after.astype(np.int32) - before)
        assert change[mask].mean() > 15
        # Changes are inside the mask, except at borders and in organs next to an enlarged one.
        near = binary_dilation(mask, np.ones((3, 3, 3)), iterations=2)
        changed = change > 60
        assert not changed.any() or changed[near].sum() > 0.6 * changed.sum()


@pytest.mark.parametrize("kind", FINDINGS)
def test_finding_touches_its_regions(kind):
    """The mask touches (within two voxels) every region that the text mentions."""
    for site in range(len(FINDINGS[kind].sites)):
        plan = plan_with(kind, site)
        _, canvas = draw_plan(plan, SHAPE)
        near = binary_dilation(canvas.lesion == 1, np.ones((3, 3, 3)), iterations=2)
        for name in plan.findings[0].site.regions:
            assert (canvas.region[near] == SCHEME.id_of(name)).any(), name


@pytest.mark.parametrize("side,low", [("right", True), ("left", False)])
@pytest.mark.parametrize("kind", ["pleural effusion", "renal cyst", "lung nodule", "thyroid nodule", "rib fracture"])
def test_text_and_drawing_agree_on_the_side(kind, side, low):
    for i, site in enumerate(FINDINGS[kind].sites):
        if side not in site.words[0]:
            continue
        plan = plan_with(kind, i)
        _, canvas = draw_plan(plan, SHAPE)
        x = np.argwhere(canvas.lesion == 1)[:, 2].mean()
        spine = np.argwhere(canvas.region == SCHEME.id_of("spine"))[:, 2].mean()
        assert (x > spine) == low
        steps = write_report(plan).steps
        step = next(s for s in steps if s["lesion"] == 1)
        assert side in step["text"].lower()


@pytest.fixture(scope="module")
def reports():
    plans = [sample_plan(seed) for seed in range(400)]
    return [(plan, write_report(plan)) for plan in plans]


def test_labels_are_the_findings(reports):
    for plan, report in reports:
        expected = {FINDINGS[f.kind].label for f in plan.findings} - {None}
        assert {name for name, value in report.labels.items() if value} == expected
        assert tuple(report.labels) == CT_RATE_LABELS
    drawable = {name for name, value in reports[0][1].labels.items() if value is not None}
    assert len(drawable) >= 15


def test_steps_describe_each_finding_once_and_deny_none(reports):
    words = {
        name: set(name.replace("_", " ").split()) & {"right", "left", "upper", "middle", "lower"}
        for name in SCHEME.names
        if name.startswith("lung_")
    }
    normal_texts = {text: n for n in NORMALS for text in n.texts}
    for plan, report in reports:
        *body, conclusion = report.steps[1:]
        assert [s["step"] for s in report.steps] == list(range(1, len(report.steps) + 1))
        assert 6 <= len(report.steps) <= 12
        step_of_lesion = {s["lesion"]: s for s in body if s["lesion"] is not None}
        assert set(step_of_lesion) == {f.lesion for f in plan.findings}
        touched = {r for f in plan.findings for r in f.site.regions}
        for f in plan.findings:
            step = step_of_lesion[f.lesion]
            assert step["entities"] == [f.kind] and step["regions"] == list(f.site.regions)
            if len(FINDINGS[f.kind].sites) > 1:  # with several sites, the text names the site
                assert any(w.lower() in step["text"].lower() for w in f.site.words)
                assert any(w.lower() in report.impression.lower() for w in f.site.words)
            if len(f.site.regions) == 1 and f.site.regions[0] in words and "pne" not in f.kind and "eff" not in f.kind:
                assert words[f.site.regions[0]] <= set(step["text"].lower().replace(",", "").replace(".", "").split())
        assert set(conclusion["entities"]) == {f.kind for f in plan.findings}
        assert set(conclusion["regions"]) == {r for f in plan.findings for r in f.site.regions}
        for step in body:
            if step["lesion"] is None:
                normal = normal_texts[step["text"]]
                assert step["entities"] == []
                assert not {f.kind for f in plan.findings} & set(normal.denies)
                if not normal.denies:
                    assert not touched & set(step["regions"])
                assert all(in_scan(plan.base, REGION_Z[r]) for r in step["regions"])
        assert report.findings == " ".join(s["text"] for s in report.steps)


def test_every_region_occurs_as_normal_and_abnormal(reports):
    normal, abnormal = set(), set()
    for _, report in reports:
        for step in report.steps[1:-1]:
            (abnormal if step["entities"] else normal).update(step["regions"])
    assert normal == abnormal == set(SCHEME.names)


def test_texts_are_paraphrases_without_leaks(reports):
    wording = {kind: set() for kind in FINDINGS}
    for plan, report in reports:
        for step in report.steps:
            assert "{" not in step["text"] and not any(ch.isdigit() for ch in step["text"])
            assert " a extensive" not in step["text"] and "  " not in step["text"]
            assert step["text"][0].isupper() and step["text"].endswith(".")
            for f in plan.findings:
                if step["lesion"] == f.lesion:
                    wording[f.kind].add(step["text"])
    assert np.median([len(w) for w in wording.values()]) >= 5


def test_impressions_are_nearly_unique(reports):
    """Measured: 2 to 7 repeats in 100, nearly all of them normal studies and single common findings."""
    for start in (0, 100, 200, 300):
        block = [report.impression for _, report in reports[start : start + 100]]
        assert len(set(block)) >= 88


def test_invalid_shape_and_seed():
    with pytest.raises(ValueError, match=r"\(4, 96, 96\)"):
        generate_case(0, (4, 96, 96))
    with pytest.raises(ValueError, match="-1"):
        sample_plan(-1)


def test_default_field():
    assert sample_plan(11).base.scan_z == sample_plan(11, "chest_abdomen").base.scan_z
    assert sample_plan(11).base.side == 0


def test_field_any_changes_the_scan_but_not_the_patient():
    changed = 0
    for seed in range(12):
        plain, other = sample_plan(seed).base, sample_plan(seed, "any").base
        assert (plain.scale, plain.hu, plain.texture_seed) == (other.scale, other.hu, other.texture_seed)
        changed += plain.scan_z != other.scan_z
    assert 4 <= changed < 12


def test_scan_of_one_side_shows_and_mentions_that_side_only():
    partner = {1: {4, 5, 18}, -1: {1, 2, 3, 17}}
    plans = [plan for plan in (sample_plan(seed, "any") for seed in range(60)) if plan.base.side]
    assert len(plans) > 5
    near_far = np.zeros(2)
    for plan in plans[:6]:
        steps = write_report(plan).steps
        named = {name for step in steps for name in step["regions"]}
        assert named <= ON_SIDE[plan.base.side]
        counts = np.bincount(draw_plan(plan, (12, 48, 48))[1].region.ravel(), minlength=21)
        near_far += [sum(counts[i] for i in partner[side]) for side in (-plan.base.side, plan.base.side)]
    assert near_far[1] <= 0.3 * near_far[0]


def test_slabs_at_any_height_can_be_drawn():
    for seed in range(40, 70):
        plan = sample_plan(seed, "any")
        volume, canvas = draw_plan(plan, (8, 32, 32))
        assert volume.shape == canvas.region.shape
        assert all(in_scan(plan.base, f.site.z) for f in plan.findings)


def test_unknown_field():
    with pytest.raises(ValueError, match="pelvis.*chest_abdomen, any"):
        sample_plan(0, "pelvis")
