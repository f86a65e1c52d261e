# Blocks without attention to regions; regions are still pooled and trained.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(block=dict(region_attention=None)))
