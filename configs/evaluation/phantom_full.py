# All metrics of the default model on its test phantoms, with intervals:
# python tools/test.py configs/evaluation/phantom_full.py work_dirs/vit3d_cot_contrastive/epoch_8.pth
_base_ = ["../vit3d_cot_contrastive.py"]

bootstrap = 1000
# Findings of the phantoms that have a side.
located = [
    "lung nodule", "cavitary lesion", "consolidation", "ground-glass opacity", "atelectasis", "emphysema",
    "bronchiectasis", "pulmonary fibrotic sequela", "renal cyst", "renal stone", "hydronephrosis",
]  # fmt: skip
test_evaluator = [
    dict(type="RetrievalMetric", topk=(1, 5, 10, 50), bootstrap=bootstrap),
    dict(type="RegionTextMetric", bootstrap=bootstrap),
    dict(type="RegionRetrievalMetric", bootstrap=bootstrap),
    dict(type="StepTextMetric", bootstrap=bootstrap),
    dict(type="OppositeTextMetric", bootstrap=bootstrap),
    dict(type="AlignmentMetric", bootstrap=bootstrap),
    dict(type="LocalisationMetric", bootstrap=bootstrap),
    # Location questions: present? which side? which lobe?
    dict(type="LocationQuestionMetric", findings=located, bootstrap=bootstrap),
    dict(
        type="LocationQuestionMetric",
        findings=located,
        features="volume",
        prefix="location_volume",
        bootstrap=bootstrap,
    ),
    dict(type="EmbeddingHealthMetric"),
    # Published protocols, one per line. Their numbers cannot be compared with one another.
    dict(type="RetrievalMetric", protocol="ct_clip", bootstrap=bootstrap),
    dict(type="RetrievalMetric", protocol="spectre", bootstrap=bootstrap),
    dict(type="RetrievalMetric", protocol="radfinder", bootstrap=bootstrap),
    dict(type="PoolRetrievalMetric", protocol="spectre"),
    dict(type="PoolRetrievalMetric", protocol="radfinder"),
    dict(type="PoolRetrievalMetric", protocol="merlin"),
    dict(type="ImageRetrievalMetric", protocol="ct_clip"),
    dict(type="ImageRetrievalMetric", protocol="spectre"),
    dict(type="ImageRetrievalMetric", protocol="radfinder"),
    dict(type="SliceLocalisationMetric", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="ctvlm", thresholds="dev", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="ct_clip", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="roc_corner", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="spectre", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="radfinder", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="fvlm", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="hlip", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="hlip_grid", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="vlm3d", bootstrap=bootstrap),
    # Rad-ChestCT (16 findings) has the protocols ct_clip_rad_chestct and radfinder_rad_chestct.
]
