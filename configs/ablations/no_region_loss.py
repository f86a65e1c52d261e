# No region loss: regions are compared with text only as part of the volume embedding.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(region=None))
