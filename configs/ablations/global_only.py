# Only the volume loss, as in CLIP. Neither the model nor the loss uses regions; region maps are used in evaluation
# only. With mean pooling and one projection for volumes, regions and patches, regions and patches are embedded in the
# space that was trained with volumes, so that the region and step metrics apply.
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
