# Merlin's image encoder with adapters (LoRA).
_base_ = ["merlin_frozen.py"]
model = dict(backbone=dict(train="lora"))
