"""A flat rendered conversation as input: split into turns, earlier turns written into memory, the last one decoded.

The chat template below renders a conversation as `[BOS][Q]query[T]think[A]answer[EOS]` once per turn; a turn begins
at each `[Q]`, or at the `[BOS]` right before it; with the markers of another chat template (`frame.TurnFrame`), at its
user header. Text before the first turn belongs to it; a row without a header is one turn, so plain text works too. Rows
may be padded on either side and have different numbers of turns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import ModelOutput, logging

from .decoding import AnswerCache, prefill, step
from .frame import TurnFrame, begins
from .memory import Windows
from .memory_state import MemoryState

if TYPE_CHECKING:
    from .modeling_reactive import ReactiveForCausalLM

logger = logging.get_logger(__name__)

CHAT_TEMPLATE = """\
{%- set system = messages[0]['content'] + '\\n' if messages and messages[0]['role'] == 'system' else '' -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '[BOS][Q]' + (system if loop.index0 == (1 if system else 0) else '') + message['content'] -}}
{%- elif message['role'] == 'assistant' -%}
{%- set think = message['think'] or message['reasoning_content'] or message['thinking'] -%}
{%- generation -%}
{{- ('[T]' + think if think else '') + '[A]' + message['content'] + '[EOS]' -}}
{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '[T]' if enable_thinking else '[A]' -}}{%- endif -%}
"""


def take_rows(input_ids: Tensor, member: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the positions `member` [B, T] (bool) of every row, in order, into right-padded rows.

    Returns ids [B, n], mask [B, n] (0/1) and the column each came from [B, n]; n = the largest count, at least 1.
    Places under padding hold whatever token stood in their column; the mask tells.
    """
    counts = member.sum(1)
    longest = max(1, int(counts.max()))
    columns = (~member).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest]
    mask = torch.arange(longest, device=input_ids.device) < counts[:, None]
    return input_ids.gather(1, columns), mask.long(), columns


def join_rows(
    first: Tensor, first_mask: Tensor | None, second: Tensor, second_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Append row b of `second` [B, M] to row b of `first` [B, N], without the padding of either.

    Returns ids [B, n], mask [B, n] and the column of the joined [B, N + M] that each place came from.
    """
    masks = [
        torch.ones_like(ids) if mask is None else mask for ids, mask in ((first, first_mask), (second, second_mask))
    ]
    return take_rows(torch.cat([first, second], dim=1), torch.cat(masks, dim=1).bool())


def chat_template(config) -> str:
    """The chat template with the turn tokens that this configuration names; put it on the tokenizer."""
    names = {"[Q]": config.query_token, "[A]": config.answer_token, "[T]": config.think_token}
    template = CHAT_TEMPLATE
    for default, name in names.items():
        template = template.replace(f"'{default}", f"'{name}").replace(f"[BOS]{default}", f"[BOS]{name}")
    return template


@dataclass
class ReactiveOutput(ModelOutput):
    """loss where labels were given; logits [B, T, V]; the cache to continue with; memory: the state read from."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: AnswerCache | None = None
    memory: MemoryState | None = None


def turn_indices(input_ids: Tensor, attention_mask: Tensor, frame: TurnFrame) -> Tensor:
    """Number of the turn that each position [B, T] belongs to, counted from 0 (values under padding mean nothing)."""
    present = input_ids.masked_fill(attention_mask == 0, -1)
    whole = begins(present, frame.lead + frame.header)
    led = F.pad(whole, (len(frame.lead), 0))[:, : whole.shape[1]]
    starts = whole | (begins(present, frame.header) & ~led)
    return (starts.cumsum(1) - 1).clamp(min=0)


class ConversationForward:
    """`forward` and the hooks of `generate()` for `ReactiveForCausalLM`."""

    def split(self: "ReactiveForCausalLM", input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Turn number [B, T] (-1 on padding) and turns per row [B]."""
        if attention_mask is None:
            config, pad = self.config, self.config.pad_token_id
            # A padding token that also ends or begins turns tells nothing: then every token counts as given.
            ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
            untold = pad is None or pad in (config.bos_token_id, *ends)
            attention_mask = torch.ones_like(input_ids) if untold else input_ids.ne(pad).long()
        turn = turn_indices(input_ids, attention_mask, self.config.frame)
        turn = turn.masked_fill(attention_mask == 0, -1)
        return turn, turn.amax(1).clamp(min=0) + 1

    def remember(
        self: "ReactiveForCausalLM", input_ids: Tensor, turn: Tensor, turns: Tensor, state: MemoryState
    ) -> MemoryState:
        """Write every turn but each row's last into the state, in order; rows with fewer turns keep theirs."""
        limit = self.config.max_interaction_length
        for index in range(int(turns.max()) - 1):
            rows = (turns - 1 > index).nonzero().squeeze(1)
            ids, mask, _ = take_rows(input_ids[rows], turn[rows] == index)
            if ids.shape[1] > limit:
                logger.warning_once(
                    f"an earlier turn of {ids.shape[1]} tokens is cut to max_interaction_length {limit}"
                )
                ids, mask = ids[:, :limit], mask[:, :limit]
            written = self.write(state.rows(rows), ids, mask)
            state = MemoryState(state.slots.index_copy(1, rows, written.slots))
        return state

    def forward(
        self: "ReactiveForCausalLM",
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: AnswerCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        memory: MemoryState | None = None,
        logits_to_keep: int = 0,
        **_,
    ) -> ReactiveOutput:
        """Logits [B, T, V] for a flat conversation; with a cache, for the next tokens [B, n] of the open answer.

        Logits of the last turn are exact, and zero (a uniform distribution) at positions of earlier turns, which went
        into memory instead of the decoder; at padding after a row's end they repeat its last real position, so that
        `generate()` continues right-padded rows correctly. `labels` are scored in the last turn only. `memory` is the
        state before the first turn given; by default the initial one of `config.initial_state_seed`.
        `logits_to_keep` = n returns the last n columns only.
        """
        if past_key_values is not None:
            logits = torch.stack([step(self, tokens, past_key_values) for tokens in input_ids.unbind(1)], dim=1)
            return ReactiveOutput(logits=logits, past_key_values=past_key_values, memory=past_key_values.memory)
        turn, turns = self.split(input_ids, attention_mask)
        if self.config.memory_slots:
            memory = self.initial_state(1) if memory is None else memory
            memory = self.fit_state(memory, input_ids.shape[0])
            memory = self.remember(input_ids, turn, turns, memory)
            ids, mask, columns = take_rows(input_ids, turn == (turns - 1)[:, None])
        else:
            # A stateless decoder has nowhere to put earlier turns: it reads the whole history.
            memory = None
            turn, turns = turn.clamp(max=0), torch.ones_like(turns)
            ids, mask, columns = take_rows(input_ids, turn == 0)
        if ids.shape[1] > self.config.max_interaction_length:
            logger.warning_once(
                f"the last turn has {ids.shape[1]} tokens, more than max_interaction_length "
                f"{self.config.max_interaction_length}: answers may be poor"
            )
        cache, windows = None, self.model.windows(memory)
        if use_cache and not torch.is_grad_enabled():
            hidden, cache = prefill(self, ids, mask, memory)
        else:
            hidden = self.model.hidden(ids, memory)
        logits = self._flat_logits(hidden, ids, windows, turn, turns, logits_to_keep)
        loss = None if labels is None else self._flat_loss(hidden, ids, windows, mask, columns, labels)
        return ReactiveOutput(loss=loss, logits=logits, past_key_values=cache, memory=memory)

    def _flat_logits(
        self: "ReactiveForCausalLM",
        hidden: Tensor,
        ids: Tensor,
        windows: Windows | None,
        turn: Tensor,
        turns: Tensor,
        keep: int,
    ) -> Tensor:
        # Position inside the last turn for every flat column; padding after the end repeats the last token's.
        last = turn == (turns - 1)[:, None]
        inside = (last.cumsum(1) - 1)[:, -keep:]
        source = inside.clamp(min=0)
        hidden = hidden.gather(1, source[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = self.logits(hidden, ids.gather(1, source), windows)
        return logits.masked_fill((inside < 0)[..., None], 0.0)

    def _flat_loss(
        self: "ReactiveForCausalLM",
        hidden: Tensor,
        ids: Tensor,
        windows: Windows | None,
        mask: Tensor,
        columns: Tensor,
        labels: Tensor,
    ) -> Tensor:
        targets = labels.gather(1, columns).masked_fill(mask == 0, -100)[:, 1:]
        scored = targets != -100
        logits = self.logits(hidden, ids, windows, F.pad(scored, (0, 1)))
        return F.cross_entropy(logits.float(), targets[scored])

    def check_tokenizer(self: "ReactiveForCausalLM", tokenizer) -> None:
        """Raise ValueError unless the tokenizer knows the turn tokens under the configured ids."""
        config = self.config
        if config.turn_frame is not None:
            if tokenizer.eos_token_id != config.frame.end[-1]:
                raise ValueError(
                    f"the tokenizer's end token is {tokenizer.eos_token_id}, the model's {config.frame.end[-1]}: use "
                    "the tokenizer that was saved with the model"
                )
            return
        for kind in ("query", "answer", "think"):
            name, expected = getattr(config, f"{kind}_token"), getattr(config, f"{kind}_token_id")
            found = tokenizer.convert_tokens_to_ids(name)
            if found != expected:
                raise ValueError(
                    f"the tokenizer has {name} as {found}, the model's configuration as {expected}: use the tokenizer "
                    "that was saved with the model"
                )

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def prepare_inputs_for_generation(
        self: "ReactiveForCausalLM",
        input_ids: Tensor,
        past_key_values: AnswerCache | None = None,
        attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        memory: MemoryState | None = None,
        logits_to_keep: int | None = None,
        **_,
    ) -> dict:
        """The whole conversation at first, then one token at a time with the cache."""
        if past_key_values is not None:
            return {"input_ids": input_ids[:, -1:], "past_key_values": past_key_values}
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": use_cache}
        return inputs | {"memory": memory, "logits_to_keep": logits_to_keep or 1}


class Dialogue:
    """A conversation with one person: a model, its tokenizer and the state so far."""

    def __init__(self, model, tokenizer, state: MemoryState | None = None):
        self.model, self.tokenizer = model, tokenizer
        self.state = model.initial_state(1) if state is None else state

    def ask(self, query: str, **options) -> Iterator[str]:
        """Yield the answer piece by piece; memory is updated after the last piece (options: see `interact`)."""
        self.state = yield from self.model.interact(self.tokenizer, query, self.state, **options)
