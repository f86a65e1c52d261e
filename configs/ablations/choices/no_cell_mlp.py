# No MLP on the cells of the patch embedding.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(patch_embed=dict(mlp_ratio=0.0)))
