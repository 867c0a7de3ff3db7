import numpy as np
import torch

from selftrain.rng import batch_ids, generator, rekey, seed_of


def test_keys_decide_the_draw():
    assert np.array_equal(
        generator(0, "gen0", 7).integers(1000, size=5), generator(0, "gen0", 7).integers(1000, size=5)
    )
    assert seed_of(1, "2") != seed_of("1", 2) != seed_of(12)


def test_an_epoch_shows_every_sample_once_and_the_next_one_in_another_order():
    steps = [batch_ids(6, 4, step, 0, "gen0") for step in range(6)]
    stream = [i for step in steps for i in step]
    epochs = [stream[start : start + 6] for start in range(0, 24, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_larger_than_the_data_repeats_samples():
    assert sorted(batch_ids(2, 4, 0, 0)) == [0, 0, 1, 1]


def test_rekey_seeds_torch_and_numpy():
    rekey(0, "gen0", 3)
    first = (torch.rand(3), np.random.rand())
    rekey(0, "gen0", 3)
    assert torch.equal(first[0], torch.rand(3)) and first[1] == np.random.rand()
