"""After a swap of sides, text names the partners of the regions that it named before."""

from __future__ import annotations

import pytest

from ctvlm.anatomy import RegionScheme, mention_lexicon
from ctvlm.text import find_ambiguous_side, swap_label_sides, swap_sides

SCHEME = RegionScheme.load()
# The mirrored map has no middle lobe, but "right lung" and "both lungs" still include it.
MIDDLE = {SCHEME.id_of("lung_middle_lobe_right")}


def names_partners(text: str) -> bool:
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
        ("Effusion on the Lt., Rt hilum, lt. kidney.", "Effusion on the Rt., Lt hilum, rt. kidney."),
        ("Cyst of the L kidney, R. breast, R upper lobe.", "Cyst of the R kidney, L. breast, L upper lobe."),
        ("Effusion R>L; R = 3 cm, L: 2 cm; both R and L.", "Effusion L>R; L = 3 cm, R: 2 cm; both L and R."),
        ("Hernia (L), RT kidney, RT-PCR positive.", "Hernia (R), LT kidney, RT-PCR positive."),
        ("Stent in the RCA, LV dilated, RLQ pain.", "Stent in the LCA, RV dilated, LLQ pain."),
        ("Left-sided effusion; bilateral nodules.", "Right-sided effusion; bilateral nodules."),
        ("The patient has left pleural effusion.", "The patient has right pleural effusion."),
        ("On the left over the diaphragm.", "On the right over the diaphragm."),
        ("kidney_right_cyst", "kidney_left_cyst"),
        ("Rt. middle lobe nodule.", "Lingula nodule."),
        ("R upper and middle lobes.", "Left upper lobe and lingula."),
        ("Fluid left over; left-over contrast.", "Fluid left over; left-over contrast."),
        (
            "Drain left in place, wound left open, seen right away.",
            "Drain left in place, wound left open, seen right away.",
        ),
        ("Oxygen 2 L, L1 fracture, L-spine.", "Oxygen 2 L, L1 fracture, L-spine."),
    ],
)
def test_swapped_text(text, swapped):
    assert swap_sides(text) == swapped
    assert find_ambiguous_side(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Rundherd in der linken Lunge.", "Erguss rechts.", "Li. Niere.", "Rechtsseitiger Erguss.",
        "Nodule du poumon droit.", "Épanchement pleural gauche.", "Nódulo derecho.", "Derrame à esquerda.",
        "Polmone destro.", "Vänster lunga.", "Sağ akciğerde nodül.", "Prawe płuco.", "Узел в левом лёгком.",
        "Образование справа.", "右肺上叶见结节。", "左下葉に結節。", "우측 폐에 결절.", "왼쪽 폐.", "العقدة في الرئة",
        "Stenosis of the LAD.", "Changes after RT.", "Mass at 3 o'clock.", "The catheter was left in the bladder.",
        "Nodule right below the carina.", "R effusive, maybe.",
    ],
)  # fmt: skip
def test_ambiguous_and_foreign_sides_are_found(text):
    assert find_ambiguous_side(text)


def test_other_languages_without_a_side():
    for text in (
        "Beidseits keine Läsion.",
        "Pas de nodule.",
        "肝脏正常。",
        "정상인 경우.",
        "Печень в норме.",
        "Links to images: none",
    ):
        assert (find_ambiguous_side(text) is None) == (not text.startswith("Links")), text


def test_few_real_reports_are_ambiguous(shared_data):
    import csv

    path = next((shared_data / "text" / "ct_rate").glob("*reports*.csv"))
    with open(path, newline="", encoding="utf-8") as file:
        texts = {row["Findings_EN"] + "\n" + row["Impressions_EN"] for row in csv.DictReader(file)}
    ambiguous = {text: word for text in texts if (word := find_ambiguous_side(text))}
    assert len(ambiguous) / len(texts) < 0.1, sorted(ambiguous.values())


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
def test_swapped_text_names_the_partners(text):
    assert mention_lexicon().regions_in(text) and names_partners(text)


def test_two_swaps_restore_the_text(shared_data):
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
    correct = sum(map(names_partners, sentences))
    assert len(sentences) > 200
    assert correct / len(sentences) > 0.95, f"{correct} of {len(sentences)}"


def test_labels_with_a_side_get_the_value_of_their_partner():
    labels = {"Right pleural effusion": 1, "Left pleural effusion": 0, "Emphysema": 1, "Left kidney stone": 1}
    assert swap_label_sides(labels) == {
        "Right pleural effusion": 0,
        "Left pleural effusion": 1,
        "Emphysema": 1,
        "Left kidney stone": None,
    }
