# The small preset with BioBERT (Lee et al., Bioinformatics 2020) as text encoder, its last four layers trained.
# From a folder: --cfg-options model.text_encoder.pretrained=FOLDER
_base_ = ["../vit3d_cot_contrastive_small.py"]

model = dict(
    text_encoder=dict(
        _delete_=True,
        type="HFTextEncoder",
        pretrained="dmis-lab/biobert-v1.1",
        train="top",
        top_layers=4,
        pooling="mean",
        # Its vocabulary is cased, which its files do not all say.
        tokenizer=dict(do_lower_case=False),
    )
)
# Pretrained weights move slower than new ones.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"text_encoder.model": dict(lr_mult=0.1)}))
