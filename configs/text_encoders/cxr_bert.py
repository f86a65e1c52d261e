# The small preset with CXR-BERT (Boecking et al., ECCV 2022) as text encoder, its last four layers trained.
# From a folder: --cfg-options model.text_encoder.pretrained=FOLDER
_base_ = ["../vit3d_cot_contrastive_small.py"]

model = dict(
    text_encoder=dict(
        _delete_=True,
        type="HFTextEncoder",
        pretrained="microsoft/BiomedVLP-CXR-BERT-specialized",
        train="top",
        top_layers=4,
        # It was trained contrastively on chest radiographs with the first token.
        pooling="cls",
    )
)
# Pretrained weights have a lower learning rate than new ones.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"text_encoder.model": dict(lr_mult=0.1)}))
