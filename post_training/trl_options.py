"""Every option of TRL's SFTConfig, DPOConfig and GRPOConfig: honoured, or refused with what replaces it.

Rows are encoded, cut and packed into examples before TRL sees them, so its options about that would have no effect; so
would others that its trainers never read. A test walks the fields of both classes against these lists: an option that
a new release brings has to be put into one of them before that release can be used.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.errors import InputError, nearest, shortened
from pipeline.ranges import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Seed, Share, ShareBelowOne

HONOURED = frozenset(
    """
    accelerator_config activation_checkpointing activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon
    auto_find_batch_size average_tokens_across_devices bf16 data_seed dataloader_drop_last dataloader_in_order
    dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory
    dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters
    ddp_static_graph ddp_timeout debug deepspeed disable_tqdm eval_delay eval_on_start eval_steps eval_strategy fp16
    fsdp fsdp_config full_determinism gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs
    greater_is_better hub_model_id hub_private_repo hub_strategy hub_token ignore_data_skip
    include_num_input_tokens_seen learning_rate liger_kernel_config load_best_model_at_end log_level log_level_replica
    log_on_each_node logging_first_step logging_nan_inf_filter logging_steps logging_strategy loss_type
    lr_scheduler_kwargs lr_scheduler_type max_grad_norm max_steps metric_for_best_model neftune_noise_alpha
    num_train_epochs optim optim_args optim_target_modules pad_to_multiple_of parallelism_config
    per_device_eval_batch_size per_device_train_batch_size project push_to_hub report_to
    restore_callback_states_from_checkpoint router_aux_loss_coef run_name save_steps save_strategy save_total_limit
    skip_memory_metrics tf32 torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps
    trackio_bucket_id trackio_space_id trackio_static_space_id train_sampling_strategy use_cache use_cpu
    use_liger_kernel warmup_steps weight_decay
    """.split()
)
"""Options that the trainers act on, or that this room acts on in their place."""

HONOURED_BY = {
    "sft": frozenset(
        "activation_offloading dataset_num_proc max_length assistant_only_loss completion_only_loss"
        " dataset_text_field eval_packing label_smoothing_factor packing packing_strategy padding_free"
        " shuffle_dataset".split()
    ),
    "dpo": frozenset(
        "activation_offloading dataset_num_proc max_length beta disable_dropout discopop_tau"
        " f_alpha_divergence_coef f_divergence_type label_smoothing ld_alpha loss_weights precompute_ref_batch_size"
        " precompute_ref_log_probs ref_model_mixup_alpha ref_model_sync_steps sync_ref_model use_weighting".split()
    ),
    "grpo": frozenset(
        "beta cache_implementation cast_lm_head_to_fp32 ds3_gather_for_generation chat_template_kwargs delta"
        " disable_dropout entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target epsilon"
        " epsilon_high generation_kwargs importance_sampling_level log_completions log_unique_prompts"
        " mask_truncated_completions max_completion_length min_p multi_objective_aggregation"
        " num_completions_to_print num_generations num_iterations off_policy_mask_threshold ref_model_mixup_alpha"
        " ref_model_sync_steps repetition_penalty sapo_temperature_neg sapo_temperature_pos scale_rewards"
        " shuffle_dataset steps_per_generation sync_ref_model temperature top_entropy_quantile top_k top_p"
        " use_adaptive_entropy use_bias_correction_kl use_transformers_continuous_batching"
        " transformers_continuous_batching_config use_vllm vespo_k_neg vespo_k_pos vespo_lambda_neg vespo_lambda_pos"
        " vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_group_port vllm_importance_sampling_clip_max"
        " vllm_importance_sampling_clip_min vllm_importance_sampling_correction vllm_importance_sampling_mode"
        " vllm_max_model_length vllm_mode vllm_model_impl vllm_server_base_url vllm_server_host vllm_server_port"
        " vllm_server_timeout vllm_structured_outputs_regex vllm_tensor_parallel_size".split()
    ),
}
"""Options of one trainer alone."""

_NO_METRICS = "there are no metrics over logits here, so it would do nothing; take it out"
REFUSED = {
    "batch_eval_metrics": _NO_METRICS,
    "bf16_full_eval": "it would leave the model itself in bf16; evaluation has the precision of training, trainer.bf16",
    "do_eval": "it would do nothing; name dataset.held_out, and set trainer.eval_strategy",
    "do_predict": "it would do nothing; name dataset.held_out",
    "do_train": "it would do nothing; the script trains",
    "enable_jit_checkpoint": "SIGTERM and Ctrl-C always save a checkpoint; take it out",
    "eval_accumulation_steps": _NO_METRICS,
    "eval_do_concat_batches": _NO_METRICS,
    "eval_use_gather_object": _NO_METRICS,
    "fp16_full_eval": "it would leave the model itself in fp16; evaluation has the precision of training, trainer.fp16",
    "hub_always_push": "no push waits for another here; take it out",
    "hub_revision": "pushes go to the repository's main branch; take it out",
    "include_for_metrics": _NO_METRICS,
    "label_names": "the labels are made from the rows; take it out",
    "length_column_name": "examples bring their lengths along; take it out",
    "local_rank": "the launcher decides it; take it out",
    "model_init_kwargs": "write model.dtype, model.attn_implementation, model.revision or model.trust_remote_code",
    "output_dir": "write output_dir at the top level of the YAML",
    "prediction_loss_only": _NO_METRICS,
    "remove_unused_columns": "examples hold only what the trainer reads; take it out",
    "resume_from_checkpoint": "write resume at the top level of the YAML",
    "save_on_each_node": "the first process alone seals checkpoints; put output_dir on a disk that all nodes see",
    "save_only_model": "a checkpoint without the optimizer can't be continued; the finished weights are in model/",
    "seed": "write seed at the top level of the YAML",
    "trust_remote_code": "write model.trust_remote_code",
}  # fmt: skip
"""Options that neither trainer would act on, and what to do instead."""

_OF_LENGTH = {
    "pad_token": "write model.pad_token",
    "truncation_mode": "the end of a long row is cut (keep_start); dataset.over_length says cut, drop or refuse",
}
REFUSED_BY = {
    "sft": {
        **_OF_LENGTH,
        "chat_template_path": "write chat_template: PATH at the top level of the YAML",
        "dataset_kwargs": "rows are always prepared before TRL sees them; take it out",
        "eos_token": "write model.eos_token",
    },
    "dpo": {
        **_OF_LENGTH,
        "label_smoothing_factor": "DPO doesn't read it; write trainer.label_smoothing",
        "padding_free": "DPO doesn't read it; documents are laid end to end already",
    },
    "grpo": {
        "generation_batch_size": "it follows from the batch, the accumulation and num_generations; take it out",
        "label_smoothing_factor": "GRPO doesn't read it; take it out",
        "log_completions_hub_repo": "answers stay in output_dir/completions; take it out",
        "log_multimodal": "there are no pictures here; take it out",
        "max_tool_calling_iterations": "no tools are called here; take it out",
        "num_generations_eval": "held-out questions are answered once, greedily; take it out",
        "reward_weights": "write rewards: [{kind: …, weight: …}] at the top level of the YAML",
        "use_transformers_paged": "it is now trainer.use_transformers_continuous_batching",
        "vllm_importance_sampling_cap": "it is now trainer.vllm_importance_sampling_clip_max",
    },
}
"""Options that one trainer wouldn't act on."""

Tracker = Literal[
    "none", "all", "wandb", "tensorboard", "trackio", "mlflow", "comet_ml", "swanlab", "clearml", "neptune", "dvclive",
    "azure_ml", "codecarbon", "dagshub", "flyte", "kubeflow",
]  # fmt: skip

LIMITS: dict[str, Any] = {
    "accelerator_config": dict[str, Any],
    "activation_checkpointing_kwargs": dict[str, Any],
    "adam_beta1": ShareBelowOne,
    "adam_beta2": ShareBelowOne,
    "adam_epsilon": PositiveFloat,
    "beta": Annotated[float, Field(ge=0, le=1000)],
    "data_seed": Seed,
    "delta": PositiveFloat,
    "epsilon": NonNegativeFloat,
    "epsilon_high": NonNegativeFloat,
    "max_completion_length": PositiveInt,
    "min_p": Share,
    "num_generations": Annotated[int, Field(ge=2)],
    "num_iterations": PositiveInt,
    "repetition_penalty": PositiveFloat,
    "steps_per_generation": PositiveInt,
    "temperature": Annotated[float, Field(gt=0, le=100)],
    "top_entropy_quantile": Share,
    "top_p": Annotated[float, Field(gt=0, le=1)],
    "ddp_bucket_cap_mb": PositiveInt,
    "ddp_timeout": PositiveInt,
    "discopop_tau": PositiveFloat,
    "dataloader_num_workers": NonNegativeInt,
    "dataset_num_proc": PositiveInt,
    "eval_delay": NonNegativeFloat,
    "eval_steps": PositiveFloat,
    "f_divergence_type": Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"],
    "gradient_accumulation_steps": PositiveInt,
    "gradient_checkpointing_kwargs": dict[str, Any],
    "hub_strategy": Literal["every_save", "end"],
    "label_smoothing": ShareBelowOne,
    "label_smoothing_factor": ShareBelowOne,
    "include_num_input_tokens_seen": Literal["all", "non_padding", "no"] | bool,
    "ld_alpha": Share,
    "learning_rate": Annotated[float, Field(gt=0, le=1000)],
    "logging_steps": PositiveFloat,
    "loss_weights": list[NonNegativeFloat],
    "lr_scheduler_kwargs": dict[str, Any],
    "max_grad_norm": NonNegativeFloat,
    "max_length": Annotated[int, Field(ge=2)],
    "max_steps": Annotated[int, Field(ge=-1)],
    "neftune_noise_alpha": NonNegativeFloat,
    "num_train_epochs": PositiveFloat,
    "packing_strategy": Literal["bfd", "bfd_split", "wrapped"],
    "pad_to_multiple_of": PositiveInt | Literal["auto"],
    "per_device_eval_batch_size": PositiveInt,
    "per_device_train_batch_size": PositiveInt,
    "precompute_ref_batch_size": PositiveInt,
    "ref_model_mixup_alpha": Share,
    "ref_model_sync_steps": PositiveInt,
    "report_to": Tracker | list[Tracker],
    "router_aux_loss_coef": NonNegativeFloat,
    "save_steps": PositiveFloat,
    "save_total_limit": PositiveInt,
    "warmup_steps": NonNegativeFloat,
    "torch_compile_mode": Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"],
    "weight_decay": Annotated[float, Field(ge=0, le=1000)],
}
"""Narrower than TRL's annotations, which give the bare type."""

RENAMED = {
    "max_seq_length": "max_length",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
"""Earlier names of options, and today's."""

type Stage = Literal["sft", "dpo", "grpo"]
SFT_LOSSES = ("nll", "dft", "chunked_nll")
DPO_LOSSES = (
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft"
    " sigmoid_norm".split()
)
GRPO_LOSSES = ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo")


def refuse_unknown(section: dict[str, Any], stage: Stage) -> None:
    """Raise InputError for the first name that is no option of the stage's trainer, before TRL is imported."""
    known = {*HONOURED, *HONOURED_BY[stage], *REFUSED, *REFUSED_BY[stage], *RENAMED, "warmup_ratio"}
    known |= {"max_prompt_length"} if stage == "dpo" else set()
    for name in section:
        if name not in known:
            raise InputError(
                f"trainer.{shortened(name, 60)} is not a setting of {stage.upper()}Config{nearest(name, sorted(known))}"
            )


def refuse_ignored(checked: dict[str, Any], stage: Stage) -> None:
    """Raise InputError for the first option of `checked` that this stage would ignore, with what replaces it."""
    replaced = REFUSED | REFUSED_BY[stage]
    for name in checked:
        if name in replaced:
            raise InputError(f"trainer.{name}: {replaced[name]}")
        if name not in HONOURED | HONOURED_BY[stage]:
            raise InputError(f"trainer.{name} is new in TRL and nobody has yet seen what it does here; take it out")


def refuse_contradictions(checked: dict[str, Any], stage: Stage) -> None:
    """Raise InputError for options of which one would switch the other off without a word."""
    losses = checked.get("loss_type") or []
    known = {"sft": SFT_LOSSES, "dpo": DPO_LOSSES, "grpo": GRPO_LOSSES}[stage]
    losses = [losses] if isinstance(losses, str) else losses
    for loss in losses:
        if loss not in known:
            raise InputError(f"trainer.loss_type: {loss!r} is not one of {', '.join(known)}")
    if checked.get("max_steps") == 0:
        raise InputError("trainer.max_steps: 0 steps train nothing; give a number, or -1 for trainer.num_train_epochs")
    rate = (checked.get("lr_scheduler_kwargs") or {}).get("min_lr_rate")
    if rate is not None and not (isinstance(rate, int | float) and 0 <= rate <= 1):
        raise InputError(f"trainer.lr_scheduler_kwargs.min_lr_rate should be a share from 0 to 1, not {rate!r}")
    if stage == "sft":
        if checked.get("label_smoothing_factor") and checked.get("loss_type") == "dft":
            raise InputError("trainer.label_smoothing_factor: loss_type dft doesn't read it; keep one of them")
        if checked.get("packing") is not True:
            for name in ("packing_strategy", "eval_packing"):
                if checked.get(name):
                    raise InputError(f"trainer.{name}: it does nothing without trainer.packing: true")
        return
    if stage == "grpo":
        return
    if checked.get("beta") == 0:
        raise InputError("trainer.beta should be above 0, not 0: DPO's loss would be the same for every pair")
    weights = checked.get("loss_weights")
    if weights is not None and len(weights) != len(checked.get("loss_type", ["sigmoid"])):
        raise InputError("trainer.loss_weights: give one weight for each entry of trainer.loss_type")
    if checked.get("sync_ref_model") and checked.get("precompute_ref_log_probs") is not False:
        raise InputError("trainer.sync_ref_model: it needs trainer.precompute_ref_log_probs: false")
    for name in ("ref_model_mixup_alpha", "ref_model_sync_steps"):
        if name in checked and not checked.get("sync_ref_model"):
            raise InputError(f"trainer.{name}: it does nothing without trainer.sync_ref_model: true")


__all__ = [
    "DPO_LOSSES",
    "GRPO_LOSSES",
    "HONOURED",
    "HONOURED_BY",
    "LIMITS",
    "REFUSED",
    "REFUSED_BY",
    "RENAMED",
    "SFT_LOSSES",
    "Stage",
    "refuse_contradictions",
    "refuse_ignored",
    "refuse_unknown",
]
