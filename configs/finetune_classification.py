# Fine-tuning for classification: the encoder of a pretrained checkpoint, and a head for the findings.
_base_ = ["vit3d_cot_contrastive.py"]

# Written by: python tools/train.py configs/vit3d_cot_contrastive.py
load_from = "work_dirs/vit3d_cot_contrastive/epoch_8.pth"
load_strict = False  # the head is new

names = [
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
]
model = dict(
    losses=dict(_delete_=True),  # only the labels; remove this line to train text alignment as well
    objectives=dict(
        classification=dict(
            type="ClassificationObjective",
            head=dict(
                type="ClassificationHead",
                names=names,
                pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
            ),
        )
    ),
)
# The loss does not use the text encoder and the projections.
find_unused_parameters = True

# The learning rate decreases towards the input. To train only pooling and head: --cfg-options model.frozen=[backbone]
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.3),
            "backbone.patch_embed": dict(lr_mult=0.05),
            "backbone.blocks.0": dict(lr_mult=0.1),
            "backbone.blocks.1": dict(lr_mult=0.2),
        }
    ),
)

default_hooks = dict(checkpoint=dict(save_best="classification/auroc", rule="greater"))
val_evaluator = [dict(type="ClassificationMetric", names=names, prefix="classification")]
test_evaluator = [
    dict(
        type="ClassificationMetric",
        names=names,
        prefix="classification",
        thresholds="dev",
        per_finding=True,
    )
]
