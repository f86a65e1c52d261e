# The small preset on a store: resample your CTs once, then train on random windows of them.
#
#     python tools/preprocess.py data/ct/manifest.jsonl data/store --spacing 3 1.5 1.5 --measure-text --workers 8
#     python tools/train.py configs/vit3d_cot_contrastive_store.py --amp
#
# For a store elsewhere: --cfg-options ann_file=PATH/manifest.jsonl
_base_ = [
    "_base_/models/vit3d_small.py",
    "_base_/datasets/store.py",
    "_base_/schedules/small.py",
    "_base_/default_runtime.py",
]

model = dict(backbone=dict(img_size=(64, 192, 192)))  # the window of the data set
train_dataloader = dict(batch_size=16, num_workers=8)
val_dataloader = dict(batch_size=16, num_workers=8)
test_dataloader = dict(batch_size=16, num_workers=8)
