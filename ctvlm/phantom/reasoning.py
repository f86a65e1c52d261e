"""Text of a plan: reasoning steps in the reading order of a radiologist, findings, impression and labels."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ctvlm.phantom.findings import FINDINGS, Finding
from ctvlm.phantom.phrases import (
    CONCLUSIONS,
    NORMAL_CONCLUSIONS,
    NORMAL_IMPRESSIONS,
    NORMALS,
    SECTIONS,
    SIZE_WORDS,
    TECHNIQUE,
    Normal,
)
from ctvlm.phantom.plan import REGION_Z, Plan, in_scan, in_view, sample_plan
from ctvlm.text.finding_labels import CT_RATE_LABELS

DRAWABLE_LABELS = frozenset(t.label for t in FINDINGS.values() if t.label)


@dataclass(frozen=True)
class Report:
    """Text and labels of a case. ``steps`` have the keys of ``cot`` in a manifest."""

    steps: tuple[dict, ...]
    findings: str
    impression: str
    labels: dict[str, int | None]


def _pick(rng: np.random.Generator, options) -> str:
    return options[int(rng.integers(len(options)))]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def phrase(template: str, f: Finding, rng: np.random.Generator) -> str:
    """Fill in the fields of a template ({loc}, {Loc_s}, {size}, {A_size}, ...); correct articles and capitals."""
    loc = _pick(rng, f.site.words)
    size = _pick(rng, SIZE_WORDS.get(f.size, (f.size,)))
    plural = loc.startswith(("both", "the lower lobes", "the upper lobes"))
    text = template.format(
        loc=loc, Loc=_capital(loc), Loc_s=_capital(loc) + (" show" if plural else " shows"),
        size=size, Size=_capital(size), a_size=f"a {size}", A_size=f"A {size}",
    )  # fmt: skip
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    text = re.sub(r"\b[Aa]n a (few)", r"a \1", text).replace("contains a few", "contains a few")
    return _capital(text)


def finding_step(f: Finding, rng: np.random.Generator) -> dict:
    """The step that describes a finding."""
    kind = FINDINGS[f.kind]
    text = phrase(_pick(rng, kind.steps), f, rng)
    return dict(text=text, entities=[f.kind], regions=list(f.site.regions), lesion=f.lesion, section=kind.section)


def normal_steps(plan: Plan, count: int, rng: np.random.Generator) -> list[dict]:
    """Sample up to ``count`` normal statements about organs in the scan that do not deny a drawn finding."""
    touched = {r for f in plan.findings for r in f.site.regions + f.site.claims}
    present = {f.kind for f in plan.findings}
    usable = []
    for normal in NORMALS:
        if not (all(in_scan(plan.base, REGION_Z[r]) for r in normal.regions) and in_view(plan.base, normal.regions)):
            continue
        blocked = present.intersection(normal.denies) if normal.denies else touched.intersection(normal.regions)
        if not blocked:
            usable.append(normal)
    chosen: list[Normal] = []
    described: set[str] = set()
    for i in rng.permutation(len(usable)):
        normal = usable[i]
        if not normal.denies and described.intersection(normal.regions):
            continue  # at most one general statement per region
        if not normal.denies:
            described.update(normal.regions)
        chosen.append(normal)
        if len(chosen) == count:
            break
    return [
        dict(
            text=_pick(rng, n.texts), entities=[], regions=list(n.regions), lesion=None, normal=True, section=n.section
        )
        for n in chosen
    ]


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def write_report(plan: Plan) -> Report:
    """Write text and labels of a case; both depend only on the plan."""
    rng = np.random.default_rng(plan.text_seed)
    body = [finding_step(f, rng) for f in plan.findings]
    body += normal_steps(plan, min(int(rng.integers(4, 8)), 10 - len(body)), rng)
    order = {name: i for i, name in enumerate(SECTIONS)}
    body.sort(key=lambda s: order[s["section"]])  # stable: findings before normal statements within a section
    abnormal = sorted(plan.findings, key=lambda f: order[FINDINGS[f.kind].section])
    technique: dict = dict(text=_pick(rng, TECHNIQUE[plan.base.phase]), entities=[], regions=[], lesion=None)
    if abnormal:
        names = [f"{_pick(rng, SIZE_WORDS.get(f.size, (f.size,)))} {f.kind}".strip() for f in abnormal]
        text = _pick(rng, CONCLUSIONS).format(list=_listing(names))
        impression = " ".join(phrase(_pick(rng, FINDINGS[f.kind].impressions), f, rng) for f in abnormal)
    else:
        text, impression = _pick(rng, NORMAL_CONCLUSIONS), _pick(rng, NORMAL_IMPRESSIONS)
    regions = list(dict.fromkeys(r for f in abnormal for r in f.site.regions))
    conclusion = dict(text=text, entities=[f.kind for f in abnormal], regions=regions, lesion=None)
    steps = tuple(
        {"step": i, "normal": False, **{k: v for k, v in s.items() if k != "section"}}
        for i, s in enumerate([technique, *body, conclusion], 1)
    )
    labels = {FINDINGS[f.kind].label for f in plan.findings}
    return Report(
        steps=steps,
        findings=" ".join(s["text"] for s in steps),
        impression=impression,
        labels={name: int(name in labels) if name in DRAWABLE_LABELS else None for name in CT_RATE_LABELS},
    )


def case_texts(seed: int, field: str) -> list[str]:
    """Impression and steps of the case of a seed."""
    report = write_report(sample_plan(seed, field))
    return [report.impression, *(step["text"] for step in report.steps)]
