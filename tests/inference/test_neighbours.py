from types import SimpleNamespace

import numpy as np

from selftrain.inference.groups import neighbours, rank_share


def test_ranks_take_turns():
    shares = [list(rank_share(5, SimpleNamespace(process_index=rank, num_processes=2))) for rank in (0, 1)]
    assert shares == [[0, 2, 4], [1, 3]]


def test_neighbours_of_one_size_share_a_batch_in_their_order():
    sizes = [(4, 4), (4, 4), (4, 6), (4, 4), (4, 4)]
    groups = [[i for i, _ in group] for group in neighbours(range(5), 4, lambda i: np.zeros((*sizes[i], 3)))]
    assert groups == [[0, 1], [2], [3], [4]]  # the last one begins another batch


def test_an_image_is_read_when_its_batch_comes():
    read = []
    batches = neighbours(range(4), 2, lambda i: read.append(i) or np.zeros((2, 2, 3)))
    next(batches)
    assert read == [0, 1]
