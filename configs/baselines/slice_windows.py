# Attention within pairs of slices. Only the last block attends to the whole volume.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    backbone=dict(
        block=dict(
            attention=dict(_delete_=True, type="SliceWindowAttention", window=2),
            overrides=[dict(blocks=[-1], attention=dict(type="SliceAwareAttention"))],
        ),
    )
)
