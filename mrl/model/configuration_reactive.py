"""Configuration of the Reactive Transformer.

The file is copied into every checkpoint (`auto_map`) with those it names, so it imports transformers and its
neighbours alone.
"""

from transformers import PreTrainedConfig

from .frame import MARKERS, TurnFrame

MEMORY_VARIANTS = ("simple", "self", "interlayer", "self-interlayer")
GATES = ("off", "static", "elementwise", "linear", "content")
GATE_ACTIVATIONS = ("sigmoid", "tanh")
GATE_SCOPES = ("slot", "layer")
INITIAL_STATES = ("normal", "learned", "loaded", "empty")
INITIAL_WEIGHTS = ("normal", "mimetic")
READS = ("cross", "joint")
WRITES = ("attention", "surprise")
KEEPS = ("surprise", "learned")
ENCODERS = ("own", "shared", "none")


class ReactiveConfig(PreTrainedConfig):
    """Sizes and switches of one reactive model; every field has a default that makes a model of about 1.5M parameters.

    Sizes: `hidden_size` D, `num_hidden_layers` L (the same for encoder, decoder and memory), `num_attention_heads` H
    (nominal; head dimension d = D / H), `num_query_heads` <= H and `num_key_value_heads` (a divisor of the query
    heads) choose between MHA (H, H), GQA (H, G), MQA (H, 1) and SQA (fewer query heads than H). The memory side may
    have its own counts. `memory_slots` S; S = 0 makes the plain stateless decoder that the benchmarks compare with.

    Memory: `gate` and its switches are explained in `memory.ResidualGate`; `gate_spread` is the deviation of a content
    gate's z at the start. `initial_weights` mimetic starts all attention as copying and comparing (`mimetic`).

    `copy_window` K > 0: each slot also keeps K tokens as they were read, which answers can copy (`memory.CopyPath`):
    names and numbers that no training row has. The state then has K more layers. 0: no copy path.

    Models made of a causal one (`convert.py`): `memory_read` joint lets the slots stand beside the tokens in the
    decoder's own self-attention (cross: an attention of their own); `memory_write` surprise keeps the token states that
    the decoder itself predicted worst, `kept_share` of an interaction's tokens (attention: encoder and memory attention
    rewrite the slots); `encoder` says whose states these are: of layers of their own (own), of the decoder's layers
    reading the interaction by itself (shared) or of the decoder as it answers, with the memory before (none).
    `memory_keep` learned adds to that how likely a token is needed later (`memory.TokenWorth`).
    `memory_layers` are the layers whose token states are kept and that read them, from 0 (null: all).
    `initial_state` empty begins without a readable slot. `attention_bias` and `scale_embedding`
    (embeddings times sqrt(D) at the input) are as the causal model has them. `turn_frame` are the markers of its chat
    template, ids by the names of `frame.MARKERS` (null: the single tokens named below).

    `classifier_reads_memory` concerns `ReactiveForSequenceClassification` alone: whether its texts are scored together
    with a memory.

    Limits: `max_interaction_length` is T, the most tokens of ONE interaction (query and answer together);
    `max_position_embeddings` is what a flat rendered conversation may have in all (lm_eval reads it as the
    context length). Raises ValueError, one line with the remedy, where fields contradict each other.
    """

    model_type = "reactive"
    keys_to_ignore_at_inference = ("past_key_values", "memory")

    vocab_size: int = 2048
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_query_heads: int | None = None
    num_key_value_heads: int | None = None
    memory_query_heads: int | None = None
    memory_key_value_heads: int | None = None

    intermediate_size: int = 384
    encoder_intermediate_size: int | None = None
    num_experts: int = 0
    num_experts_per_token: int = 2
    router_aux_loss_coef: float = 0.01
    dropout: float = 0.0

    max_interaction_length: int = 256
    max_position_embeddings: int | None = None
    rope_base: float = 10000.0
    rms_norm_eps: float = 1e-6
    attention_bias: bool = False
    scale_embedding: bool = True

    memory_slots: int = 32
    memory_read: str = "cross"
    memory_layers: list[int] | None = None
    memory_write: str = "attention"
    memory_keep: str = "surprise"
    kept_share: float = 0.25
    encoder: str = "own"
    memory_variant: str = "interlayer"
    memory_groups: int = 1
    gate: str = "linear"
    gate_activation: str = "sigmoid"
    gate_scope: str = "slot"
    gate_init: float = 0.0
    gate_spread: float = 3.0
    initial_state: str = "normal"
    initial_state_std: float = 0.02
    initial_state_seed: int = 0
    initial_weights: str = "normal"
    copy_window: int = 0

    pad_token_id: int | None = 0
    unk_token_id: int = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3
    mask_token_id: int = 4
    query_token_id: int = 5
    answer_token_id: int = 6
    think_token_id: int = 7
    query_token: str = "[Q]"
    answer_token: str = "[A]"
    think_token: str = "[T]"
    turn_frame: dict[str, list[int]] | None = None
    tie_word_embeddings: bool = False
    use_cache: bool = True
    classifier_reads_memory: bool = True

    def __post_init__(self, **kwargs):
        """Fill in the counts that follow from others, then check that all of them fit together."""
        self.num_query_heads, self.num_key_value_heads = self.token_heads
        self.memory_query_heads, self.memory_key_value_heads = self.memory_heads
        self.encoder_intermediate_size = self.encoder_inner_size
        if self.max_position_embeddings is None:
            self.max_position_embeddings = max(2048, 8 * self.max_interaction_length)
        super().__post_init__(**kwargs)
        self._check_heads()
        self._check_memory()

    @property
    def head_dim(self) -> int:
        """Width of one head, d = D / H (H the nominal count, however few heads are used)."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rope(self) -> tuple[int, float]:
        """Head width and base of the rotary positions."""
        return self.head_dim, self.rope_base

    @property
    def to_the_bit(self) -> bool:
        """Whether norms and positions are computed in the order of transformers' operators: the weights of a model that
        keeps token states are another model's, and its logits are to be that one's."""
        return self.memory_write == "surprise"

    @property
    def token_heads(self) -> tuple[int, int]:
        """Query and key/value heads of the attention over tokens."""
        queries = self.num_query_heads or self.num_attention_heads
        return queries, self.num_key_value_heads or queries

    @property
    def memory_heads(self) -> tuple[int, int]:
        """Query and key/value heads of the memory side."""
        queries, keys = self.token_heads
        reading = self.memory_query_heads or queries
        return reading, self.memory_key_value_heads or min(keys, reading)

    @property
    def frame(self) -> TurnFrame:
        """The markers around the parts of an interaction."""
        pad = self.pad_token_id or 0
        if self.turn_frame is not None:
            return TurnFrame.named(pad, self.turn_frame)
        ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
        return TurnFrame.single(
            pad=pad, mask=self.mask_token_id, bos=self.bos_token_id, eos=ends[0] or 0,
            query=self.query_token_id, answer=self.answer_token_id, think=self.think_token_id,
        )  # fmt: skip

    @property
    def reading_layers(self) -> list[int]:
        """Layers of the decoder that read the memory, from 0."""
        return list(range(self.num_hidden_layers)) if self.memory_layers is None else self.memory_layers

    @property
    def state_layers(self) -> int:
        """Layers of a memory state: those that are read, then a window's tokens."""
        return len(self.reading_layers) + self.copy_window

    @property
    def encoder_inner_size(self) -> int:
        """Inner width of the encoder's feed-forward layers."""
        return self.encoder_intermediate_size or self.intermediate_size

    def _check_heads(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over num_attention_heads {self.num_attention_heads} must be a whole "
                "and even head dimension (rotary positions turn pairs of channels): change one of the two"
            )
        for queries, keys in (
            ("num_query_heads", "num_key_value_heads"),
            ("memory_query_heads", "memory_key_value_heads"),
        ):
            if getattr(self, queries) % getattr(self, keys):
                raise ValueError(f"{queries} {getattr(self, queries)} is no multiple of {keys} {getattr(self, keys)}")
        if self.num_experts and not 1 <= self.num_experts_per_token <= self.num_experts:
            raise ValueError(
                f"num_experts_per_token {self.num_experts_per_token} must lie in 1..num_experts ({self.num_experts})"
            )

    def _check_memory(self) -> None:
        choices = {
            "memory_variant": MEMORY_VARIANTS,
            "gate": GATES,
            "gate_activation": GATE_ACTIVATIONS,
            "gate_scope": GATE_SCOPES,
            "initial_state": INITIAL_STATES,
            "initial_weights": INITIAL_WEIGHTS,
            "memory_read": READS,
            "memory_write": WRITES,
            "encoder": ENCODERS,
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}")
        if self.copy_window < 0 or (self.copy_window and not self.memory_slots):
            raise ValueError(
                f"copy_window is {self.copy_window}; it is a number of tokens that each slot keeps: 0 for none, and "
                "none where memory_slots is 0"
            )
        if self.copy_window and (self.gate == "off" or self.gate_activation != "sigmoid"):
            raise ValueError(
                f"copy_window {self.copy_window} needs a gate that opens and shuts; gate is {self.gate} with "
                f"gate_activation {self.gate_activation}: choose another gate with gate_activation sigmoid, or "
                "copy_window 0"
            )
        if self.memory_write == "surprise" and self.initial_state != "empty":
            raise ValueError("memory_write surprise needs initial_state empty: what it keeps are token states")
        if self.memory_write == "attention" and self.encoder != "own":
            raise ValueError(f"encoder {self.encoder} needs memory_write surprise; memory attention has one of its own")
        if self.memory_write == "surprise" and self.copy_window:
            raise ValueError("memory_write surprise keeps tokens as they are: a copy_window has nothing to add, set 0")
        if self.initial_state == "empty" and (self.memory_read, self.memory_write) == ("cross", "attention"):
            raise ValueError(
                "initial_state empty needs memory_read joint or memory_write surprise: nothing else can read an empty "
                "memory"
            )
        if self.memory_keep not in KEEPS:
            raise ValueError(f"memory_keep {self.memory_keep} must be one of {', '.join(KEEPS)}")
        if self.memory_keep == "learned" and (self.memory_write != "surprise" or self.encoder == "none"):
            raise ValueError("memory_keep learned needs memory_write surprise and encoder own or shared")
        self._check_layers()
        if not 0 < self.kept_share <= 1:
            raise ValueError(f"kept_share {self.kept_share} must lie above 0 and not above 1")
        if self.turn_frame is not None and sorted(self.turn_frame) != sorted(MARKERS):
            raise ValueError(f"turn_frame has {', '.join(self.turn_frame)}; it must name {', '.join(MARKERS)}")
        if self.memory_groups < 1 or self.num_hidden_layers % self.memory_groups:
            raise ValueError(
                f"memory_groups {self.memory_groups} must divide num_hidden_layers {self.num_hidden_layers}"
            )

    def _check_layers(self) -> None:
        if (named := self.memory_layers) is None:
            return
        if self.memory_write != "surprise":
            raise ValueError("memory_layers needs memory_write surprise; memory attention writes every layer")
        if not named or named != sorted(set(named)) or not 0 <= named[0] <= named[-1] < self.num_hidden_layers:
            raise ValueError(
                f"memory_layers {named} must name layers of 0 to {self.num_hidden_layers - 1}, in ascending order and "
                "each once"
            )
