# Only volume against impression, as CLIP trains. No part of the model or of the loss sees a region; maps serve its
# evaluation alone. Mean pooling and one projection for volumes, regions and patches put parts of a volume into the
# space that the whole was trained in, so that it can be asked where a sentence belongs.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    space=dict(
        regions_in_volume=False,
        shared_projection=True,
        volume_pooling=dict(_delete_=True, type="VolumePooling", mode="mean"),
        region_pooling=dict(_delete_=True, type="RegionPooling", mode="mean"),
    ),
    backbone=dict(block=dict(region_attention=None)),
    losses=dict(region=None, step=None, focus=None),
    objectives=None,
)
find_unused_parameters = True
