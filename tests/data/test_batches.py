import multiprocessing
import signal
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from selftrain.data import loading
from selftrain.data.augment.geometry import flip
from selftrain.data.augment.pipeline import Pipeline
from selftrain.data.augment.randaugment import RandAugment
from selftrain.data.batches import Augmentation, StepDataset
from selftrain.data.cache import Cache
from selftrain.data.labels import MaskLabels, Taught, gather
from selftrain.data.loading import loader
from selftrain.data.mixing import MIXES, Mixer
from selftrain.errors import ResourceError
from selftrain.ids import IGNORE
from selftrain.tables import Chosen
from selftrain.targets import Target

WEAK = Pipeline((32, 32))
FLIP = Chosen("flip", flip, 0.5, {})


@dataclass
class Picture:
    id: str
    value: int
    contrast: int = 0  # between its columns

    def read_image(self):
        image = np.full((40, 40, 3), self.value, np.uint8)
        image[:, ::2] += np.uint8(self.contrast)
        return image

    def read_mask(self):
        return np.full((40, 40), self.value % 3, np.uint8)


class Labels:
    """Pseudo-labels that say the image's own number, sure of it in the left half only."""

    samples = tuple(Picture(f"u{i}", 100 + i) for i in range(5))

    def target(self, i, index):
        outside = index < 0
        hard = np.where(outside | (index % 40 >= 20), IGNORE, i).astype(np.uint8)
        soft = np.full((5, *index.shape), 0.05, np.float32)
        soft[i] = 0.8
        return Target(hard, (hard != IGNORE).astype(np.float32), soft)


def masks(samples):
    return MaskLabels(samples, Picture.read_mask)


def boxes(p):
    return (Mixer("cutmix", p, MIXES["cutmix"].draw, MIXES["cutmix"].mask),) if p else ()


def dataset(cutmix=0.0, seed=0, paste=0.0, style=0.0, contrast=0, styles=Labels.samples):
    strong = Pipeline((32, 32), scale=(0.8, 1.2), geometry=(FLIP,), randaugment=RandAugment(1, 10))
    augmentation = Augmentation(WEAK, strong, boxes(cutmix), paste, style)
    labelled = [Picture(f"l{i}", i, contrast) for i in range(6)]
    return StepDataset(
        masks(labelled),
        styles,
        Labels(),
        sizes=(4, 4),
        augmentation=augmentation,
        cache=Cache(10),
        keys=(seed, "gen1"),
    )


def take(first=0, steps=6, rank=0, world=1, workers=0, **settings):
    return list(
        loader(dataset(**settings), first=first, steps=steps, rank=rank, world=world, workers=workers)
    )


def planes(batch):
    """Every tensor of a batch."""
    found = []
    batch.each(lambda tensor: found.append(tensor) or tensor)
    return found


def same(a, b):
    return all(torch.equal(one, other) for one, other in zip(planes(a), planes(b), strict=True))


def test_labelled_images_are_in_every_batch_and_come_first():
    for batch in take():
        assert (
            batch.labelled == 4
            and len(batch.images) == 8
            and len(batch.guessed.soft) == len(batch.guessed.weight) == 4
        )
        assert (batch.images[:4] < 6).all() and batch.images.dtype == torch.uint8


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    assert all(map(same, take(workers=workers, cutmix=0.8), take(cutmix=0.8)))


def test_workers_put_batches_into_shared_memory_themselves():
    batch = take(steps=1, workers=1)[0]
    assert len(planes(batch)) == 5 and all(tensor.is_shared() for tensor in planes(batch))
    assert not take(steps=1)[0].images.is_shared()


@pytest.mark.parametrize("strong", [0, 2])
def test_the_estimate_of_shared_memory_is_what_batches_have(strong):
    plain, weak = dataset(), Augmentation(WEAK, WEAK, boxes(1.0))
    settings = {"sizes": (3, 2), "cache": Cache(10), "keys": (0, "gen1")}
    online = StepDataset(plain.labels, Labels.samples, views=2, augmentation=weak, **settings)
    stored = StepDataset(plain.labels, Labels.samples, Labels(), augmentation=plain.augmentation, **settings)
    batch = next(loader(online if strong else stored, first=0, steps=1, rank=0, world=1, workers=0))
    sizes = [tensor.nbytes for tensor in planes(batch)]
    images = list(zip((3, 2), loading.bytes_per_pixel(5, views=strong), strict=True))
    estimate = loading.most_shared(images, (32, 32), workers=2) / 5  # 2 x 2 made ahead, 1 in use
    assert sum(sizes) == estimate + (
        2 * 2 * (8 + 4 * 8 + 1) if strong else 0
    )  # who is mixed, boxes, and who is pasted


def test_a_worker_that_raises_tells_the_main_process_why():
    class Broken(Labels):
        def target(self, i, index):
            np.empty(1 << 50)

    data = dataset()
    data.pseudo = Broken()
    with pytest.raises(ResourceError, match="out of memory while loading images; lower"):
        next(loader(data, first=0, steps=1, rank=0, world=1, workers=1))


def test_no_batch_is_waited_for_once_a_stop_is_wanted():
    class Slow(Labels):
        def target(self, i, index):
            time.sleep(30)

    data, began = dataset(), time.monotonic()
    data.pseudo = Slow()
    found, seconds = (
        list(loader(data, first=0, steps=1, rank=0, world=1, workers=1, stopped=lambda: True)),
        time.monotonic() - began,
    )
    for child in multiprocessing.active_children():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise here
        child.kill()
    assert found == [] and seconds < 10


def test_a_slow_loader_is_waited_for_as_long_as_it_works(monkeypatch):
    monkeypatch.setattr(loading, "IDLE", 0.5)
    monkeypatch.setattr(loading, "POLL", 0.1)

    class Busy(Labels):
        def target(self, i, index):
            end = time.monotonic() + 0.5
            while time.monotonic() < end:
                pass
            return super().target(i, index)

    data = dataset()
    data.pseudo = Busy()
    assert len(list(loader(data, first=0, steps=1, rank=0, world=1, workers=1))) == 1


def test_a_resumed_stream_goes_on_with_the_same_batches():
    assert all(map(same, take(first=4, cutmix=0.8), take(cutmix=0.8)[4:]))


def test_ranks_together_see_the_global_batch_of_one():
    whole = take(cutmix=1.0)
    for batch, *parts in zip(
        whole, take(rank=0, world=2, cutmix=1.0), take(rank=1, world=2, cutmix=1.0), strict=True
    ):
        labelled, pseudo = (
            [part.images[: part.labelled] for part in parts],
            [part.images[part.labelled :] for part in parts],
        )
        together = [torch.stack(halves, dim=1).flatten(0, 1) for halves in (labelled, pseudo)]
        assert torch.equal(torch.cat(together), batch.images)
        for name in ("known", "guessed"):
            halves = [getattr(part, name).hard for part in parts]
            assert torch.equal(torch.stack(halves, dim=1).flatten(0, 1), getattr(batch, name).hard)


def test_pasted_boxes_bring_their_mask_and_are_sure():
    pasted = 0
    for batch, plain in zip(take(cutmix=1.0, paste=1.0), take(), strict=True):
        assert torch.equal(batch.images[:4], plain.images[:4])
        for i in range(4):
            box = (batch.images[4 + i] != plain.images[4 + i]).any(dim=-1)
            assert torch.equal(batch.images[4 + i][box], batch.images[i][box])
            guessed, mask = batch.guessed, batch.known.hard[i]
            known, soft = box & (mask != IGNORE), guessed.soft[i].permute(1, 2, 0)
            assert torch.equal(guessed.hard[i][box], mask[box])
            assert (soft[known].argmax(dim=-1) == mask[known]).all()
            assert (guessed.weight[i][known] == 1).all() and (soft[known].amax(dim=-1) == 1).all()
            pasted += int(box.sum())
    assert pasted > 1000


@pytest.mark.parametrize("paste", [0.0, 0.5, 1.0])
def test_online_boxes_are_pasted_as_often_as_asked(paste):
    augmentation = Augmentation(WEAK, WEAK, boxes(1.0), paste=paste)
    online = StepDataset(
        masks([Picture("l0", 0)]), Labels.samples, views=2, sizes=(2, 4), augmentation=augmentation,
        cache=Cache(10), keys=(0, "gen0"),
    )  # fmt: skip
    batches = list(loader(online, first=0, steps=20, rank=0, world=1, workers=0))
    pasted = torch.cat([batch.views.pasted for batch in batches])
    assert pasted.shape == (40, 4) and abs(pasted.float().mean() - paste) < 0.15


def test_labelled_slots_hold_the_images_that_the_sampler_draws():
    data = dataset()
    data.sampler = lambda batch, step, keys: [(step + slot) % 3 + 3 for slot in range(batch)]
    for step, batch in enumerate(loader(data, first=0, steps=3, rank=0, world=1, workers=0)):
        assert batch.images[:4, 0, 0, 0].tolist() == [(step + slot) % 3 + 3 for slot in range(4)]


def test_places_see_the_mask_of_a_labelled_image_and_none_of_another():
    seen = []

    def middle(rng, size, crop, mask):
        seen.append(None if mask is None else int(mask[0, 0]))
        return 4.0, 4.0

    data, place = dataset(), Chosen("middle", middle, 1.0, {})
    seen_so = Pipeline((32, 32), place=place)
    data.augmentation = Augmentation(seen_so, seen_so)
    next(loader(data, first=0, steps=1, rank=0, world=1, workers=0))
    ids = data.sampler(4, 0, (0, "gen1", "labelled"))
    assert seen == [*(i % 3 for i in ids), None, None, None, None]


def mixed_labelled(name, classes=0, **settings):
    data, mixing = dataset(), MIXES[name]
    mixers = (Mixer(name, 1.0, mixing.draw, mixing.mask, mixing.soft),)
    data.augmentation, data.classes = Augmentation(WEAK, WEAK, labelled_mixers=mixers), classes
    return list(loader(data, first=0, steps=8, rank=0, world=1, workers=0))


def test_labelled_images_are_mixed_with_the_next_one_and_their_masks_alike():
    """An image has the grey level i, and its mask the id i % 3."""
    several = 0
    for batch in mixed_labelled("cutmix"):
        assert torch.equal(batch.images[:4, ..., 0] % 3, batch.known.hard) and batch.known.soft is None
        several += sum(len(one.unique()) > 1 for one in batch.images[:4])
    assert several > 12


def test_snapmix_weighs_stored_labels_by_their_activation():
    """A label has 0.8 in the left half of the image and none in the right half: a part with more of it weighs more."""
    plain, weighed = dataset(), dataset()
    for data, name in ((plain, "cutmix"), (weighed, "snapmix")):
        mixing = MIXES[name]
        mixers = (Mixer(name, 1.0, mixing.draw, mixing.mask, mixing.soft, mixing.weighs),)
        data.augmentation = Augmentation(WEAK, WEAK, mixers)
    changed = 0
    for step in range(6):
        for slot in range(4, 8):
            one, other = plain[step, slot], weighed[step, slot]
            assert np.array_equal(one.image, other.image) and np.array_equal(
                one.target.hard, other.target.hard
            )
            known = one.target.weight > 0
            assert np.array_equal(other.target.weight > 0, known)
            factors = np.unique((other.target.weight[known] / one.target.weight[known]).round(4))
            assert len(factors) <= 2
            changed += len(factors) == 2 and not np.allclose(factors, 1)
    assert changed > 8


def test_averaged_labelled_images_have_soft_labels_of_the_same_shares():
    """A pixel's class i has the share by which the image of grey level i shows through."""
    for step, batch in enumerate(mixed_labelled("mixup", classes=3)):
        soft, greys = batch.known.soft, batch.images[:4, ..., 0]
        assert torch.allclose(soft.sum(dim=1), torch.ones(())) and (batch.known.weight == 1).all()
        assert torch.equal(soft.argmax(dim=1), batch.known.hard.long())
        ids = dataset().sampler(4, step, (0, "gen1", "labelled"))
        for slot, (own, partner) in enumerate(zip(ids, [*ids[1:], ids[0]], strict=True)):
            if own % 3 != partner % 3:
                share = soft[slot, partner % 3, 0, 0].item()
                assert greys[slot].unique().item() == round((1 - share) * own + share * partner)


def test_a_place_sees_stored_labels_only_if_its_setting_says_so():
    seen = []

    def middle(rng, size, crop, mask, *, stored=False):
        seen.append(mask)
        return 4.0, 4.0

    for stored in (False, True):
        seen.clear()
        data = dataset()
        how = Pipeline((32, 32), place=Chosen("middle", middle, 1.0, {"stored": stored}))
        data.augmentation = Augmentation(WEAK, how)
        next(loader(data, first=0, steps=1, rank=0, world=1, workers=0))
        assert [mask is not None for mask in seen] == [stored] * 4
    assert all((mask[:, :20] < 5).all() and (mask[:, 20:] == IGNORE).all() for mask in seen)
    assert {mask.shape for mask in seen} == {(40, 40)}


def test_seeds_and_steps_differ():
    first, second = take(steps=2)
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.images, take(steps=1, seed=1)[0].images)


def test_cutmix_mixes_image_and_targets_alike():
    mixed = 0
    for batch in take(cutmix=1.0, steps=10):
        for hard, soft, weight in zip(
            batch.guessed.hard, batch.guessed.soft, batch.guessed.weight, strict=True
        ):
            said = hard[hard != IGNORE].long()
            assert torch.equal(soft.argmax(dim=0)[hard != IGNORE], said)
            assert torch.equal(weight > 0, hard != IGNORE)
            mixed += len(said.unique()) > 1
    assert mixed > 5


def test_without_pseudo_labels_all_is_labelled():
    data = StepDataset(
        dataset().labels, sizes=(8, 0),
        augmentation=Augmentation(WEAK, WEAK), cache=Cache(0), keys=(0,),
    )  # fmt: skip
    batch = next(loader(data, first=0, steps=1, rank=0, world=1, workers=0))
    assert batch.labelled == 8 and batch.guessed is None


def test_the_cache_keeps_to_its_budget():
    cache = Cache(megabytes=5000 / 2**20)
    first, second = Picture("a", 1), Picture("b", 2)
    assert cache.image(first) is cache.image(first)  # 4800 bytes
    assert cache.image(second) is not cache.image(second)


@pytest.mark.parametrize(
    ("style", "other", "least", "most"),
    [
        (0.0, Picture("u", 50, 50), 0, 45),
        (1.0, Picture("u", 50, 50), 45, 105),
        (1.0, Picture("too bright", 160, 50), 0, 45),
        (1.0, Picture("too flat", 20, 8), 0, 45),
    ],
)
def test_labelled_images_take_the_colours_of_unlabelled_ones_of_their_kind_and_keep_their_masks(
    style, other, least, most
):
    plain, styled = (
        next(
            loader(
                dataset(style=one, contrast=40, styles=[other]), first=0, steps=1, rank=0, world=1, workers=0
            )
        )
        for one in (0.0, style)
    )
    assert least <= styled.images[:4].min() and styled.images[:4].max() <= most
    assert torch.equal(styled.known.hard, plain.known.hard) and torch.equal(
        styled.images[4:], plain.images[4:]
    )


class Quarters(Picture):
    """A picture whose mask has another class in each quarter."""

    def read_mask(self):
        return np.kron(np.arange(4).reshape(2, 2), np.ones((20, 20))).astype(np.uint8)


def test_a_teachers_labels_follow_the_mask_through_every_crop():
    def soft(sample, index):
        return np.moveaxis(np.eye(4, dtype=np.float32)[gather(sample.read_mask(), index, 0)], -1, 0)

    samples = [Quarters(f"l{i}", i) for i in range(3)]
    turned = Pipeline((32, 32), scale=(0.5, 1.5), geometry=(FLIP,))
    labels = Taught(MaskLabels(samples, Quarters.read_mask), soft)
    data = StepDataset(
        labels, sizes=(2, 0), augmentation=Augmentation(turned, turned), cache=Cache(10), keys=(0, "gen1")
    )
    batch = next(loader(data, first=0, steps=1, rank=0, world=1, workers=0))
    known = batch.known.hard != IGNORE
    assert batch.known.soft.shape == (2, 4, 32, 32) and len(batch.known.hard[known].unique()) == 4
    assert torch.equal(batch.known.soft.argmax(dim=1)[known], batch.known.hard[known].long())
