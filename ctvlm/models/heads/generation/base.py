"""What the heads that write share: teacher forcing over turns, generation, predictions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from ctvlm.anatomy import region_names_of
from ctvlm.models.heads.generation.consensus import most_agreed
from ctvlm.models.heads.generation.turns import Turn, joined, turns_of
from ctvlm.structures import CTDataSample, EncoderOutput

# Target of tokens that are not predicted.
IGNORED = -100


class BaseGenerationHead(nn.Module):
    """An auxiliary head: language modelling of a case's turns given its features.

    A turn is ``prompt`` (start, question) and ``answer`` (steps with the regions they name, then the impression); only
    the answer is learned.

    Args:
        max_length: tokens of prompt and answer together. A longer answer is learned up to there, and says so once.
        generation: arguments of transformers' ``generate``, say ``dict(num_beams=4)`` or ``dict(do_sample=True,
            top_p=0.9)``; greedy by default. With ``num_return_sequences`` as many answers are written and the one
            that the others agree with most is kept (see ``most_agreed``).
    """

    pad_id: int
    eos_id: int

    def __init__(self, max_length: int, generation: dict | None = None) -> None:
        super().__init__()
        self.max_length = max_length
        self.generation = dict(generation or {})
        self._told_of_cuts = False

    @abstractmethod
    def prompt_ids(self, question: str) -> list[int]:
        """Tokens that an answer follows."""

    @abstractmethod
    def answer_ids(self, turn: Turn) -> list[int]:
        """Tokens of the steps and the impression, without the end token."""

    @abstractmethod
    def parse(self, ids: Sequence[int]) -> Turn:
        """Steps and impression of generated tokens, the end token and what follows it left out."""

    @abstractmethod
    def see(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Visual memory (B, M, E) and its mask."""

    @abstractmethod
    def logits(self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor) -> Tensor:
        """Logits of the next token at each place (T, L, vocabulary)."""

    @abstractmethod
    def continue_from(
        self, ids_TL: Tensor, mask_TL: Tensor, memory_TME: Tensor, mask_TM: Tensor, **settings
    ) -> list[list[int]]:
        """New tokens of each prompt, padded on the left, through transformers' ``generate``."""

    def training_logits(self, encoded: EncoderOutput, data_samples: Sequence[CTDataSample]) -> tuple[Tensor, Tensor]:
        """Logits (T, L, vocabulary) and target tokens (T, L) of all answers; ``IGNORED`` where there is no target."""
        rows, cases = [], []
        for case, sample in enumerate(data_samples):
            turns = turns_of(sample)
            # A case that says nothing takes part without a target: no rank stands out of the backward pass.
            rows += [self._row(turn) for turn in turns if not turn.is_empty] or [self._row(turns[0])]
            cases += [case] * (len(rows) - len(cases))
        memory_BME, mask_BM = self.see(encoded)
        device = memory_BME.device
        width = max(len(ids) for ids, _ in rows)
        ids_TL = torch.tensor([ids + [self.pad_id] * (width - len(ids)) for ids, _ in rows], device=device)
        target_TL = torch.tensor([goal + [IGNORED] * (width - len(goal)) for _, goal in rows], device=device)
        mask_TL = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows], device=device)
        return self.logits(ids_TL, mask_TL, memory_BME[cases], mask_BM[cases]), target_TL

    def _row(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Tokens of a turn, and the same with ``IGNORED`` for what is given or has nothing to say."""
        prompt = self.prompt_ids(turn.question)
        if turn.is_empty:
            return [*prompt, self.eos_id], [IGNORED] * (len(prompt) + 1)
        ids = [*prompt, *self.answer_ids(turn), self.eos_id]
        if len(ids) > self.max_length and not self._told_of_cuts:
            self._told_of_cuts = True
            print_log(
                f"{type(self).__name__}: an answer of {len(ids)} tokens is learned up to max_length={self.max_length} "
                "only (told once); raise it to learn all of such answers.",
                "current",
            )
        target = [IGNORED] * len(prompt) + ids[len(prompt) :]
        return ids[: self.max_length], target[: self.max_length]

    @torch.no_grad()
    def generate(self, encoded: EncoderOutput, questions: Sequence[Sequence[str]], **settings) -> list[list[Turn]]:
        """An answer to every question of every case.

        Args:
            questions: per case; ``['']`` for a report that nobody asked about.
            settings: arguments of transformers' ``generate`` on top of ``generation``: greedy, ``num_beams``,
                ``do_sample`` with ``temperature``, ``top_p``, ``use_cache=False``, ...
        """
        cases = [case for case, asked in enumerate(questions) for _ in asked]
        prompts = [self.prompt_ids(question) for asked in questions for question in asked]
        memory_BME, mask_BM = self.see(encoded)
        device = memory_BME.device
        width = max(len(ids) for ids in prompts)
        # On the left: what is generated follows the prompt.
        ids_TL = torch.tensor([[self.pad_id] * (width - len(ids)) + ids for ids in prompts], device=device)
        mask_TL = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        settings = dict(max_new_tokens=self.max_length - width) | self.generation | settings
        rows = self.continue_from(ids_TL, mask_TL, memory_BME[cases], mask_BM[cases], **settings)
        written = [self.parse(row[: row.index(self.eos_id)] if self.eos_id in row else row) for row in rows]
        drawn = settings.get("num_return_sequences", 1)
        answers: list[list[Turn]] = [[] for _ in questions]
        for place, case in enumerate(cases):
            choice = written[place * drawn : (place + 1) * drawn]
            answers[case].append(choice[most_agreed([turn.text for turn in choice]) if drawn > 1 else 0])
        return answers

    @torch.no_grad()
    def predict(self, encoded: EncoderOutput, data_samples: Sequence[CTDataSample]) -> None:
        """Write what is generated into the samples.

        ``pred_report``: the steps, then the impression. ``pred_cot``: list of ``text`` and ``regions`` (names of the
        scheme). ``pred_conclusion``: the impression. The questions of a sample's steps are asked, not read from it
        otherwise.
        """
        questions = [[turn.question for turn in turns_of(sample)] for sample in data_samples]
        for sample, answers in zip(data_samples, self.generate(encoded, questions), strict=True):
            names = region_names_of(sample)
            said = joined(answers)
            sample.pred_cot = [
                dict(text=step.text, regions=[names[region - 1] for region in step.regions]) for step in said.steps
            ]
            sample.pred_conclusion = said.impression
            sample.pred_report = said.text
