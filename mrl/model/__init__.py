"""The Reactive Transformer as a Hugging Face model; the files travel inside every checkpoint."""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from .configuration_reactive import ReactiveConfig
from .conversation import Dialogue, chat_template, join_rows, take_rows
from .frame import TurnFrame
from .generation import Answers
from .memory_state import MemoryHistory, MemoryState
from .modeling_reactive import DecoderOutput, EncoderOutput, ReactiveForCausalLM
from .sampling import FORCED, Forced, Sampling, Think
from .sequence_classification import ReactiveForSequenceClassification

# In this process the classes are known without trust_remote_code; elsewhere the checkpoint brings its own copy.
AutoConfig.register("reactive", ReactiveConfig, exist_ok=True)
AutoModelForCausalLM.register(ReactiveConfig, ReactiveForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(ReactiveConfig, ReactiveForSequenceClassification, exist_ok=True)

__all__ = [
    "FORCED",
    "Answers",
    "DecoderOutput",
    "Dialogue",
    "EncoderOutput",
    "Forced",
    "MemoryHistory",
    "MemoryState",
    "ReactiveConfig",
    "ReactiveForCausalLM",
    "ReactiveForSequenceClassification",
    "Sampling",
    "Think",
    "TurnFrame",
    "chat_template",
    "join_rows",
    "take_rows",
]
