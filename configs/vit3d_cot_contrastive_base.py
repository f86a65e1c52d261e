# The base preset on your own CTs: the spec's sizes with the default parts. 64 x 512 x 512 voxels, patches of
# 4 x 16 x 16, 768 / 12 / 12.
_base_ = ["vit3d_cot_contrastive_small.py"]

pipeline = [
    dict(type="LoadCT"),
    dict(type="MeasuredReasoning"),
    dict(type="ResampleCT", shape=(64, 512, 512), crop_to_body=True),
    dict(type="PackCTInputs"),
]
model = dict(
    embed_dims=512,
    backbone=dict(img_size=(64, 512, 512), embed_dims=768, depth=12, block=dict(num_heads=12), token_selection="none"),
    text_encoder=dict(vocab_size=16384, embed_dims=384, depth=6, num_heads=6, max_length=512),
)
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=pipeline))
val_dataloader = dict(batch_size=8, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=8, dataset=dict(pipeline=pipeline))
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
