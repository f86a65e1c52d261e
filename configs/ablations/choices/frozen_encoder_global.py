# frozen_encoder.py with global pooling: the same encoder and objectives, without regions.
_base_ = ["frozen_encoder.py"]
model = dict(
    space=dict(regions_in_volume=False, volume_pooling=dict(with_regions=False)),
    objectives=dict(classification=dict(head=dict(pooling=dict(with_regions=False)))),
)
