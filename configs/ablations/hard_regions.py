# Each patch is assigned to the region with the largest share of its voxels.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(region_encoder=dict(_delete_=True, type="HardOverlapRegionEncoder")))
