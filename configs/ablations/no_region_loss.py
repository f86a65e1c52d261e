# Regions reach the text through the volume's embedding alone.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(region=None))
