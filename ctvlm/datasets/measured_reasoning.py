"""Reasoning text from measurements, for CTs with masks and without a report."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctvlm.anatomy import RegionScheme, scheme_of
from ctvlm.datasets.measurements import Measurement, contact_areas, measure_labels, tissue_shares
from ctvlm.datasets.training_text import NO_TEXT, text_source
from ctvlm.registry import TRANSFORMS

# (upper bound in HU or ml, term for smaller values).
DENSITY = (
    (-500, "air-filled"),
    (-100, "partly aerated"),
    (-10, "of fat density"),
    (20, "of fluid density"),
    (90, "of soft-tissue density"),
    (180, "brighter than soft tissue"),
    (np.inf, "markedly bright"),
)
SIZE = ((10, "tiny"), (100, "small"), (400, "medium-sized"), (1500, "large"), (np.inf, "very large"))
# Minimum contact area of neighbouring regions in mm².
MIN_CONTACT = 150.0
# Regions with a smaller volume (ml) are not described.
MIN_ML = 0.5

REGION = (
    "The {name} is {size}, {ml} ml, and {density} with a mean of {hu} HU{cut}.",
    "{size} {name}: volume {ml} ml, {density}, mean attenuation {hu} HU{cut}.",
    "Mean attenuation of the {name} is {hu} HU, {density}; it measures {ml} ml and is {size}{cut}.",
)
PAIR = (
    "The {larger} measures {percent}% more than the {smaller}.",
    "Asymmetry: the {larger} exceeds the {smaller} by {percent}%.",
)
EQUAL = (
    "The {larger} and the {smaller} are of nearly equal volume.",
    "No asymmetry of volume between the {larger} and the {smaller}.",
)
CONTACT = (
    "The {name} borders on {neighbours}.",
    "Bordering on the {name}: {neighbours}.",
)
# "Dense" means above 300 HU: bone, metal or strong contrast.
SCAN = (
    "The scan covers {mm} mm bottom to top in {slice} mm slices: {air}% air, {fat}% fat and {dense}% dense voxels.",
    "Coverage is {mm} mm at {slice} mm per slice, with {air}% air, {fat}% fat and {dense}% dense voxels.",
)
LESION = (
    "A marked lesion of {ml} ml is {density} with a mean of {hu} HU{where}.",
    "Lesion of {ml} ml, {density}, mean attenuation {hu} HU{where}.",
)


def _term(value: float, scale: tuple) -> str:
    return next(term for bound, term in scale if value < bound)


def _number(ml: float) -> str:
    return f"{ml:.0f}" if ml >= 10 else f"{ml:.1f}"


def _list(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


@TRANSFORMS.register_module()
class MeasuredReasoning:
    """Write ``report`` and ``cot`` from measurements, for cases without text.

    Cases with findings, an impression or steps are unchanged.

    Use it after LoadCT and before ResampleCT, to measure at native resolution. Steps: coverage of the scan, lesions,
    left-right comparisons, each region (volume, mean HU, cut by the edge of the scan; largest first), neighbours. The
    impression contains the most specific facts. The wording depends on the case id only and is reproducible.

    Args:
        max_steps: maximum number of steps.
    """

    deterministic = True
    writes_text = True

    def __init__(self, max_steps: int = 16) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps: found {max_steps}; expected at least 1")
        self.max_steps = max_steps

    def __call__(self, results: dict) -> dict:
        if text_source(results) != NO_TEXT:
            return results
        steps, impression = self.describe(results)
        steps = [{**step, "step": number} for number, step in enumerate(steps[: self.max_steps], start=1)]
        findings = " ".join(step["text"] for step in steps)
        report = {**(results.get("report") or {}), "findings": findings, "impression": impression}
        return {**results, "report": report, "cot": steps}

    def describe(self, results: dict) -> tuple[list[dict], str]:
        """Return all steps (in manifest format) and the impression of a loaded case."""
        scheme = scheme_of(results)
        choose = random.Random(results["case_id"]).choice
        hu, spacing = results["volume"], results["spacing"]
        region_map = results.get("region_map")
        measured = {} if region_map is None else measure_labels(region_map, hu, spacing)
        described = {i: m for i, m in measured.items() if m.ml >= MIN_ML}
        # Facts of the impression, most specific first.
        facts: list[str] = []
        steps = [self._scan(hu, spacing, choose, facts)]
        steps += self._lesions(results, scheme, choose, facts)
        steps += self._coarse(results, scheme, choose, facts)
        steps += self._pairs(described, scheme, choose, facts)
        for region_id, m in sorted(described.items(), key=lambda item: -item[1].ml):
            name = scheme[region_id].display_name
            steps.append(self._region(name, m, (scheme.name_of(region_id),), choose))
        if region_map is not None and described:
            largest = sorted(described, key=lambda i: -described[i].ml)[:2]
            densest = max(described, key=lambda i: described[i].hu)
            for i in dict.fromkeys([*largest, densest]):
                facts.append(f"{scheme[i].display_name} of {_number(described[i].ml)} ml at {described[i].hu:.0f} HU")
            steps += self._contacts(contact_areas(region_map, spacing), described, scheme, choose)
            facts.insert(0, f"{len(described)} of {scheme.num_regions} regions labelled")
        return steps, _sentence("; ".join(facts[:7])) + "."

    @staticmethod
    def _scan(hu: np.ndarray, spacing: tuple, choose: Any, facts: list[str]) -> dict:
        shares = {k: f"{100 * v:.0f}" for k, v in tissue_shares(hu).items()}
        mm = hu.shape[0] * spacing[0]
        facts.append(f"{mm:.0f} mm of body with {shares['air']}% air and {shares['dense']}% dense voxels")
        return _step(choose(SCAN).format(mm=f"{mm:.0f}", slice=f"{spacing[0]:.1f}", **shares))

    @staticmethod
    def _region(name: str, m: Measurement, regions: tuple[str, ...], choose: Any) -> dict:
        cut = f", cut by the {_list(m.cut_by)} edge{'s' * (len(m.cut_by) > 1)} of the scan" if m.cut_by else ""
        words = dict(size=_term(m.ml, SIZE), density=_term(m.hu, DENSITY))
        text = choose(REGION).format(name=name, ml=_number(m.ml), hu=f"{m.hu:.0f}", cut=cut, **words)
        return _step(text, regions)

    def _lesions(self, results: dict, scheme: RegionScheme, choose: Any, facts: list[str]) -> list[dict]:
        lesion_map, region_map = results.get("lesion_map"), results.get("region_map")
        if lesion_map is None:
            return []
        names = {m.get("id"): m.get("name") for m in results.get("lesion_masks") or []}
        steps = []
        for number, m in measure_labels(lesion_map, results["volume"], results["spacing"]).items():
            inside = np.zeros(0) if region_map is None else np.bincount(region_map[lesion_map == number])[1:]
            regions = (scheme.name_of(int(np.argmax(inside)) + 1),) if np.any(inside) else ()
            where = f" in the {scheme[scheme.id_of(regions[0])].display_name}" if regions else ""
            text = choose(LESION).format(ml=_number(m.ml), hu=f"{m.hu:.0f}", density=_term(m.hu, DENSITY), where=where)
            steps.append(_step(text, regions, (names.get(number) or "lesion",), number))
            facts.append(f"{names.get(number) or 'lesion'} of {_number(m.ml)} ml{where}")
        return steps

    def _coarse(self, results: dict, scheme: RegionScheme, choose: Any, facts: list[str]) -> list[dict]:
        """Describe masks that cover several regions, such as "lung"; the steps mention all of these regions."""
        steps = []
        for class_name, mask in (results.get("coarse_masks") or {}).items():
            m = measure_labels(mask.astype(np.uint8), results["volume"], results["spacing"])[1]
            name = class_name.replace("_", " ")
            covered = tuple(scheme.name_of(i) for i in scheme.ids_of_class(class_name))
            steps.append(self._region(name, m, covered, choose))
            facts.append(f"{name} of {_number(m.ml)} ml at {m.hu:.0f} HU")
        return steps

    @staticmethod
    def _pairs(found: dict[int, Measurement], scheme: RegionScheme, choose: Any, facts: list[str]) -> list[dict]:
        steps = []
        for region_id in found:
            partner = scheme[region_id].partner
            if partner not in found or partner < region_id or scheme[partner].partner != region_id:
                continue
            a, b = sorted((region_id, partner), key=lambda i: -found[i].ml)
            if found[a].cut_by or found[b].cut_by:
                # Regions that the scan cuts cannot be compared.
                continue
            percent = round(100 * (found[a].ml / found[b].ml - 1))
            words = dict(larger=scheme[a].display_name, smaller=scheme[b].display_name, percent=percent)
            text = choose(PAIR if percent >= 5 else EQUAL).format(**words)
            steps.append(_step(text, (scheme.name_of(a), scheme.name_of(b))))
            if percent >= 5:
                facts.append(f"{words['larger']} {percent}% larger than {words['smaller']}")
        return steps

    @staticmethod
    def _contacts(areas: dict, found: dict[int, Measurement], scheme: RegionScheme, choose: Any) -> list[dict]:
        touching: dict[int, list[int]] = {i: [] for i in found}
        for (a, b), area in sorted(areas.items(), key=lambda item: -item[1]):
            if area >= MIN_CONTACT and a in found and b in found:
                touching[a].append(b)
                touching[b].append(a)
        steps = []
        for region_id in sorted((i for i in touching if touching[i]), key=lambda i: -len(touching[i]))[:3]:
            near = touching[region_id][:3]
            neighbours = _list([f"the {scheme[i].display_name}" for i in near])
            text = choose(CONTACT).format(name=scheme[region_id].display_name, neighbours=neighbours)
            steps.append(_step(text, tuple(scheme.name_of(i) for i in (region_id, *near))))
        return steps


def _step(text: str, regions: tuple[str, ...] = (), entities: tuple[str, ...] = (), lesion: int | None = None) -> dict:
    return dict(text=_sentence(text), regions=list(regions), entities=list(entities), lesion=lesion)
