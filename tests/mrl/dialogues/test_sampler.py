"""The order of batches."""

import numpy as np
import pytest

from mrl.dialogues.sampler import BucketBatchSampler


def test_the_order_of_batches_is_kept_over_a_resume_and_loses_no_row():
    lengths = np.arange(50) % 7
    whole = BucketBatchSampler(lengths, 8, seed=3)
    first = [whole.next() for _ in range(7)]
    assert sorted(np.concatenate(first)) == list(range(50)), "an epoch has every row once"
    again = BucketBatchSampler(lengths, 8, seed=3)
    again.load_state_dict(whole.state_dict())
    assert all((whole.next() == again.next()).all() for _ in range(20))
    with pytest.raises(ValueError, match="had 50 rows, now there are 49"):
        BucketBatchSampler(lengths[1:], 8, seed=3).load_state_dict(whole.state_dict())
