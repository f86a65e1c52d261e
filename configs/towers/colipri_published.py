# COLIPRI as published, with its own embeddings of volumes and texts. It is evaluated without training:
# python tools/test.py configs/towers/colipri_published.py --cfg-options weights=FILE tokenizer=FOLDER ann_file=MANIFEST
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.colipri.colipri_tower"])
weights = None  # the file model.safetensors
# Folder or hub id with config.json and vocab.txt of the text encoder.
tokenizer = "microsoft/BiomedVLP-CXR-BERT-specialized"
model = dict(
    _delete_=True,
    type="PublishedVLM",
    tower=dict(type="ColipriTower", embed_dims=864, depth=16, num_heads=12, out_dims=768),
    pretrained=weights,
    prefix="image_encoder.backbone.",
    head_prefix="image_encoder.",
    logit_scale=dict(key="softmax_temperature", stored="temperature"),
    text_encoder=dict(
        type="PublishedTextEncoder",
        pretrained=tokenizer,
        tokenizer=dict(do_lower_case=True),
        weights=weights,
        prefix="text_encoder.backbone.",
        head_prefix="text_encoder.pooler.",
        pooling="attention",
        num_heads=12,
    ),
)
# The tower resamples and crops; volumes have different sizes.
pipeline = [dict(type="LoadCT"), dict(type="PackCTInputs")]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RetrievalMetric", protocol="radfinder"),
    dict(type="ZeroShotClassificationMetric", protocol="radfinder"),
]
