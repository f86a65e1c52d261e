# HLIP's vision transformer with adapters (LoRA).
_base_ = ["hlip_frozen.py"]
model = dict(backbone=dict(train="lora"))
