# No step loss; the attention of steps is still trained by the focus loss.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(step=None))
