# The patch embedding begins with cells of 2 x 4 x 4 voxels instead of 2 x 8 x 8, at lower cost.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(patch_embed=dict(merges=[(2, 4, 4), (1, 2, 2), (2, 2, 2)], widths=[32, 96])))
