"""What an answer is worth: a module for each family of terms, and their combination by name."""

from mrl.rl.rewards.combined import Judge, RewardConfig, score
from mrl.rl.rewards.custom import CustomRewardError
from mrl.rl.rewards.facts import fact_recall
from mrl.rl.rewards.overlap import bleu, repetition
from mrl.rl.rewards.scales import RunningScales
from mrl.rl.rewards.silence import may_be_rewarded, says_something
from mrl.rl.rewards.strategies import saved_data, strategy_table
from mrl.rl.rewards.words import Vocabulary, content

__all__ = [
    "CustomRewardError",
    "Judge",
    "RewardConfig",
    "RunningScales",
    "Vocabulary",
    "bleu",
    "content",
    "fact_recall",
    "may_be_rewarded",
    "repetition",
    "saved_data",
    "says_something",
    "score",
    "strategy_table",
]
