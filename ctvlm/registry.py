"""The registries of ctvlm.

There are two types. *Child* registries have an mmengine registry as parent and contain what the Runner builds, so a
config can also use mmengine's own components. *Kind* registries have no parent and contain the parts of a model: a
loss in the position of a backbone raises "X is not in the ctvlm::backbone registry".
"""

from mmengine.registry import (
    DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS,
    DATASETS as MMENGINE_DATASETS,
    HOOKS as MMENGINE_HOOKS,
    LOG_PROCESSORS as MMENGINE_LOG_PROCESSORS,
    METRICS as MMENGINE_METRICS,
    MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS,
    MODELS as MMENGINE_MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS,
    OPTIMIZERS as MMENGINE_OPTIMIZERS,
    TRANSFORMS as MMENGINE_TRANSFORMS,
    VISBACKENDS as MMENGINE_VISBACKENDS,
    VISUALIZERS as MMENGINE_VISUALIZERS,
    Registry,
)


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope="ctvlm", locations=list(locations))


def _kind(name: str, location: str) -> Registry:
    return Registry(name, scope="ctvlm", locations=[location])


# Complete vision-language models and data preprocessors; the Runner builds them as ``model``.
MODELS = _child("model", MMENGINE_MODELS, "ctvlm.models")
# Wrappers for distributed training (DDP on CPU and GPU).
MODEL_WRAPPERS = _child("model_wrapper", MMENGINE_MODEL_WRAPPERS, "ctvlm.engine.model_wrapper")
# Data sets: phantom, manifest.
DATASETS = _child("dataset", MMENGINE_DATASETS, "ctvlm.datasets", "ctvlm.phantom.phantom_ct")
# Samplers of data sets.
DATA_SAMPLERS = _child("data_sampler", MMENGINE_DATA_SAMPLERS, "ctvlm.datasets")
# Steps of a data pipeline: loading, resampling, packing.
TRANSFORMS = _child("transform", MMENGINE_TRANSFORMS, "ctvlm.datasets.transforms")
# Metrics of the evaluator.
METRICS = _child("metric", MMENGINE_METRICS, "ctvlm.evaluation")
# Hooks of the Runner: progress, checkpoints, seeds, tokenizer.
HOOKS = _child("hook", MMENGINE_HOOKS, "ctvlm.engine.hooks")
# Optimizer wrappers: mixed precision on any device.
OPTIM_WRAPPERS = _child("optim_wrapper", MMENGINE_OPTIM_WRAPPERS, "ctvlm.engine.optim")
# Constructors of parameter groups, such as the weight matrices for Muon.
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, "ctvlm.engine.optim"
)
# Optimizers: Muon, and one that shards its state over the ranks.
OPTIMIZERS = _child("optimizer", MMENGINE_OPTIMIZERS, "ctvlm.engine.optim")
# Visualizers of the Runner, and the backends that they write to: local files, TensorBoard, Weights & Biases.
VISUALIZERS = _child("visualizer", MMENGINE_VISUALIZERS, "ctvlm.engine.visualizer")
VISBACKENDS = _child("vis_backend", MMENGINE_VISBACKENDS, "ctvlm.engine.visualizer")
# Log processors of the Runner.
LOG_PROCESSORS = _child("log_processor", MMENGINE_LOG_PROCESSORS, "ctvlm.engine")

# Small building blocks: patch embeddings, position encodings.
LAYERS = _kind("layer", "ctvlm.models.layers")
# Attention over patch tokens, and between patches and regions.
ATTENTION = _kind("attention", "ctvlm.models.attention")
# Label map (or features) to patch-to-region assignment and region tokens.
REGION_ENCODERS = _kind("region_encoder", "ctvlm.models.region_encoders")
# Volume to EncoderOutput.
BACKBONES = _kind("backbone", "ctvlm.models.backbones")
# Published vision towers, for the backbone PretrainedTower.
TOWERS = _kind("tower", "ctvlm.models.backbones")
# EncoderOutput to pooled or multi-scale features.
NECKS = _kind("neck", "ctvlm.models.necks")
# Features to embeddings, logits or text.
HEADS = _kind("head", "ctvlm.models.heads")
# Text to embeddings.
TEXT_ENCODERS = _kind("text_encoder", "ctvlm.models.text_encoders")
# Learned scores of generated reports, from packages with their own weights.
REPORT_SCORERS = _kind("report_scorer", "ctvlm.evaluation")
# Pairs, or terms of a mean, to a scalar.
LOSSES = _kind("loss", "ctvlm.models.losses")
# Alignment levels and auxiliary tasks: texts, views of a batch, loss and predictions.
OBJECTIVES = _kind("objective", "ctvlm.models.objectives")
