_base_ = ["../../../configs/vit3d_cot_contrastive.py"]
custom_imports = dict(imports=["projects.anisotropic_rotary.anisotropic_rotary_position"])

# Neighbouring patches of a phantom are about 60 mm apart.
position = dict(
    type="AnisotropicRotaryPosition3D",
    min_wavelength=[120.0, 120.0, 120.0],
    max_wavelength=[4000.0, 2000.0, 2000.0],
)
model = dict(backbone=dict(position=dict(_delete_=True, **position)))
