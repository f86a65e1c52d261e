# HLIP as published, with its own embeddings of volumes and texts. It is evaluated without training:
# python tools/test.py configs/towers/hlip_published.py --cfg-options weights=FILE tokenizer=FOLDER ann_file=MANIFEST
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.hlip.hlip_tower"])
weights = None  # the file of the ViT-B for chest CT
# Folder or hub id with config.json and vocab.txt of the text encoder.
tokenizer = (
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext"  # folder or hub id with config.json and vocab.txt
)
model = dict(
    _delete_=True,
    type="PublishedVLM",
    tower=dict(type="HLIPTower", embed_dims=768, depth=12, num_heads=12, out_dims=512),
    pretrained=weights,
    prefix="module.visual.trunk.",
    head_prefix="module.visual.head.proj.",
    logit_scale=dict(key="module.logit_scale", stored="log"),
    text_encoder=dict(
        type="PublishedTextEncoder",
        pretrained=tokenizer,
        weights=weights,
        prefix="module.text.transformer.",
        head_prefix="module.text.proj.",
        out_dims=512,
        pooling="cls",
        max_length=256,
    ),
)
# The tower resamples and crops; volumes have different sizes.
pipeline = [dict(type="LoadCT"), dict(type="PackCTInputs")]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="ZeroShotClassificationMetric", protocol="hlip"),
]
