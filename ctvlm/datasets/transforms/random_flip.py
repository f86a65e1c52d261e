"""Random left-right flip of volume, maps, text and labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ctvlm.anatomy import RegionScheme, scheme_of
from ctvlm.registry import TRANSFORMS
from ctvlm.text import find_ambiguous_side, swap_label_sides, swap_sides


@TRANSFORMS.register_module()
class RandomFlipCT:
    """Flip a case left to right with probability ``p``: voxels, region ids, lesions, text and labels.

    "Opacity in the right lower lobe" becomes "opacity in the left lower lobe", and the region ids change likewise.
    Regions without a counterpart (the middle lobe) become the region on the other side (see
    ``RegionScheme.partner_ids`` and ``ctvlm.text.laterality``). A case is not flipped if one of its texts has a side
    word that cannot be swapped reliably (``ctvlm.text.find_ambiguous_side``), such as a German or Chinese one. The
    affine is unchanged. In flipped cases the heart points to the right, as in situs inversus.

    Args:
        p: probability.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p: found {p}; expected a probability from 0 to 1")
        self.p = p

    def __call__(self, results: dict) -> dict:
        if torch.rand(()).item() >= self.p:
            return results
        if any(find_ambiguous_side(text) for text in _texts(results)):
            return results
        scheme = scheme_of(results)
        out = {**results}
        for key in ("volume", "region_map", "lesion_map"):
            if results.get(key) is not None:
                out[key] = np.ascontiguousarray(results[key][..., ::-1])
        if results.get("region_map") is not None:
            out["region_map"] = partner_table(scheme)[out["region_map"]]
        if results.get("coarse_masks"):
            masks = results["coarse_masks"].items()
            out["coarse_masks"] = {swap_sides(name): np.ascontiguousarray(mask[..., ::-1]) for name, mask in masks}
        if results.get("lesion_masks"):
            out["lesion_masks"] = [
                {**mask, "name": swap_sides(mask["name"])} if mask.get("name") else mask
                for mask in results["lesion_masks"]
            ]
        if results.get("region_kept"):
            out["region_kept"] = _flip_region_kept(results["region_kept"], scheme)
        if results.get("report"):
            out["report"] = {key: text and swap_sides(text) for key, text in results["report"].items()}
        if results.get("cot"):
            out["cot"] = [_flip_step(step, scheme) for step in results["cot"]]
        if results.get("labels"):
            out["labels"] = swap_label_sides(results["labels"])
        return out


def _texts(results: dict) -> Iterator[str]:
    """Iterate over all texts of a case that a flip changes."""
    yield from filter(None, (results.get("report") or {}).values())
    for step in results.get("cot") or []:
        yield from (step["text"], step.get("question") or "", *(step.get("entities") or []))
    yield from results.get("labels") or {}
    yield from results.get("coarse_masks") or {}
    yield from (mask.get("name") or "" for mask in results.get("lesion_masks") or [])


def partner_table(scheme: RegionScheme) -> np.ndarray:
    """Return a uint8 table that maps region ids (0: background) to their ids after a flip."""
    table = np.arange(scheme.num_regions + 1, dtype=np.uint8)
    for region, partner in scheme.partner_ids().items():
        table[region] = partner
    return table


def _flip_region_kept(kept: dict[str, float], scheme: RegionScheme) -> dict[str, float]:
    """Flip the region names; if two regions become one, the smaller fraction is used."""
    partners = scheme.partner_ids()
    out: dict[str, float] = {}
    for name, share in kept.items():
        region = scheme.id_of(name)
        partner = scheme.name_of(partners.get(region, region))
        out[partner] = min(share, out.get(partner, 1.0))
    return out


def _flip_step(step: dict, scheme: RegionScheme) -> dict:
    partners = scheme.partner_ids()
    ids = [scheme.id_of(name) for name in step.get("regions") or []]
    # Two right lobes may map to the same left lobe, which is listed once.
    names = list(dict.fromkeys(scheme.name_of(partners.get(i, i)) for i in ids))
    entities = [swap_sides(entity) for entity in step.get("entities") or []]
    out = {**step, "text": swap_sides(step["text"]), "regions": names, "entities": entities}
    if step.get("question"):
        out["question"] = swap_sides(step["question"])
    return out
