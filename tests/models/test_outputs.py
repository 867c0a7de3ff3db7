"""One place tells what a network returned."""

import segmentation_models_pytorch as smp
import torch

from selftrain.models.outputs import Output, output_of, pixels_of, tensors_of


def test_pixel_logits_are_found_with_and_without_an_image_head():
    pixels, image = torch.zeros(2, 3, 4, 4), torch.zeros(2, 5)
    assert pixels_of(pixels) is pixels_of(Output(pixels)) is pixels_of((pixels, image)) is pixels
    assert output_of((pixels, image)).image is image and output_of(pixels).image is None
    assert tensors_of(Output(pixels)) == [pixels] and len(tensors_of(Output(pixels, image))) == 2


def test_an_image_head_of_smp_is_understood():
    network = smp.create_model(
        "unet", "resnet18", encoder_weights=None, classes=3, aux_params={"classes": 5}
    ).eval()
    with torch.inference_mode():
        found = output_of(network(torch.zeros(2, 3, 32, 32)))
    assert found.pixels.shape == (2, 3, 32, 32) and found.image.shape == (2, 5)
