"""Reward models as terms of a reward: what each says of all answers of a rollout, 0..1.

A folder of mrl/reward_model.py judges by tokens and memory; any other sequence classifier of transformers reads the
newest interactions and the answer as text. Neither ever learns here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mrl.model import join_rows
from mrl.preferences.reward_model import Judged, RewardModel, load_reward_model
from pipeline.errors import InputError
from pipeline.hub import keep_hub_offline_if_unreachable

CONTEXT_TURNS = 4
"""Interactions before an answer that a classifier of texts is shown."""
AT_ONCE = 64


def load_judges(models: Mapping[str, str], tokenizer: Any) -> dict[str, "Judge"]:
    """The reward models of a recipe by name. Raises InputError naming the one that can't be loaded."""
    made: dict[str, Judge] = {}
    for name, path in models.items():
        where = f"rewards.models.{name}"
        own = load_reward_model(path, tokenizer, where)
        made[name] = TextJudge(path, tokenizer, where) if own is None else OwnJudge(own)
    return made


class Judge:
    """Called with a rollout (mrl/rl/trajectory.py): values [B, K], 0 where there is no turn."""

    def __call__(self, rollout: Any) -> Tensor:
        turns = rollout.turns
        values = torch.zeros(turns.shape, device=turns.device)
        if bool(turns.any()):
            with torch.no_grad():
                values[turns] = self.values(rollout)
        return values

    def values(self, rollout: Any) -> Tensor:
        """Values [n] of the n turns that there are, in row-major order."""
        raise NotImplementedError


class OwnJudge(Judge):
    """A reward model of this project: the sigmoid of its score, the chance against an answer that scores 0."""

    def __init__(self, model: RewardModel) -> None:
        self.model = model
        for part in model.parts():
            part.eval().requires_grad_(False)

    def values(self, rollout: Any) -> Tensor:
        batch, turns = rollout.batch, rollout.turns
        self.model.to(turns.device)
        ids, mask, _ = join_rows(
            batch.query_ids[turns], batch.query_mask[turns], rollout.answer_ids[turns], rollout.answer_mask[turns]
        )
        row, turn = turns.nonzero(as_tuple=True)
        # Rows of a group have one dialogue; its memory is written once. Turn k has k + 1 interactions before it.
        lead = rollout.leaders
        judged = Judged(ids, mask, row // rollout.group, turn + 1)
        scores = self.model.scores(rollout.writes[lead], rollout.writes_mask[lead].long(), batch.seeds[lead], judged)
        return scores.sigmoid()


class TextJudge(Judge):
    """A sequence classifier: the sigmoid of its one score, or the probability of its last label."""

    def __init__(self, path: str, tokenizer: Any, where: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.words = tokenizer
        keep_hub_offline_if_unreachable(path)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            self.model, loaded = AutoModelForSequenceClassification.from_pretrained(
                path, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise InputError(f"{where}: {path} is no sequence classifier that can be loaded: {reason}") from None
        if loaded["missing_keys"]:  # transformers draws them at random, and a language model would score by chance
            raise InputError(
                f"{where}: {path} is no sequence classifier: it has no {sorted(loaded['missing_keys'])[-1]}; train one "
                "(mrl/reward_model.py) or name one that was trained"
            )
        self.model.eval().requires_grad_(False)

    def values(self, rollout: Any) -> Tensor:
        texts = [self._conversation(rollout, b, k) for b, k in rollout.turns.nonzero().tolist()]
        device = rollout.turns.device
        self.model.to(device)
        found = []
        for at in range(0, len(texts), AT_ONCE):
            batch = self.tokenizer(texts[at : at + AT_ONCE], return_tensors="pt", padding=True, truncation=True)
            logits = self.model(**batch.to(device)).logits.float()
            found.append(logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, -1])
        return torch.cat(found)

    def _conversation(self, rollout: Any, row: int, turn: int) -> str:
        """The newest interactions and the one that is judged, a line each."""
        batch, lines = rollout.batch, []
        for k in range(max(0, turn + 1 - CONTEXT_TURNS), turn + 1):
            lines.append(self._text(rollout.writes[row, k], rollout.writes_mask[row, k]))
        lines.append(self._text(batch.query_ids[row, turn], batch.query_mask[row, turn]))
        lines.append(self._text(rollout.answer_ids[row, turn], rollout.answer_mask[row, turn]))
        return "\n".join(lines)

    def _text(self, ids: Tensor, mask: Tensor) -> str:
        return self.words.decode(ids[mask.bool()].tolist(), skip_special_tokens=True).strip()


Judges = Mapping[str, Callable[[Any], Tensor]]

__all__ = ["Judge", "Judges", "load_judges"]
