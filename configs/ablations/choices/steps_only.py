# Only the step and focus losses: patches are aligned with sentences. Poolings of volumes and regions are not trained,
# so that frozen_encoder.py and frozen_encoder_global.py start from the same encoder.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(losses=dict(volume=None, region=None))
find_unused_parameters = True
