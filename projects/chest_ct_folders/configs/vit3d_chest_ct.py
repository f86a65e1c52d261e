# The tiny model on chest CTs with one folder per patient and the ten regions of region_scheme.json.
_base_ = ["../../../configs/vit3d_cot_contrastive_manifest.py"]
custom_imports = dict(imports=["projects.chest_ct_folders.chest_ct"])

ann_file = "data/chest_ct/manifest.jsonl"
dataset_type = "ChestCT"
scheme = "{{ fileDirname }}/../region_scheme.json"
shape = (24, 96, 96)

train_pipeline = [
    dict(type="LoadCT"),
    dict(type="ResampleCT", shape=shape, crop_to_body=True),
    dict(type="RandomFlipCT", p=0.5),
    dict(type="PackCTInputs"),
]
test_pipeline = [
    dict(type="LoadCT"),
    dict(type="ResampleCT", shape=shape, crop_to_body=True),
    dict(type="PackCTInputs"),
]
train_dataloader = dict(dataset=dict(scheme=scheme, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(scheme=scheme, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(scheme=scheme, pipeline=test_pipeline))

model = dict(backbone=dict(num_regions=10))
