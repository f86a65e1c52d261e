"""Rule-based labels of the findings that a chest CT report states.

Used to compare generated text with labels (clinical F1). A report states a finding if it contains one of its phrases
without a negation in the same clause; uncertain statements ("suspicious for", "?") count as stated. Negation follows
NegEx (Chapman et al., J Biomed Inform 2001): words before or after a phrase negate it within a scope that ends at
contrastive conjunctions.
"""

from __future__ import annotations

import re

from ctvlm.text import is_latin
from ctvlm.text.finding_labels import CT_RATE_LABELS

# Up to 60 characters of one clause between the words of a phrase.
_GAP = r"[^,.;]{0,60}?"
_CALCIFIED = r"(?:calcif\w+|ather\w+|plaques?)"
_VESSEL = (
    r"(?:(?<!para-)(?<!para)aort(?:a|ic|as)\b(?! valve)|supra-?aortic|(?<!coronary )arterial (?:wall|structure)\w*|"
    r"vascular (?:wall|structure)\w*|carotid|subclavian|brachiocephalic|great vessels)"
)
_ENLARGED = r"(?:enlarg\w+|increas\w+|dilat\w+|(?:larger|greater) than normal|above normal)"


def _both(first: str, second: str) -> tuple[str, str]:
    """Patterns of two words in one clause, in either order."""
    return rf"\b{first}\b{_GAP}\b{second}", rf"\b{second}\b{_GAP}\b{first}"


PHRASES: dict[str, tuple[str, ...]] = {
    "Medical material": (
        r"\b(?:catheters?|pacemakers?|stents?|prosthe\w+|implants?|cannulas?|defibrillators?|icd|medical material)\b",
        r"\b(?:port chamber|(?:metallic|surgical|operation|suture|osteosynthesis) (?:\w+ )?(?:material|clip|sutur|wire|"
        r"density|densities|fixation|valve|hardware)\w*)",
        r"\b(?:sternotomy|cerclage) (?:wires?|sutures?|materials?)\b",
        r"\b(?:screws?|fixation|hardware)\b",
        r"\b(?:nasogastric|feeding|chest|drainage|endotracheal|tracheostomy|thora\w+) tubes?\b",
    ),
    "Arterial wall calcification": _both(_CALCIFIED, _VESSEL),
    "Cardiomegaly": (
        r"\bcardiomegal\w+",
        rf"\b(?:heart|cardiac|cardiothoracic)\b(?:(?!normal)[^,.;]){{0,40}}?\b{_ENLARGED}",
        rf"\b{_ENLARGED} (?:in |of )?(?:the )?(?:heart|cardiac)\b",
    ),
    "Pericardial effusion": _both(r"pericardi\w+", r"(?:effusion|fluid)"),
    "Coronary artery wall calcification": _both(_CALCIFIED, r"coronar\w+"),
    "Hiatal hernia": (r"\bhiat\w+ hernia", r"\bhernia\w*\b[^,.;]{0,30}\bhiatus"),
    # CT-RATE's label is also set by lymph nodes that are mentioned, whatever their size.
    "Lymphadenopathy": (r"\b(?:lymph)?adenopath\w+", r"\blaps?\b", r"\blymph nodes?\b", r"\blymphadenomegal\w+"),
    "Emphysema": (r"(?<!subcutaneous )\bemphysem\w+", r"\bbull(?:ae?|ous)\b"),
    "Atelectasis": (r"\w*atelect[ae]\w+", r"\bcollapse of\b[^,.;]{0,30}\blobe"),
    "Lung nodule": (r"\b(?:micro|macro)?-?nodul\w+",),
    "Lung opacity": (
        r"\bground[- ]?glass",
        r"\bopaci(?:ty|ties|fication)\b",
        r"\bcrazy[- ]paving",
        r"\b(?:infiltrations?|infiltrates?|density increases?|increased density)\b",
    ),
    "Pulmonary fibrotic sequela": (r"\bfibro(?:tic|sis|-?atelecta\w+)\b", r"\bsequela\w*", r"\bscar(?:s|ring)?\b"),
    "Pleural effusion": (
        *_both(r"pleura[l]?", r"(?:effusions?|fluid)"),
        r"\bhydrothorax",
        r"\bhemithora\w+\b[^,.;]{0,30}\beffusion",
        r"\beffusion\b[^,.;]{0,30}\bhemithora",
    ),
    "Mosaic attenuation pattern": (r"\bmosaic", r"\bpatchwork of\b"),
    "Peribronchial thickening": (
        r"\bperi-?bronch\w+(?: \w+){0,2} ?-?(?:thick|cuff|wall)\w*",
        rf"\bbronchial walls?\b{_GAP}\bthick",
        rf"\bthicken\w+\b{_GAP}\b(?:peri)?bronchi\w*",
    ),
    "Consolidation": (r"\bconsolidat\w+",),
    "Bronchiectasis": (
        r"\bbronchi(?:ol)?ecta\w+",
        r"\bbronchial (?:dilat|widen|ectas)\w+",
        r"\bdilat\w+ (?:of |in )?(?:the )?bronch",
    ),
    "Interlobular septal thickening": _both(r"sept(?:al|a|um|ums)", r"thick\w+"),
}  # fmt: skip
# A clause that mentions another organ does not state the finding.
ELSEWHERE = {
    "Lung nodule": r"\b(?:thyroid|isthmus|adrenal|surrenal|breast|liver|hepatic|spleen|splenic|kidney|renal|pancrea\w+|"
    r"subcutaneous|lymph nodes?)\b",
    "Lung opacity": r"\b(?:liver|hepatic|bone|vertebra\w*|breast|mesenter\w+|subcutaneous)\b",
    "Pulmonary fibrotic sequela": r"\b(?:liver|hepatic|kidney|renal|splenic|fracture\w*|vertebra\w*|ribs?)\b",
    "Medical material": r"\b(?:contrast (?:material|medium))\b",
}

# A decimal point does not end a sentence.
_CLAUSES = re.compile(
    r"(?<!\d)[.](?!\d)|(?<=\d)[.](?=\s|$)|[;\n]|"
    r"\b(?:but|however|although|though|except|whereas|apart from|other than)\b"
)
# The scope of "no" is a list; "not" negates only its own predicate.
_BEFORE = re.compile(r"\b(?:no|without|neither|nor|absence of|free (?:of|from)|negative for|resolution of)\b")
_NOT_BEFORE = re.compile(r"\b(?:not|never)\b")
_NEW_CLAUSE = re.compile(
    r"\b(?:is|are|was|were)\b[^,]*,|\bthere (?:is|are|was|were)\b|,\s*(?:with|and) (?!no\b)\w+ing\b"
)
_PREDICATE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|could|can|did|does|do)\b\s*(?P<negation>not\b|n't|no longer|absent)?"
)
_NEGATED_AFTER = re.compile(
    r"^[\s\w/-]{0,30}?(?:: ?(?:none|no|absent)|\bnot (?:detected|observed|seen|present)|\babsent)\b"
)
_NORMAL_AFTER = re.compile(r"^\W*(?:is|are|was|were) (?:ruled out|excluded|resolved)\b")
_INSIDE = re.compile(r"\b(?:no|not|without|free of|never)\b")


def report_labels(text: str) -> dict[str, int | None]:
    """Whether a report states each of CT-RATE's 18 findings: name to 1 or 0.

    The rules are for English. All findings are None (unknown) for text in a non-Latin script. The result is meaningless
    for other languages in Latin script.

    The test compares the labels with the findings of phantom reports, and with CT-RATE's published labels of its
    validation reports, which come from a text classifier.
    """
    labels: dict[str, int | None] = dict.fromkeys(CT_RATE_LABELS)
    if not is_latin(text):
        return labels
    labels.update(dict.fromkeys(CT_RATE_LABELS, 0))
    for clause in _CLAUSES.split(" ".join(text.lower().split())):
        for name, pattern in _COMPILED.items():
            if labels[name] or (name in _ELSEWHERE and _ELSEWHERE[name].search(clause)):
                continue
            labels[name] = int(any(not _is_negated(clause, match) for match in pattern.finditer(clause)))
    return labels


def _is_negated(clause: str, match: re.Match) -> bool:
    before, after = clause[: match.start()], clause[match.end() :]
    if _INSIDE.search(match.group()):
        return True
    for cue in _BEFORE.finditer(before):
        if not _NEW_CLAUSE.search(before, cue.end()):
            return True
    for cue in _NOT_BEFORE.finditer(before):
        if not re.search(r",|\band\b", before[cue.end() :]):
            return True
    predicate = _PREDICATE.search(after)
    if predicate and predicate["negation"]:
        return True
    return bool(_NEGATED_AFTER.search(after) or _NORMAL_AFTER.search(after))


_COMPILED = {name: re.compile("|".join(f"(?:{p})" for p in phrases)) for name, phrases in PHRASES.items()}
_ELSEWHERE = {name: re.compile(pattern) for name, pattern in ELSEWHERE.items()}
