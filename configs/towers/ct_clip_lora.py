# CT-CLIP's image encoder with adapters (LoRA).
_base_ = ["ct_clip_frozen.py"]
model = dict(backbone=dict(train="lora"))
