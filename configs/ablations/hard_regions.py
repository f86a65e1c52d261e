# Each patch belongs wholly to the region that fills most of it.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(region_encoder=dict(_delete_=True, type="HardOverlapRegionEncoder")))
