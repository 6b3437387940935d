"""A tokenizer that knows every text, for rows in ordinary English."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

FRAME = ["[PAD]", "[UNK]", "[BOS]", "[EOS]", "[MASK]", "[Q]", "[A]", "[T]"]
FRAME_OF_BYTES = {
    "pad_token_id": 0, "unk_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4,
    "query_token_id": 5, "answer_token_id": 6, "think_token_id": 7,
}  # fmt: skip
"""Where FRAME stands in `byte_tokenizer`, by ReactiveConfig's names."""


def of_bytes(first: list[str]) -> Tokenizer:
    """A token for each byte, after those given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate([*first, *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=of_bytes(FRAME), pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]",
        mask_token="[MASK]", additional_special_tokens=["[Q]", "[A]", "[T]"],
    )  # fmt: skip
