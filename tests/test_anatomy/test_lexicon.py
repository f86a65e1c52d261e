"""Precision and recall of the mention lexicon."""

from __future__ import annotations

import csv
import json

import pytest

from ctvlm.anatomy import MentionLexicon, RegionScheme

LEXICON = MentionLexicon()
NAMES = LEXICON.scheme.names
SHORT = {
    "RU": 1, "RM": 2, "RL": 3, "LU": 4, "LL": 5, "trachea": 6, "heart": 7, "aorta": 8, "mediastinum": 9,
    "esophagus": 10, "thyroid": 11, "liver": 12, "gallbladder": 13, "spleen": 14, "stomach": 15, "pancreas": 16,
    "RK": 17, "LK": 18, "spine": 19, "ribs": 20,
}  # fmt: skip
SENTENCES = [
    ("A nodule lies in the left lower lobe.", "LL"),
    ("A nodule lies in the left lung.", "LU LL"),
    ("Both lungs are clear.", "RU RM RL LU LL"),
    ("The lungs are well aerated.", "RU RM RL LU LL"),
    ("Opacity in the lower lobe of the right lung.", "RL"),
    ("Opacities in the right lung upper and lower lobes.", "RU RL"),
    ("Nodules in the upper lobe and lower lobe of the right lung.", "RU RL"),
    ("Ground glass in the lower lobes of both lungs.", "RL LL"),
    ("Bilateral lower lobe atelectasis.", "RL LL"),
    ("Atelectasis of the middle lobe.", "RM"),
    ("Bands in the right middle lobe and lingula.", "RM LU"),
    ("Consolidation in the lingular segment.", "LU"),
    ("RUL mass, LLL atelectasis.", "RU LL"),
    ("In the left lung, the basal segment of the lower lobe is collapsed.", "LU LL"),
    ("Nodules in the left lung lower lobe basal segment and lower lobe superior segment.", "LL"),
    ("On the right, the upper lobe shows emphysema.", "RU"),
    ("Upper lobe emphysema.", "RU LU"),
    ("Nodule in the right upper lobe. The lower lobes are clear.", "RU RL LL"),
    ("When examined in the lung parenchyma window, no nodule is seen.", ""),
    ("Pulmonary nodules are seen.", "RU RM RL LU LL"),
    ("The pulmonary arteries are dilated.", "mediastinum"),
    ("Trachea and both main bronchi are open.", "trachea"),
    ("Cardiomegaly with pericardial effusion and coronary calcification.", "heart"),
    ("Atherosclerotic changes of the thoracic aorta.", "aorta"),
    ("Aortic valve calcification.", "heart"),
    ("Calcified aortic wall and coronary arteries.", "aorta heart"),
    ("No enlarged paratracheal or subcarinal lymph nodes.", "mediastinum"),
    ("Sliding type hiatal hernia.", "esophagus"),
    ("Oesophageal wall thickening.", "esophagus"),
    ("A nodule in the right thyroid lobe.", "thyroid"),
    ("Artefacts at the level of the thyroid cartilage.", ""),
    ("Hepatic steatosis; gallstones within the gall bladder.", "liver gallbladder"),
    ("Hepatosplenomegaly.", "liver spleen"),
    ("Cholelithiasis and splenic granuloma.", "gallbladder spleen"),
    ("Stool at the hepatic flexure.", ""),
    ("Gastric wall thickening; the pancreatic duct is normal.", "stomach pancreas"),
    ("Right kidney is atrophic.", "RK"),
    ("A cyst in the left renal cortex.", "LK"),
    ("Both kidneys are normal.", "RK LK"),
    ("Kidneys are of normal size.", "RK LK"),
    ("Left hydronephrosis.", "LK"),
    ("Bronchi are open; segmental bronchi too.", "trachea"),
    ("Both adrenal glands are normal.", ""),
    ("Height loss of the T12 vertebra; scoliosis.", "spine"),
    ("Fracture of the left sixth rib and of the sternum.", "ribs"),
    ("No lytic lesion in bone structures.", "spine ribs"),
    ("The left clavicle and both scapulae are intact.", "ribs"),
    ("Pleural effusion on the right.", ""),
    ("No mass in either breast.", ""),
    ("Contribution of the service to delivery was heartfelt.", ""),
]


@pytest.mark.parametrize(("text", "regions"), SENTENCES)
def test_sentence(text, regions):
    want = {SHORT[name] for name in regions.split()}
    got = set(LEXICON.regions_in(text))
    assert got == want, [NAMES[i - 1] for i in got]


def test_mentions_have_the_positions_of_their_words():
    text = "The hepatic dome and the left lower lobe."
    assert [text[m.start : m.end] for m in LEXICON.find(text)] == ["hepatic", "left lower lobe"]


def test_names_and_synonyms_of_every_region_are_found():
    for region in LEXICON.scheme.regions:
        for phrase in region.synonyms:
            assert region.id in LEXICON.regions_in(f"Normal {phrase}."), phrase
        assert LEXICON.regions_in(f"Normal {region.display_name}.") == (region.id,)


def test_regions_of_a_custom_scheme_are_found_by_their_synonyms(tmp_path):
    custom = dict(
        name="x",
        version="1",
        regions=[dict(id=1, name="adrenal_gland", synonyms=["adrenal"]), dict(id=2, name="liver")],
    )
    (tmp_path / "x.json").write_text(json.dumps(custom))
    lexicon = MentionLexicon(RegionScheme.load(tmp_path / "x.json"))
    assert lexicon.regions_in("Both adrenals and the hepatic veins; the left lower lobe.") == (1, 2)


def expected_of_path(path: str) -> set[int]:
    """Regions of a RadGenome anatomy path according to RadGenome's tree."""
    scheme = RegionScheme.load()
    parts = path.split("/")
    leaf = parts[-1]
    if parts[0] == "lung":
        sides = [s for s in ("right", "left") if s in path] or ["right", "left"]
        levels = [x for x in ("upper", "middle", "lower") if x in path] or ["upper", "middle", "lower"]
        names = {f"lung_{x}_lobe_{s}" for s in sides for x in levels} & set(scheme.names)
        return {scheme.id_of(n) for n in names}
    if parts[0] == "bone":
        if "vertebra" in path or "spinal" in path:
            return {19}
        if any(w in path for w in ("rib", "clavicle", "scapula", "sternum")):
            return {20}
        return {19, 20} if leaf == "bone" else set()
    if "kidney" in path or leaf == "renal artery":
        return {17} if "right" in leaf else {18} if "left" in leaf else {17, 18}
    for word, region in (
        ("aorta", 8),
        ("liver", 12),
        ("gallbladder", 13),
        ("spleen", 14),
        ("stomach", 15),
        ("pancreas", 16),
    ):
        if word in leaf or f"/{word}/" in path:
            return {region}
    return {"heart": {7}, "mediastinum": {9}, "esophagus": {10}, "thyroid": {11}, "trachea and bronchie": {6}}.get(
        parts[0], set()
    )


def test_precision_and_recall_on_radgenome_anatomy_names(shared_data):
    """175 paths, weighted by frequency: precision 0.998, recall 1.000."""
    counts = json.loads((shared_data / "labels" / "radgenome_anatomy_paths_subset2000.json").read_text())
    right = found = there = 0
    for path, count in counts.items():
        want, got = expected_of_path(path), set(LEXICON.regions_in(path.split("/")[-1]))
        right += count * len(want & got)
        found += count * len(got)
        there += count * len(want)
    print(f"precision {right / found:.3f} recall {right / there:.3f}")
    assert right / found >= 0.99
    assert right / there >= 0.99


def test_precision_on_radgenome_rows_of_known_anatomy(shared_data):
    """A term that names a region belongs to that region in RadGenome's rows."""
    anatomy: dict[tuple[str, str], set[int]] = {}
    for file in ("train_vqa_location.csv", "train_vqa_size.csv"):
        with open(shared_data / "text" / "radgenome" / file, newline="") as rows:
            for row in csv.DictReader(rows):
                for term in row["Abnormality"].split(","):
                    known = anatomy.setdefault((row["Volumename"], term.strip()), set())
                    known |= expected_of_path(row["Anatomy"])
    right = found = 0
    for (_, term), known in anatomy.items():
        got = set(LEXICON.regions_in(term))
        if got and known:
            found += 1
            right += bool(got & known)
    print(f"precision {right / found:.3f} of {found}")
    assert found >= 50
    assert right / found >= 0.97


def test_recall_on_sentences_about_the_thyroid(shared_data):
    """Reports of one region according to the data set; they contain some other sentences."""
    shares = {}
    for region in ("thyroid", "breast"):
        with open(shared_data / "text" / "reg2rg" / f"{region}_reports.csv", newline="") as rows:
            texts = [row["GT_combined_report"] for row in csv.DictReader(rows)]
        shares[region] = sum(11 in LEXICON.regions_in(t) for t in texts) / len(texts)
    print(shares)
    assert shares["thyroid"] >= 0.95
    assert shares["breast"] <= 0.02
