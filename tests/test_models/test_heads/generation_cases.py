"""Samples and features for tests of the generation heads."""

import dataclasses

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ctvlm.registry import HEADS
from ctvlm.structures import CoTStep, CTDataSample, EncoderOutput
from ctvlm.text.tokenizer import train_tokenizer
from tests.test_models.component_cases import WIDTH, random_output

GRID = (2, 3, 2)
STEPS = [
    CoTStep("No nodule is seen in the right lung.", (1, 2, 3)),
    CoTStep("Small pleural effusion on the left.", (5,)),
    CoTStep("CT without contrast."),
    CoTStep("The heart is enlarged, its wall is thin.", (4,)),
    CoTStep("Yes, there is.", (2,), question="Is there a nodule in the middle lobe of the right lung?"),
    CoTStep("None.", question="Any effusion?"),
]
IMPRESSIONS = ["Cardiomegaly.", "Normal study, nothing else to report.", "Small effusion."]
TEXTS = [step.text for step in STEPS] + IMPRESSIONS + [step.question for step in STEPS]


def sample(steps, impression=""):
    made = CTDataSample(metainfo=dict(case_id="a", scheme="thorax_abdomen_20"))
    made.steps, made.impression, made.findings = [STEPS[i] for i in steps], impression, ""
    return made


def samples():
    """Four cases of different length; one has two questions."""
    return [
        sample([2, 0, 3], IMPRESSIONS[0]),
        sample([], IMPRESSIONS[1]),
        sample([4, 1, 5], IMPRESSIONS[2]),
        sample([0], IMPRESSIONS[1]),
    ]


def features(batch, dtype=torch.float32):
    torch.manual_seed(3)
    return random_output(batch, GRID, dtype)


def pick(encoded: EncoderOutput, cases) -> EncoderOutput:
    """The features of some cases."""
    names = ("tokens", "token_mask", "positions", "region_tokens", "patch_to_region")
    return dataclasses.replace(encoded, **{name: getattr(encoded, name)[cases] for name in names}, levels=[])


def loud(head):
    """Large weights, so that every input changes the generated text."""
    torch.manual_seed(1)
    for parameter in head.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.3)
    return head.eval()


def cot_head(**changes):
    torch.manual_seed(0)
    sizes = dict(in_dims=WIDTH, num_regions=5, vocab_size=400, embed_dims=32, depth=2, num_heads=2, max_length=96)
    head = HEADS.build(dict(type="CoTGenerationHead", **sizes | changes))
    head.fit_tokenizer(TEXTS)
    return head


def save_language_model(folder, kind="llama"):
    """A small causal model with random weights, and its tokenizer, as transformers saves them."""
    torch.manual_seed(0)
    ends = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    if kind == "llama":
        sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
        lm = LlamaForCausalLM(LlamaConfig(vocab_size=400, max_position_embeddings=256, **sizes, **ends))
    else:
        lm = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=256, n_embd=32, n_layer=2, n_head=2, **ends))
    lm.save_pretrained(folder)
    names = dict(bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]")
    tokenizer = train_tokenizer(TEXTS, 400, lowercase=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return str(folder)


def prefix_head(folder, **changes):
    torch.manual_seed(0)
    arguments = dict(in_dims=WIDTH, num_regions=5, patch_grid=(1, 2, 2), max_length=160) | changes
    return HEADS.build(dict(type="PrefixGenerationHead", pretrained=str(folder), **arguments))
