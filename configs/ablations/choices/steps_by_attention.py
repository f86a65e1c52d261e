# Steps are held against the patches that they attend to, not against those of their lesion or regions.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(step_place=False)
