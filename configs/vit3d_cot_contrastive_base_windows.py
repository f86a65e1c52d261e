# The base preset with attention within windows of two slices. The first and the last block attend to the whole volume.
_base_ = ["vit3d_cot_contrastive_base.py"]
model = dict(
    backbone=dict(
        block=dict(
            attention=dict(_delete_=True, type="SliceWindowAttention", window=2),
            overrides=[dict(blocks=[0, -1], attention=dict(type="SliceAwareAttention"))],
        ),
    )
)
