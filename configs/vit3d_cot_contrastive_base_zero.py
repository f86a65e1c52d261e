# The base preset with the optimizer state sharded over the ranks (ZeRO): each rank stores 1/n of AdamW's 8 bytes per
# parameter. Checkpoints are complete and fit the base config too. Weights and gradients are not sharded: 1.1 GB for
# 136 M parameters. FSDP would shard them too, but gathers them in every layer.
_base_ = ["vit3d_cot_contrastive_base.py"]

optim_wrapper = dict(optimizer=dict(type="ShardedOptimizer", optimizer_type="AdamW"))
