# The literal form of the specification, with the sizes of the tiny preset: Conv3d patches of one window (40, 400),
# learned positions, a CNN over the region ids as one float channel, region embeddings that are the same in every block,
# scores times assignment, a table of 32 slice distances times 0.5, Add & Norm, mean pooling, temperature 0.07.
# ctvlm/models/literal.py has these parts under the names of the specification. The CNN at full resolution is slow on a
# CPU: use a GPU, or fewer cases.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    data_preprocessor=dict(windows=[(40, 400)]),
    backbone=dict(
        _delete_=True,
        type="LiteralVisionEncoder",
        img_size=(24, 96, 96),
        embed_dims=128,
        depth=3,
        num_regions=20,
        patch_embed=dict(type="ThreeDPatchEmbedding", in_channels=1, patch_size=(4, 16, 16)),
        block=dict(
            num_heads=2,
            attention=dict(type="LiteralSliceAwareAttention", slice_distance_weight=0.5, backend="dense"),
            region_attention=dict(type="LiteralRegionAwareAttention"),
        ),
        region_encoder=dict(type="MaskCNNRegionEncoder"),
    ),
    by_sentence=False,
    space=dict(
        regions_in_volume=False,
        volume_pooling=dict(_delete_=True, type="VolumePooling", mode="mean"),
        region_pooling=dict(_delete_=True, type="RegionPooling", mode="mean"),
    ),
    losses=dict(
        volume=dict(_delete_=True, type="FixedTemperatureContrastiveLoss", temperature=0.07),
        region=dict(_delete_=True, type="FixedTemperatureContrastiveLoss", temperature=0.07),
        step=dict(_delete_=True, type="FixedTemperatureContrastiveLoss", temperature=0.07),
    ),
)
