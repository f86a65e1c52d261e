"""Text after a flip names the mirror images of the regions that it named before."""

from __future__ import annotations

import pytest

from ctvlm.anatomy import RegionScheme, mention_lexicon
from ctvlm.datasets.transforms.laterality import swap_label_sides, swap_sides

SCHEME = RegionScheme.load()
# The mirrored map has no middle lobe, but "right lung" and "both lungs" go on naming it.
MIDDLE = {SCHEME.id_of("lung_middle_lobe_right")}


def in_step(text: str) -> bool:
    """Whether the swapped text names the partners of the regions that the text names."""
    partner, lexicon = SCHEME.partner_ids(), mention_lexicon()
    wanted = {partner.get(i, i) for i in lexicon.regions_in(text)}
    return set(lexicon.regions_in(swap_sides(text))) - MIDDLE == wanted


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("Nodule in the right lower lobe.", "Nodule in the left lower lobe."),
        ("LEFT-sided effusion, Right hilum.", "RIGHT-sided effusion, Left hilum."),
        ("A cyst of the left kidney shifts rightwards.", "A cyst of the right kidney shifts leftwards."),
        ("Mass in RUL and LLL.", "Mass in LUL and RLL."),
        ("The right middle lobe is collapsed.", "The lingula is collapsed."),
        ("Collapse of the RML.", "Collapse of the lingula."),
        ("Middle lobe of the right lung.", "Lingula."),
        ("Lingular atelectasis.", "Right upper lobe atelectasis."),
        ("The lingular segment of the left upper lobe.", "The right upper lobe."),
        ("Band in the left lung inferior lingular segment.", "Band in the right upper lobe."),
        ("The right lower-middle lobe bronchus.", "The left lower lobe and lingula bronchus."),
        ("Left upper lobe lingula and left lower lobe.", "Right upper lobe and right lower lobe."),
        ("Right upper and middle lobes.", "Left upper lobe and lingula."),
        ("Bilateral effusions, both lungs clear.", "Bilateral effusions, both lungs clear."),
        ("A right angle; the patient has left.", "A right angle; the patient has left."),
        ("Mild dextroscoliosis.", "Mild levoscoliosis."),
        ("A bright spot is leftover from the uprighting.", "A bright spot is leftover from the uprighting."),
        ("", ""),
    ],
)
def test_words(text, swapped):
    assert swap_sides(text) == swapped


SENTENCES = [
    "Ground-glass opacity in the right upper and middle lobes and the left lower lobe.",
    "Atelectasis in the right middle and lower lobes.",
    "Consolidation in the upper, middle and lower lobes of the right lung.",
    "Bronchiectasis in both upper lobes, the middle lobe and the lingula.",
    "Nodules in the lingula and in the right middle lobe; the right kidney is small, the left kidney normal.",
    "Bilateral upper and middle lobes are emphysematous.",
    "Upper and middle lobes show nodules.",
    "Both lungs are clear, the liver is fatty, the spleen normal.",
    "RML nodule of 5 mm, LLL scar, RUL bleb.",
    "Left upper lobe lingular segment fibrosis.",
]


@pytest.mark.parametrize("text", SENTENCES)
def test_text_and_region_ids_stay_in_step(text):
    assert mention_lexicon().regions_in(text) and in_step(text)


def test_twice_is_the_same_where_there_is_a_mirror_image(shared_data):
    import csv

    path = next((shared_data / "text" / "ct_rate").glob("*reports*.csv"))
    with open(path, newline="", encoding="utf-8") as file:
        texts = [row["Findings_EN"] + " " + row["Impressions_EN"] for row in csv.DictReader(file)]
    plain = [t for t in texts if not any(w in t.lower() for w in ("middle", "lingul", "rml"))]
    sided = [t for t in plain if "right" in t.lower() or "left" in t.lower()]
    assert len(sided) > 20
    assert all(swap_sides(swap_sides(t)) == t and swap_sides(t) != t for t in sided)


def test_real_reports_name_the_partners(shared_data):
    import csv
    import re

    path = next((shared_data / "text" / "ct_rate").glob("*reports*.csv"))
    with open(path, newline="", encoding="utf-8") as file:
        texts = {row["Findings_EN"] for row in csv.DictReader(file)}
    sentences = [s for t in texts for s in re.split(r"(?<=\.)\s+", t) if re.search(r"\b(right|left|lingul|middle)", s)]
    right = sum(map(in_step, sentences))
    assert len(sentences) > 200
    assert right / len(sentences) > 0.95, f"{right} of {len(sentences)}"


def test_labels_with_a_side_take_the_mirror_images_value():
    labels = {"Right pleural effusion": 1, "Left pleural effusion": 0, "Emphysema": 1, "Left kidney stone": 1}
    assert swap_label_sides(labels) == {
        "Right pleural effusion": 0,
        "Left pleural effusion": 1,
        "Emphysema": 1,
        "Left kidney stone": None,
    }
