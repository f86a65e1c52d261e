"""Sentences that do not depend on a finding: technique, normal organs, negations, conclusions.

A normal statement lists its regions and, if it denies only some findings, their names. It is used only if none of the
findings that it denies was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

LUNGS = ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right",
         "lung_upper_lobe_left", "lung_lower_lobe_left")  # fmt: skip
RIGHT, LEFT = LUNGS[:3], LUNGS[3:]

SECTIONS = ("airways", "lungs", "pleura", "mediastinum", "neck", "heart", "vessels", "abdomen", "bones")


@dataclass(frozen=True)
class Normal:
    """A normal statement. If ``denies`` is empty, it denies every finding that touches one of its regions."""

    section: str
    regions: tuple[str, ...]
    texts: tuple[str, ...]
    denies: tuple[str, ...] = ()


def _normal(section, regions, *texts, denies=()):
    return Normal(section, (regions,) if isinstance(regions, str) else tuple(regions), texts, tuple(denies))


NORMALS = (
    _normal(
        "airways",
        "trachea",
        "The trachea and main bronchi are patent.",
        "No obstructive lesion is seen in the trachea or the main bronchi.",
        "The trachea lies in the midline and its lumen is open.",
    ),
    _normal(
        "lungs",
        RIGHT,
        "The right lung is clear.",
        "No nodular or infiltrative lesion is seen in the right lung.",
        "Aeration of the right lung is normal.",
    ),
    _normal(
        "lungs",
        LEFT,
        "The left lung is clear.",
        "No nodular or infiltrative lesion is seen in the left lung.",
        "Aeration of the left lung is normal.",
    ),
    _normal(
        "lungs",
        "lung_upper_lobe_right",
        "The right upper lobe is normally aerated.",
        "No abnormality is seen in the upper lobe of the right lung.",
    ),
    _normal(
        "lungs",
        "lung_middle_lobe_right",
        "The right middle lobe is normally aerated.",
        "No abnormality is seen in the right middle lobe.",
    ),
    _normal(
        "lungs",
        "lung_lower_lobe_right",
        "The right lower lobe is normally aerated.",
        "The lower lobe of the right lung is unremarkable.",
    ),
    _normal(
        "lungs",
        "lung_upper_lobe_left",
        "The left upper lobe and the lingula are normally aerated.",
        "No abnormality is seen in the upper lobe of the left lung.",
    ),
    _normal(
        "lungs",
        "lung_lower_lobe_left",
        "The left lower lobe is normally aerated.",
        "The lower lobe of the left lung is unremarkable.",
    ),
    _normal(
        "lungs",
        LUNGS,
        "No mass or nodule is seen in either lung.",
        "There is no pulmonary nodule.",
        denies=("lung nodule", "cavitary lesion", "consolidation"),
    ),
    _normal(
        "lungs",
        LUNGS,
        "There is no consolidation or ground-glass opacity.",
        "No active infiltration is seen in the lung parenchyma.",
        denies=("consolidation", "ground-glass opacity", "cavitary lesion", "atelectasis"),
    ),
    _normal(
        "pleura",
        ("lung_lower_lobe_right", "lung_lower_lobe_left"),
        "No pleural effusion is detected.",
        "There is no pleural effusion on either side.",
        "The pleural spaces are free of fluid.",
        denies=("pleural effusion",),
    ),
    _normal(
        "pleura",
        ("lung_upper_lobe_right", "lung_upper_lobe_left"),
        "There is no pneumothorax.",
        "No pneumothorax is seen on either side.",
        denies=("pneumothorax",),
    ),
    _normal(
        "mediastinum",
        "mediastinum",
        "No enlarged mediastinal lymph nodes are seen.",
        "The mediastinum is unremarkable, without adenopathy or mass.",
        "Mediastinal structures are normal and no pathological lymph node is detected.",
    ),
    _normal(
        "mediastinum",
        "esophagus",
        "The oesophagus is of normal calibre and wall thickness.",
        "No wall thickening is seen in the thoracic oesophagus.",
        "The oesophagus is unremarkable.",
    ),
    _normal(
        "neck",
        "thyroid",
        "The thyroid gland is normal.",
        "Both thyroid lobes are of normal size and homogeneous.",
        "No nodule is seen in the thyroid.",
    ),
    _normal(
        "heart",
        "heart",
        "The heart is of normal size, without pericardial effusion.",
        "Heart contour and size are normal.",
        "Cardiac chambers are normal in size.",
    ),
    _normal(
        "heart",
        "heart",
        "No pericardial effusion is seen.",
        "There is no pericardial fluid.",
        denies=("pericardial effusion",),
    ),
    _normal("heart", "heart", "The heart is not enlarged.", "There is no cardiomegaly.", denies=("cardiomegaly",)),
    _normal(
        "vessels",
        "aorta",
        "The aorta is of normal calibre.",
        "Aortic diameter and wall are normal.",
        "No aneurysm or wall calcification of the aorta is seen.",
    ),
    _normal(
        "abdomen",
        "liver",
        "The liver is normal in size and attenuation.",
        "No space-occupying lesion is seen in the liver.",
        "The liver parenchyma is homogeneous.",
    ),
    _normal(
        "abdomen",
        "gallbladder",
        "The gallbladder is unremarkable.",
        "No stone or wall thickening is seen in the gallbladder.",
    ),
    _normal("abdomen", "spleen", "The spleen is normal in size.", "The spleen is homogeneous and not enlarged."),
    _normal("abdomen", "stomach", "The stomach is unremarkable.", "No wall thickening is seen in the stomach."),
    _normal(
        "abdomen",
        "pancreas",
        "The pancreas is normal in size and contour.",
        "The pancreas is unremarkable, without a focal lesion.",
    ),
    _normal("abdomen", "kidney_right", "The right kidney is normal.", "No stone or mass is seen in the right kidney."),
    _normal("abdomen", "kidney_left", "The left kidney is normal.", "No stone or mass is seen in the left kidney."),
    _normal(
        "abdomen",
        ("kidney_right", "kidney_left"),
        "Neither kidney shows hydronephrosis.",
        "There is no dilatation of the renal collecting systems.",
        denies=("hydronephrosis",),
    ),
    _normal(
        "bones",
        "spine",
        "Vertebral body heights are preserved.",
        "No fracture or lytic lesion is seen in the spine.",
        "The thoracic vertebrae are unremarkable.",
    ),
    _normal(
        "bones",
        "rib_cage",
        "The ribs and the sternum are intact.",
        "No rib fracture or bone lesion of the chest wall is seen.",
        "The rib cage is unremarkable.",
    ),
)

TECHNIQUE = {
    "non_contrast": (
        "CT of the chest and upper abdomen without intravenous contrast.",
        "Non-contrast chest CT that includes the upper abdomen.",
        "Axial CT images were obtained without contrast medium.",
    ),
    "arterial": (
        "CT of the chest and upper abdomen in the arterial phase.",
        "CT angiography of the chest, arterial phase of contrast.",
        "Contrast-enhanced CT acquired in the arterial phase.",
    ),
    "venous": (
        "CT of the chest and upper abdomen in the venous phase.",
        "Contrast-enhanced CT in the portal venous phase.",
        "Venous phase CT after intravenous contrast medium.",
    ),
}

NORMAL_IMPRESSIONS = (
    "No significant abnormality in the chest or upper abdomen.", "Normal CT of the chest and upper abdomen.",
    "No acute or focal abnormality is detected.", "Chest and upper abdominal CT within normal limits.",
    "Unremarkable study.", "No pathological finding in the scanned area.",
)  # fmt: skip

CONCLUSIONS = (
    "In conclusion, the study shows {list}.",
    "Taken together, the findings are {list}.",
    "Overall: {list}.",
    "The main findings are {list}.",
    "In summary, there is evidence of {list}.",
)
NORMAL_CONCLUSIONS = (
    "In conclusion, no abnormality is found.",
    "Overall, the study is normal.",
    "In summary, there is no significant finding.",
    "Taken together, the scan is within normal limits.",
)

# Synonyms of size categories. A category without an entry is written unchanged.
SIZE_WORDS = {
    "small": ("small",),
    "large": ("large", "sizeable"),
    "mild": ("mild", "slight"),
    "marked": ("marked", "pronounced"),
    "severe": ("severe", "advanced"),
    "extensive": ("extensive", "widespread"),
    "bulky": ("bulky", "conglomerate"),
    "thin": ("thin", "fine"),
    "thick": ("thick", "broad"),
    "few": ("a few", "several"),
    "numerous": ("numerous", "multiple"),
}
