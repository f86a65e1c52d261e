# Regions predicted from the image. Region maps supervise training and are not used in evaluation.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    backbone=dict(
        region_encoder=dict(_delete_=True, type="LearnedRegionEncoder", map_weight=0.5, use_map_at_eval=False)
    ),
    objectives=dict(region_logits=dict(type="SegmentationObjective", head=dict(type="RegionLogitsHead"))),
)
