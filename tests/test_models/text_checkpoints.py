"""Tiny random text encoders, saved in the formats that published ones come in."""

from __future__ import annotations

import json
import string
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2Model,
    LongformerConfig,
    LongformerModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "no pleural effusion in the left right lung liver is normal small nodule upper lobe".split()
DEPTH, WIDTH = 4, 32


def vocabulary(cased: bool = False) -> list[str]:
    """WordPiece entries in which any ASCII text can be written."""
    letters = string.ascii_letters if cased else string.ascii_lowercase
    characters = [*letters, *string.digits, *string.punctuation]
    return [*SPECIAL, *WORDS, *(["No", "The"] if cased else []), *characters, *("##" + c for c in characters)]


def bert_config(cased: bool = False, **changes) -> BertConfig:
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, intermediate_size=48)
    config = BertConfig(vocab_size=len(vocabulary(cased)), max_position_embeddings=40, **sizes, **changes)
    # Large weights, so that outputs differ clearly.
    config.initializer_range = 0.3
    return config


def write(folder: Path, config: dict | None, cased: bool = False, **tokenizer_config) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary(cased)))
    if tokenizer_config:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))


def save_bert(folder: Path, **changes) -> Path:
    """As transformers saves it today: config, safetensors, tokenizer."""
    torch.manual_seed(0)
    config = bert_config(**changes)
    write(folder, config.to_dict(), tokenizer_class="BertTokenizer", do_lower_case=True)
    BertModel(config).save_pretrained(folder)
    return folder


def save_biobert(folder: Path) -> Path:
    """BioBERT's: cased vocab.txt alone, weights of the pretraining model as pickle, norms under their first names."""
    torch.manual_seed(1)
    config = bert_config(cased=True)
    write(folder, config.to_dict(), cased=True)
    model = BertForMaskedLM(config)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {}
    for key, value in model.state_dict().items():
        for new_name, old_name in old.items():
            key = key.replace(new_name, old_name)
        weights[key] = value
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


class CXRHead(nn.Module):
    """CXR-BERT's projection of the first token."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.dense_to_hidden, self.LayerNorm = nn.Linear(width, out), nn.LayerNorm(out, eps=1e-12)
        self.dense_to_output = nn.Linear(out, out)

    def forward(self, x):
        return self.dense_to_output(self.LayerNorm(nn.functional.gelu(self.dense_to_hidden(x))))


class CXRBert(BertForMaskedLM):
    """A masked language model with that head: CXR-BERT as its own code builds it."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.cls_projection_head = CXRHead(config.hidden_size, config.projection_size)


def save_cxr_bert(folder: Path) -> Path:
    """CXR-BERT's: a model type and a tokenizer class that only code in the repository knows."""
    torch.manual_seed(2)
    config = bert_config(projection_size=12)
    code = "configuration_cxrbert"
    auto = {"AutoConfig": f"{code}.CXRBertConfig", "AutoModel": "modeling_cxrbert.CXRBertModel"}
    changed = {"model_type": "cxr-bert", "architectures": ["CXRBertModel"], "auto_map": auto}
    write(
        folder,
        {**config.to_dict(), **changed},
        do_lower_case=True,
        tokenizer_class="CXRBertTokenizer",
        auto_map={"AutoTokenizer": [f"{code}.CXRBertTokenizer", None]},
    )
    (folder / f"{code}.py").write_text("raise RuntimeError('code of the repository was run')\n")
    (folder / "modeling_cxrbert.py").write_text("raise RuntimeError('code of the repository was run')\n")
    torch.save(CXRBert(config).state_dict(), folder / "pytorch_model.bin")
    return folder


def save_open_clip(folder: Path, safetensors: bool = False, **text_cfg) -> Path:
    """BiomedCLIP's: the state of a whole CLIP, its text tower a BERT with an MLP behind it."""
    torch.manual_seed(3)
    config = bert_config()
    write(folder, config.to_dict(), tokenizer_class="BertTokenizer", do_lower_case=True)
    settings = dict(hf_model_name="nobody/pubmedbert", hf_proj_type="mlp", context_length=24)
    settings["hf_pooler_type"] = "cls_last_hidden_state_pooler"
    cfg = dict(embed_dim=16, vision_cfg=dict(image_size=224), text_cfg=settings | text_cfg)
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=cfg, preprocess_cfg={})))
    bert, hidden = BertModel(config, add_pooling_layer=False), (WIDTH + 16) // 2
    proj = nn.Sequential(nn.Linear(WIDTH, hidden, bias=False), nn.GELU(), nn.Linear(hidden, 16, bias=False))
    weights = {f"text.transformer.{key}": value for key, value in bert.state_dict().items()}
    weights["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
    weights |= {f"text.proj.{key}": value for key, value in proj.state_dict().items()}
    weights |= {"visual.trunk.cls_token": torch.zeros(1, 1, 8), "logit_scale": torch.ones([])}
    if safetensors:
        save_file({k: v.clone() for k, v in weights.items()}, folder / "open_clip_model.safetensors")
    else:
        torch.save(weights, folder / "open_clip_pytorch_model.bin")
    return folder


def _fast_tokenizer(template: str, padding_side: str = "right", **special) -> PreTrainedTokenizerFast:
    pieces = vocabulary()
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens = [(token, pieces.index(token)) for token in SPECIAL if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", padding_side=padding_side, model_max_length=10**30, **special
    )


def save_roberta(folder: Path) -> Path:
    """Positions counted from behind the padding index: 30 embeddings for 28 tokens."""
    torch.manual_seed(4)
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    config = RobertaConfig(
        vocab_size=len(vocabulary()), max_position_embeddings=30, pad_token_id=1, type_vocab_size=1, **sizes
    )
    RobertaModel(config).save_pretrained(folder)
    _fast_tokenizer("[CLS] $A [SEP]", pad_token="[UNK]").save_pretrained(folder)
    return folder


def save_gpt2(folder: Path) -> Path:
    """A causal model whose tokenizer pads on the left and puts one token behind a text."""
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=len(vocabulary()), n_positions=40, n_embd=WIDTH, n_layer=2, n_head=2)
    GPT2Model(config).save_pretrained(folder)
    _fast_tokenizer("$A [SEP]", padding_side="left", pad_token="[PAD]", eos_token="[SEP]").save_pretrained(folder)
    return folder


def save_t5(folder: Path) -> Path:
    """An encoder-decoder's encoder, without position embeddings or token types."""
    torch.manual_seed(6)
    config = T5Config(
        vocab_size=len(vocabulary()), d_model=WIDTH, d_kv=16, d_ff=48, num_layers=2, num_heads=2, pad_token_id=0
    )
    T5EncoderModel(config).save_pretrained(folder)
    _fast_tokenizer("$A [SEP]", pad_token="[PAD]", eos_token="[SEP]").save_pretrained(folder)
    return folder


def save_longformer(folder: Path) -> Path:
    """Positions as RoBERTa's; attention in a window, which short texts do not fill."""
    torch.manual_seed(7)
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=2, intermediate_size=48)
    special = dict(pad_token_id=1, bos_token_id=2, eos_token_id=3, sep_token_id=3, type_vocab_size=1)
    config = LongformerConfig(
        vocab_size=len(vocabulary()), max_position_embeddings=42, attention_window=[96] * DEPTH, **sizes, **special
    )
    LongformerModel(config).save_pretrained(folder)
    _fast_tokenizer("[CLS] $A [SEP]", pad_token="[UNK]").save_pretrained(folder)
    return folder


PUBLISHED = {
    "yikuan8/Clinical-Longformer": save_longformer,
    "dmis-lab/biobert-v1.1": save_biobert,
    "microsoft/BiomedVLP-CXR-BERT-specialized": save_cxr_bert,
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": save_bert,
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": save_open_clip,
}
