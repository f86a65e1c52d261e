default_scope = "ctvlm"

# Each hook has a name, so that a config or --cfg-options can change it: default_hooks.progress.interval=1.
default_hooks = dict(
    runtime_info=dict(type="RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    epoch_seed=dict(type="EpochSeedHook"),
    # Steps with a non-finite loss or gradient are skipped; the training stops after this number in a row.
    non_finite=dict(type="NonFiniteHook", max_consecutive=10),
    # run.json next to the log, and meta.runs of checkpoints: commit, versions, command, seed and config.
    run_record=dict(type="RunRecordHook"),
    tokenizer=dict(type="FitTokenizerHook"),
    # Embeds the prompts of zero-shot metrics.
    prompts=dict(type="PromptHook"),
    # The model computes only the predictions that metrics read.
    prediction_keys=dict(type="PredictionKeysHook"),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # A checkpoint that cannot be written is a warning; the training stops after this number of failures in a row.
    checkpoint=dict(type="PlainCheckpointHook", interval=1, max_keep_ckpts=2, max_failed_saves=3),
    # The log file and scalars.json; the terminal shows what `progress` and `results` print.
    logger=dict(type="LoggerHook", interval=10),
    progress=dict(type="RichProgressHook", interval=10),
    results=dict(type="ResultsTableHook"),
    # After Ctrl-C, SIGTERM, SIGHUP or SIGUSR1: finishes the step, saves a checkpoint, ends.
    stop_signal=dict(type="StopSignalHook"),
    # draw=True: after each epoch, the attention and the texts of one validation case.
    visualization=dict(type="CaseVisualizationHook", draw=False),
)
# Names or configs of backends; add TensorboardVisBackend or WandbVisBackend.
vis_backends = ["LocalVisBackend"]
visualizer = dict(type="CTVisualizer", vis_backends=vis_backends)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    # The run ends with an error if a process waits this number of seconds for another one.
    dist_cfg=dict(backend="nccl", timeout=1800),
)
# True allows parameters without a gradient under DDP, at some cost.
find_unused_parameters = False

randomness = dict(seed=0, deterministic=False)
# True, or options of torch.compile: compile the vision encoder. The first step then takes minutes on a CPU.
compile = False
log_level = "INFO"
log_processor = dict(by_epoch=True, window_size=10)
load_from = None
resume = False
