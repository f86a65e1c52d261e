# The weights of regions in the volume embedding are a softmax: the findings of a case share a weight of 1.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(space=dict(regions_in_volume="softmax"))
