"""Base class of heads that generate text: training with teacher forcing, generation, predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from ctvlm.anatomy import region_names_of
from ctvlm.models.heads.generation.answers import Answer, answers_of, join_answers
from ctvlm.models.heads.generation.consensus import most_agreed
from ctvlm.structures import CTDataSample, EncoderOutput

# Target of tokens that are not predicted.
IGNORED = -100
PREDICTIONS = frozenset({"pred_report", "pred_cot", "pred_conclusion"})


class BaseGenerationHead(nn.Module, ABC):
    """An auxiliary head: language modelling of a case's answers, given its features.

    A sequence is a prompt (start token, question) and an answer (steps with their regions, then the impression). Only
    the answer has a loss.

    Args:
        max_length: maximum number of tokens of prompt and answer together. Longer answers are truncated, with one
            warning.
        generation: arguments of transformers' ``generate``, for example ``dict(num_beams=4)`` or ``dict(do_sample=True,
            top_p=0.9)``; greedy by default. With ``num_return_sequences``, the answer that agrees most with the others
            is used (see ``most_agreed``).
    """

    pad_id: int
    eos_id: int

    def __init__(self, max_length: int, generation: dict | None = None) -> None:
        super().__init__()
        self.max_length = max_length
        self.generation = dict(generation or {})
        self.warned_truncation = False

    @abstractmethod
    def prompt_ids(self, question: str) -> list[int]:
        """Tokens that precede an answer."""

    @abstractmethod
    def answer_ids(self, answer: Answer) -> list[int]:
        """Tokens of the steps and the impression, without the end token."""

    @abstractmethod
    def answer_parts(self, answer: Answer) -> list[int]:
        """Part of each token of ``answer_ids``: the index of its step, or the number of steps for the impression."""

    @abstractmethod
    def parse(self, ids: Sequence[int]) -> Answer:
        """Steps and impression of generated tokens, without the end token and everything after it."""

    @abstractmethod
    def encode_visual(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Visual memory (B, M, E) and its mask (B, M)."""

    @abstractmethod
    def logits(self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor) -> Tensor:
        """Logits of the next token at each position (T, L, vocabulary)."""

    @abstractmethod
    def generate_ids(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor, **settings
    ) -> list[list[int]]:
        """New tokens for each left-padded prompt, from transformers' ``generate``."""

    def training_logits(self, encoded: EncoderOutput, data_samples: Sequence[CTDataSample]) -> tuple[Tensor, Tensor]:
        """Logits (T, L, vocabulary) and target tokens (T, L) of all answers; ``IGNORED`` where there is no target."""
        rows: list[tuple[list[int], list[int]]] = []
        cases: list[int] = []
        for case, sample in enumerate(data_samples):
            answers = answers_of(sample)
            # A case without text has a row without targets, so that every rank runs the backward pass.
            rows += [self._row(answer) for answer in answers if not answer.is_empty] or [self._row(answers[0])]
            cases += [case] * (len(rows) - len(cases))
        memory_BME, mask_BM = self.encode_visual(encoded)
        ids_TL, mask_TL, target_TL = self._padded(rows, memory_BME.device)
        cases_T = torch.tensor(cases).to(memory_BME.device, non_blocking=True)
        return self.logits(ids_TL, mask_TL, memory_BME[cases_T], mask_BM[cases_T]), target_TL

    def _row(self, answer: Answer) -> tuple[list[int], list[int]]:
        """Tokens of prompt and answer, and their targets; ``IGNORED`` for the prompt and for an empty answer."""
        prompt = self.prompt_ids(answer.question)
        if answer.is_empty:
            return [*prompt, self.eos_id], [IGNORED] * (len(prompt) + 1)
        ids = [*prompt, *self.answer_ids(answer), self.eos_id]
        if len(ids) > self.max_length and not self.warned_truncation:
            self.warned_truncation = True
            print_log(
                f"{type(self).__name__}: an answer of {len(ids)} tokens is truncated to max_length={self.max_length}. "
                "Increase max_length to train on whole answers. Further truncations are not reported.",
                "current",
            )
        target = [IGNORED] * len(prompt) + ids[len(prompt) :]
        return ids[: self.max_length], target[: self.max_length]

    def _padded(
        self, rows: Sequence[tuple[list[int], list[int]]], device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, mask and targets (T, L) of rows, padded on the right."""
        width = max(len(ids) for ids, _ in rows)
        ids = [ids + [self.pad_id] * (width - len(ids)) for ids, _ in rows]
        mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]
        target = [target + [IGNORED] * (width - len(target)) for _, target in rows]
        ids_TL, mask_TL, target_TL = torch.tensor([ids, mask, target]).to(device, non_blocking=True)
        return ids_TL, mask_TL, target_TL

    @torch.no_grad()
    def generate(self, encoded: EncoderOutput, questions: Sequence[Sequence[str]], **settings) -> list[list[Answer]]:
        """An answer to every question of every case.

        Args:
            questions: per case; ``['']`` for a report without a question.
            settings: arguments of transformers' ``generate`` that override ``generation``.
        """
        cases = [case for case, asked in enumerate(questions) for _ in asked]
        prompts = [self.prompt_ids(question) for asked in questions for question in asked]
        memory_BME, mask_BM = self.encode_visual(encoded)
        device = memory_BME.device
        width = max(len(ids) for ids in prompts)
        # Padding on the left, because the generated tokens follow the prompt.
        ids_TL = torch.tensor([[self.pad_id] * (width - len(ids)) + ids for ids in prompts], device=device)
        mask_TL = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        settings = dict(max_new_tokens=self.max_length - width) | self.generation | settings
        rows = self.generate_ids(ids_TL, mask_TL, memory_BME[cases], mask_BM[cases], **settings)
        parsed = [self.parse(row[: row.index(self.eos_id)] if self.eos_id in row else row) for row in rows]
        num_samples = settings.get("num_return_sequences", 1)
        answers: list[list[Answer]] = [[] for _ in questions]
        for i, case in enumerate(cases):
            candidates = parsed[i * num_samples : (i + 1) * num_samples]
            best = most_agreed([answer.text for answer in candidates]) if num_samples > 1 else 0
            answers[case].append(candidates[best])
        return answers

    @torch.no_grad()
    def confidences(self, encoded: EncoderOutput, answers: Sequence[Answer]) -> list[list[float | None]]:
        """Mean probability of the tokens of each part of one answer per case, by teacher forcing.

        Each token is conditioned on the tokens of the answer before it, so the values also apply to answers that were
        sampled.

        Returns:
            Per case: one value in [0, 1] per step, then one for the impression; None for a part without tokens or
            beyond ``max_length``.
        """
        prompts = [self.prompt_ids(answer.question) for answer in answers]
        rows = [[*p, *self.answer_ids(a)][: self.max_length] for p, a in zip(prompts, answers, strict=True)]
        memory_BME, mask_BM = self.encode_visual(encoded)
        ids_BL, mask_BL, _ = self._padded([(ids, ids) for ids in rows], memory_BME.device)
        logits_BLV = self.logits(ids_BL, mask_BL, memory_BME, mask_BM)[:, :-1].float()
        probability_BL = logits_BLV.softmax(dim=-1).gather(2, ids_BL[:, 1:, None])[..., 0].cpu()
        out = []
        for answer, prompt, ids, probability_L in zip(answers, prompts, rows, probability_BL, strict=True):
            # The probability of token i is at position i - 1.
            answer_L = probability_L[len(prompt) - 1 : len(ids) - 1]
            parts = torch.tensor(self.answer_parts(answer)[: len(answer_L)])
            selected = [answer_L[parts == part] for part in range(len(answer.steps) + 1)]
            out.append([float(values.mean()) if len(values) else None for values in selected])
        return out

    @torch.no_grad()
    def predict(
        self, encoded: EncoderOutput, data_samples: Sequence[CTDataSample], keys: Collection[str] = PREDICTIONS
    ) -> None:
        """Write the predictions ``keys`` into the samples.

        ``pred_report``: the steps, then the impression. ``pred_cot``: list of ``text`` and ``regions`` (names of the
        scheme). ``pred_conclusion``: the impression. Of a sample's steps only the questions are read.
        """
        questions = [[answer.question for answer in answers_of(sample)] for sample in data_samples]
        for sample, answers in zip(data_samples, self.generate(encoded, questions), strict=True):
            names = region_names_of(sample)
            answer = join_answers(answers)
            steps = [
                dict(text=step.text, regions=[names[region - 1] for region in step.regions]) for step in answer.steps
            ]
            predictions = dict(pred_cot=steps, pred_conclusion=answer.impression, pred_report=answer.text)
            sample.set_data({key: value for key, value in predictions.items() if key in keys})
