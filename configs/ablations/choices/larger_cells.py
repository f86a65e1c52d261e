# The patch embedding begins with cells of 2 x 8 x 8 voxels instead of 2 x 4 x 4.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(patch_embed=dict(merges=[(2, 8, 8), (2, 2, 2)], widths=[96])))
