import pytest
import torch
import ttach
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.inference.tta import of, predict, sizes_of, views

torch.set_num_threads(1)


class Pointwise(nn.Module):
    """Looks at one pixel at a time, and so turns and flips with its input; keeps the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv2d(3, 4, 1)
        self.seen: list[tuple[int, ...]] = []
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        return self.head(images)


class Blind(nn.Module):
    """Logits that depend on the place only: class 0 grows to the right. A view that is led back wrongly shows."""

    def forward(self, images: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, images.shape[3]).expand(len(images), 1, *images.shape[2:])
        return torch.cat([ramp, -ramp], dim=1)


@pytest.fixture
def model() -> Pointwise:
    return Pointwise()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def smooth(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x, y, (x + y) / 2])[None]


@pytest.mark.parametrize("size", [(32, 64), (37, 50), (90, 33), (5, 7), (1, 1)])
def test_flips_and_turns_of_an_equivariant_model_change_nothing(
    model: Pointwise, size: tuple[int, int]
) -> None:
    images = noise(2, 3, *size)
    plain = predict(model, images)
    everything = views(hflip=True, vflip=True, rotate90=True, scales=[1.0])
    assert plain.shape == (2, 4, *size) and plain.dtype == torch.float32
    torch.testing.assert_close(plain, model(images).softmax(1))
    torch.testing.assert_close(predict(model, images, transforms=everything), plain)


def test_a_flip_is_undone_before_the_average() -> None:
    images = noise(1, 3, 32, 64)
    plain = predict(Blind().eval(), images)
    flipped = predict(
        Blind().eval(), images, transforms=views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    )
    torch.testing.assert_close(flipped, (plain + plain.flip(3)) / 2)


def test_every_pass_sees_a_multiple_of_32(model: Pointwise) -> None:
    transforms = views(hflip=True, vflip=False, rotate90=True, scales=[0.5, 1.0, 1.3])
    predict(model, noise(1, 3, 37, 50), transforms=transforms)
    assert all(height % 32 == width % 32 == 0 for _, _, height, width in model.seen)


def test_scales_are_those_asked_for_and_lead_back_to_the_size(model: Pointwise) -> None:
    images = smooth(90, 121)
    probs = predict(model, images, transforms=views(hflip=False, vflip=False, rotate90=False, scales=[0.7]))
    assert model.seen == [(1, 3, 64, 96)]
    assert probs.shape == (1, 4, 90, 121)
    torch.testing.assert_close(probs, model(images).softmax(1), atol=0.01, rtol=0)  # no shift by a pixel


def test_scaled_views_are_one_interpolation_away(model: Pointwise) -> None:
    images = noise(1, 3, 20, 30)
    probs = predict(
        model, images, transforms=views(hflip=True, vflip=False, rotate90=False, scales=[1.0, 1.5])
    )
    larger = nn.functional.interpolate(images, size=(30, 45), mode="bilinear")
    back = nn.functional.interpolate(model(larger).softmax(1), size=(20, 30), mode="bilinear")
    torch.testing.assert_close(probs, (model(images).softmax(1) + back) / 2)


@pytest.mark.parametrize(
    ("vflip", "rotate90", "expected"), [(False, False, 2), (True, False, 4), (True, True, 8)]
)
def test_no_view_is_taken_twice(vflip: bool, rotate90: bool, expected: int) -> None:
    transforms = views(hflip=True, vflip=vflip, rotate90=rotate90, scales=[1.0])
    seen = {tuple(view.augment_image(noise(1, 1, 3, 4)).flatten().tolist()) for view in transforms}
    assert len(transforms) == len(seen) == expected


def test_a_scale_resizes_its_image_once_and_the_next_image_anew(
    model: Pointwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized, resize = [], torch.nn.functional.interpolate
    monkeypatch.setattr(
        "selftrain.inference.tta.F.interpolate",
        lambda *args, **kw: resized.append(kw["size"]) or resize(*args, **kw),
    )
    transforms = views(hflip=True, vflip=True, rotate90=False, scales=[0.5])
    first, second = noise(2, 1, 3, 64, 64)
    predict(model, first, transforms=transforms)
    assert resized == [(32, 32), (64, 64)]  # the image, and the sum of four maps on its way back
    fresh = views(hflip=True, vflip=True, rotate90=False, scales=[0.5])
    torch.testing.assert_close(
        predict(model, second, transforms=transforms), predict(model, second, transforms=fresh)
    )


def test_views_of_one_size_share_a_pass_up_to_the_batch(model: Pointwise) -> None:
    images = noise(2, 3, 32, 64)
    transforms = views(hflip=True, vflip=True, rotate90=False, scales=[1.0])
    together = predict(model, images, transforms=transforms, batch=8)
    assert [shape[0] for shape in model.seen] == [8]
    model.seen.clear()
    torch.testing.assert_close(predict(model, images, transforms=transforms, batch=5), together)
    assert [shape[0] for shape in model.seen] == [4, 4]


def test_a_result_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()
    images, transforms = noise(3, 3, 40, 70), views(hflip=True, vflip=False, rotate90=True, scales=[0.8, 1.0])
    together = predict(model, images, transforms=transforms, batch=12)
    for i in range(3):
        torch.testing.assert_close(
            predict(model, images[i : i + 1], transforms=transforms), together[i : i + 1]
        )


@pytest.mark.parametrize(
    "transform",
    [
        ttach.FiveCrops(8, 8),
        ttach.Scale([2]),
        ttach.Resize([(9, 9)]),
        ttach.Resize([(9, 9)], original_size=(8, 8)),
    ],
)
def test_unsuitable_transforms_are_refused(model: Pointwise, transform: object) -> None:
    with pytest.raises(ConfigError, match="tta: "):
        predict(model, noise(1, 3, 8, 8), transforms=ttach.Compose([transform]))


def test_a_transform_of_ttach_itself_is_led_back_to_the_size(model: Pointwise) -> None:
    images = smooth(37, 50)
    probs = predict(model, images, transforms=ttach.Compose([ttach.Scale([0.7], interpolation="bilinear")]))
    torch.testing.assert_close(probs, model(images).softmax(1), atol=0.05, rtol=0)


@pytest.mark.parametrize("scales", [[], [0.0], [-1.0, 1.0], [1.0, 1.0]])
def test_bad_scales_are_refused(scales: list[float]) -> None:
    with pytest.raises(ConfigError, match="scales"):
        views(hflip=True, vflip=False, rotate90=False, scales=scales)


def test_views_are_seen_through_the_window_that_is_asked_for(model: Pointwise) -> None:
    seen = []

    def corners(logits, images, multiple, batch):
        """Only the corner of 32 pixels is asked for; it stands for the whole image."""
        seen.append((tuple(images.shape), multiple, batch))
        corner = logits(images[:, :, :32, :32]).softmax(dim=1)
        return corner.mean(dim=(2, 3), keepdim=True).repeat(1, 1, *images.shape[2:])

    flips = views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    probs = predict(model, noise(1, 3, 40, 50), transforms=flips, window=corners, multiple=8, batch=2)
    assert seen == [((2, 3, 40, 50), 8, 2)] and model.seen == [(2, 3, 32, 32)]
    assert probs.shape == (1, 4, 40, 50) and len(probs.flatten(2)[0].unique(dim=1).T) == 1


@pytest.mark.parametrize(("name", "expected"), [("plain", 1), ("d4", 8), ("twelve", 12)])
def test_a_preset_has_its_views_and_each_leads_back(model: Pointwise, name: str, expected: int) -> None:
    transforms, weights = of(name)
    images = smooth(40, 60)
    seen = {tuple(view.augment_image(images).flatten().tolist()) for view in transforms}
    assert len(transforms) == len(seen) == expected and weights == ()
    atol = 0.01 if name == "twelve" else 1e-5  # scales interpolate
    found = predict(model, images, transforms=transforms)
    torch.testing.assert_close(found, model(images).softmax(1), atol=atol, rtol=0)


def test_views_are_weighed_in_their_order_and_those_of_weight_0_are_left_out() -> None:
    images, model = noise(1, 3, 32, 64), Blind().eval()
    plain = predict(model, images)
    transforms, weights = of({"product": {"hflip": True, "weights": [3, 1]}})
    found = predict(model, images, transforms=transforms, weights=weights)
    torch.testing.assert_close(found, (3 * plain + plain.flip(3)) / 4)
    watched = Pointwise()
    flipped = predict(watched, images, transforms=transforms, weights=[0.0, 2.0])
    assert [shape[0] for shape in watched.seen] == [1]
    torch.testing.assert_close(flipped, watched(images).softmax(1))


@pytest.mark.parametrize("weights", [[1], [0] * 8, [1] * 9])
def test_weights_that_are_not_one_per_view_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"predict\.views\.d4\.weights=.* a number for each of 8 views"):
        of({"d4": {"weights": weights}}, "predict.views")


def test_the_sizes_of_views_are_known_without_looking() -> None:
    found = of({"product": {"rotate90": True, "scales": [1.0, 0.5]}})
    assert sizes_of(found.transforms, (30, 50)) == [(30, 50), (50, 30)] * 2 + [(15, 25), (25, 15)] * 2


def test_the_confidence_of_single_views_exceeds_that_of_their_mean_by_their_disagreement(
    model: Pointwise,
) -> None:
    flips = views(hflip=True, vflip=False, rotate90=False, scales=[1.0])
    images = noise(2, 3, 32, 32)
    for network, differ in ((model, False), (Blind().eval(), True)):  # a flip changes nothing, or everything
        single: list[Tensor] = []
        mean = predict(network, images, transforms=flips, sureness=single)
        assert torch.equal(mean, predict(network, images, transforms=flips))
        lost = single[0] - mean.amax(dim=1).flatten(1).mean(dim=1)
        assert lost.shape == (2,) and ((lost > 0.1) if differ else (lost.abs() < 1e-6)).all()
    weighed: list[Tensor] = []
    predict(Blind().eval(), images, transforms=flips, weights=(3, 1), sureness=weighed)
    assert torch.allclose(weighed[0], single[0])  # both views are as sure as each other
