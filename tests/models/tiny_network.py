"""A small network, files of weights, and what is read of them."""

import torch
from safetensors.torch import save_file

from selftrain.models.build import build
from selftrain.models.foreign import import_weights
from selftrain.models.weights import encoder_names, load_weights

TINY = {"classes": 3, "decoder_channels": [32, 16, 16, 8]}
ENCODER = "tu-resnet10t"


def tiny():
    return build("unet", ENCODER, **TINY)


def save(path, tensors):
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


def load(network, path, **settings):
    return load_weights(
        network, path, whose="generation 3 (encoder=x)", remedy="generations.3.encoder=y", **settings
    )


def bring_in(source, target, network, encoder=ENCODER):
    return import_weights(source, target, network, arch="unet", encoder=encoder)


def same_encoders(one, other):
    theirs = other.state_dict()
    return all(torch.equal(one.state_dict()[name], theirs[name]) for name in encoder_names(one))


def without_counters(tensors):
    return {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
