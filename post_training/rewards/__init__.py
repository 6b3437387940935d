"""What an answer is worth where that can be verified: functions by name, chosen and weighed in a recipe's YAML."""

from post_training.rewards.registry import RewardConfig, reward_functions, verify

__all__ = ["RewardConfig", "reward_functions", "verify"]
