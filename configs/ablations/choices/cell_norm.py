# Layer norm of the cells in the patch embedding, which hides the level of a homogeneous cell at first.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(patch_embed=dict(norm=True)))
