"""The control without a memory: a model of transformers that reads the whole conversation before each answer."""

import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase

from evaluation.memory.latency import REPORTED_TURNS, wait_for_device
from evaluation.memory.questions import Question, Tally
from mrl.dialogues.dataset import Conversation, Exchange
from pipeline.device import best_device
from pipeline.hub import keep_hub_offline_if_unreachable
from pipeline.progress import progress_bar

QUESTIONS_AT_ONCE = 64
LanguageModel = Any
"""A model with `generate()`; what AutoModelForCausalLM returns has no type of its own."""


def load_full_history(path: str) -> tuple[LanguageModel, PreTrainedTokenizerBase]:
    """A model and its tokenizer, which pads on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from post_training.policy import resolve_model

    source = resolve_model(path)
    keep_hub_offline_if_unreachable(source)
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).to(best_device()).eval()
    return model, cast(PreTrainedTokenizerBase, tokenizer)


def whole_chat(tokenizer: PreTrainedTokenizerBase, earlier: Iterable[Exchange], query: str) -> str:
    """A question after all that was said before it, as the model's chat template writes it."""
    messages: list[dict[str, str]] = []
    for exchange in earlier:
        messages += [{"role": "user", "content": exchange.query or ""}]
        messages += [{"role": "assistant", "content": exchange.answer}]
    messages.append({"role": "user", "content": query})
    return cast(str, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


@torch.no_grad()
def measure_full_history(
    model: LanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    conversations: Sequence[Conversation],
    questions: Sequence[Question],
    max_new_tokens: int,
) -> Tally:
    """Recall of a model that gets all earlier turns, with the answers that the data has."""
    tally = Tally()
    by_length = sorted(questions, key=lambda q: q.turn)
    for start in progress_bar(range(0, len(by_length), QUESTIONS_AT_ONCE), desc="full history", unit="batch"):
        part = by_length[start : start + QUESTIONS_AT_ONCE]
        texts = [whole_chat(tokenizer, conversations[q.dialogue].exchanges[: q.turn], q.query) for q in part]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        sequences = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=max_new_tokens,
            do_sample=False, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        for question, answer in zip(part, sequences[:, batch["input_ids"].shape[1] :], strict=True):
            finished = tokenizer.eos_token_id in answer.tolist()
            tally.add(question, cast(str, tokenizer.decode(answer, skip_special_tokens=True)), finished)
    return tally


@torch.no_grad()
def measure_full_latency(
    model: LanguageModel, tokenizer: PreTrainedTokenizerBase, conversation: Conversation, repeats: int
) -> dict[str, Any]:
    """Milliseconds to the first token of a model that reads the whole history, and bytes of its cache, before turns 1,
    2, 4 … 64 (the conversation's turns over and over)."""
    quartile, size = {}, {}
    exchanges = conversation.exchanges
    for turn in REPORTED_TURNS:
        earlier = (exchanges[k % len(exchanges)] for k in range(turn - 1))
        text = whole_chat(tokenizer, earlier, exchanges[-1].query or "?")
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"].to(model.device)
        times: list[float] = []
        # One uncounted round first; a second's worth of rounds is enough where one takes long.
        while len(times) <= 3 or (len(times) <= repeats and sum(times) < 1e3):
            started = time.perf_counter()
            cache = model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            wait_for_device(model.device)
            times.append(1e3 * (time.perf_counter() - started))
        quartile[str(turn)] = round(statistics.quantiles(times[1:], n=4, method="inclusive")[0], 3)
        kept = [x for layer in cache.layers for x in (layer.keys, layer.values)]
        size[str(turn)] = sum(x.numel() * x.element_size() for x in kept)
    return {"latency": {"full_history_ms": quartile}, "full_history_cache_bytes": size}
