# The small preset with a pretrained language model that generates reports, trained with LoRA, on your own CTs: one GPU.
# For another model (hub id or folder): --cfg-options model.objectives.generation.head.pretrained=FOLDER
_base_ = ["vit3d_cot_contrastive_small.py"]

model = dict(
    objectives=dict(
        generation=dict(
            type="GenerationObjective",
            head=dict(
                type="PrefixGenerationHead",
                pretrained="Qwen/Qwen2.5-0.5B",
                train="lora",
                lora=dict(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"),
                num_regions=20,
                patch_grid=(4, 4, 4),
                max_length=768,
            ),
        )
    )
)
val_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RegionTextMetric"),
    dict(type="ReportGenerationMetric", reference="both", label_reports=True, baseline=True),
]
test_evaluator = val_evaluator
