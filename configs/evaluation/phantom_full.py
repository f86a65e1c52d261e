# Everything that can be measured on the default's test phantoms, with intervals:
# python tools/test.py configs/evaluation/phantom_full.py work_dirs/vit3d_cot_contrastive/epoch_7.pth
_base_ = ["../vit3d_cot_contrastive.py"]

bootstrap = 1000
test_evaluator = [
    dict(type="RetrievalMetric", topk=(1, 5, 10, 50), bootstrap=bootstrap),
    dict(type="RegionTextMetric", bootstrap=bootstrap),
    dict(type="RegionRetrievalMetric", bootstrap=bootstrap),
    dict(type="StepTextMetric", bootstrap=bootstrap),
    dict(type="AlignmentMetric", bootstrap=bootstrap),
    dict(type="LocalisationMetric", bootstrap=bootstrap),
    dict(type="EmbeddingHealthMetric"),
    # One protocol a line: their numbers are never comparable with one another.
    dict(type="ZeroShotClassificationMetric", protocol="ctvlm", thresholds="dev", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="ct_clip", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="spectre", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="radfinder", bootstrap=bootstrap),
    dict(type="ZeroShotClassificationMetric", protocol="vlm3d", bootstrap=bootstrap),
]
