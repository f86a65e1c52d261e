# Steps are compared with the patches that they attend to, not with those of their lesion or regions.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(objectives=dict(step=dict(pool_by_mask=False)))
