"""Policy optimisation algorithms, a module each; importing the package fills the registry."""

from mrl.rl.algorithms import a2c, grpo, impo, ppo, raft
from mrl.rl.algorithms.registry import ALGORITHMS, Algorithm, PPOConfig, register

__all__ = ["ALGORITHMS", "Algorithm", "PPOConfig", "a2c", "grpo", "impo", "ppo", "raft", "register"]
