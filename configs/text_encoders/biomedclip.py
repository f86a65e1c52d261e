# The small preset with BiomedCLIP's text tower (Zhang et al., 2023) and its projection, the last four layers trained.
# From a folder: --cfg-options model.text_encoder.pretrained=FOLDER
_base_ = ["../vit3d_cot_contrastive_small.py"]

model = dict(
    text_encoder=dict(
        _delete_=True,
        type="HFTextEncoder",
        pretrained="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        train="top",
        top_layers=4,
        pooling="cls",
        projection=True,
    )
)
# Pretrained weights have a lower learning rate than new ones.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={"text_encoder.model": dict(lr_mult=0.1), "text_encoder.projection": dict(lr_mult=0.1)}
    )
)
