# CT-CLIP on coarse voxels: the complete network, for tests of the path on a CPU. Not for published weights.
_base_ = ["../ct_clip_frozen.py"]
model = dict(backbone=dict(tower=dict(spacing=(6.0, 3.0, 3.0), img_size=(60, 120, 120))))
