# Merlin as published, with its own embeddings of volumes and texts. It is evaluated without training:
# python tools/test.py configs/towers/merlin_published.py --cfg-options weights=FILE tokenizer=FOLDER ann_file=MANIFEST
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.merlin.merlin_tower", "projects.merlin.merlin_text"])
weights = None  # the file i3_resnet_clinical_longformer_best_clip_04-02-2024_23-21-36_epoch_99.pt
# Folder or hub id with config.json and the tokenizer files of the text encoder.
tokenizer = "yikuan8/Clinical-Longformer"
model = dict(
    _delete_=True,
    type="PublishedVLM",
    tower=dict(type="MerlinTower", out_dims=512),
    pretrained=weights,
    prefix="encode_image.i3_resnet.",
    head_prefix="encode_image.i3_resnet.contrastive_head.",
    # Merlin's zero-shot classification compares similarities without a scale.
    logit_scale=1.0,
    text_encoder=dict(
        type="MerlinTextEncoder",
        pretrained=tokenizer,
        weights=weights,
        prefix="encode_text.text_encoder.",
        head_prefix="encode_text.linear_layer.",
        out_dims=512,
        bias=True,
        pooling="cls",
        max_length=1024,
    ),
)
# The tower resamples and crops; volumes have different sizes.
pipeline = [dict(type="LoadCT"), dict(type="PackCTInputs")]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="PoolRetrievalMetric", protocol="merlin"),
]
