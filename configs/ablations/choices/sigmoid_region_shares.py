# The weights of regions in the volume embedding are sigmoids: findings of a case do not share one weight.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(space=dict(regions_in_volume="sigmoid"))
