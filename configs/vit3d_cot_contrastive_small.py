# The small preset on your own CTs: 64 x 256 x 256 voxels, one GPU (bf16 with --amp).
_base_ = ["vit3d_cot_contrastive_manifest.py"]

pipeline = [
    dict(type="LoadCT"),
    dict(type="MeasuredReasoning"),
    dict(type="ResampleCT", shape=(64, 256, 256), crop_to_body=True),
    dict(type="PackCTInputs"),
]
model = dict(
    embed_dims=256,
    backbone=dict(
        img_size=(64, 256, 256),
        embed_dims=384,
        depth=12,
        patch_embed=dict(_delete_=True, type="ThreeDPatchEmbedding", in_channels=3, patch_size=(4, 16, 16)),
        block=dict(num_heads=6, mlp_ratio=4.0, use_checkpoint=True),
        region_layer=0,
    ),
    text_encoder=dict(vocab_size=8192, embed_dims=256, depth=4, max_length=256),
)
train_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
val_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
test_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
train_cfg = dict(max_epochs=20, val_interval=1)
# As encoders of this size are trained: Muon, the tiny preset's, is not measured here.
optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",
    optimizer=dict(_delete_=True, type="AdamW", lr=3e-4, betas=(0.9, 0.98), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, begin=1, end=20, by_epoch=True, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=16)
