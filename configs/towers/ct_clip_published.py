# CT-CLIP as published, with its own embeddings of volumes and texts. It is evaluated without training:
# python tools/test.py configs/towers/ct_clip_published.py --cfg-options weights=FILE tokenizer=FOLDER ann_file=MANIFEST
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.ct_clip.ct_clip_tower"])
weights = None  # the file CT-CLIP_v2.pt
# Folder or hub id with config.json and vocab.txt of the text encoder.
tokenizer = "microsoft/BiomedVLP-CXR-BERT-specialized"
model = dict(
    _delete_=True,
    type="PublishedVLM",
    tower=dict(type="CTClipTower", embed_dims=512, num_heads=8, out_dims=512),
    pretrained=weights,
    prefix="visual_transformer.",
    head_prefix="to_visual_latent.",
    logit_scale=dict(key="temperature", stored="log"),
    text_encoder=dict(
        type="PublishedTextEncoder",
        pretrained=tokenizer,
        tokenizer=dict(do_lower_case=True),
        weights=weights,
        prefix="text_transformer.",
        head_prefix="to_text_latent.",
        out_dims=512,
        pooling="cls",
    ),
)
# The tower resamples and crops; volumes have different sizes.
pipeline = [dict(type="LoadCT"), dict(type="PackCTInputs")]
val_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_dataloader = dict(batch_size=1, dataset=dict(pipeline=pipeline))
test_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RetrievalMetric", protocol="ct_clip"),
    dict(type="ZeroShotClassificationMetric", protocol="ct_clip"),
]
