# global_only with the default's learned pooling of patches: the fair rival in retrieval, while its regions and
# patches no longer lie where its volumes do.
_base_ = ["global_only.py"]
model = dict(space=dict(volume_pooling=dict(mode="attention")))
