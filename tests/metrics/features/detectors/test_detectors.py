"""Detectors: fixed weights, one interface, features of the picture alone."""

from typing import Any

import pytest
import torch

from metrics.features.detectors import detector_id, load_detector, weights_sha256
from metrics.features.detectors.lite2 import Lite2Detector

CPU = torch.device("cpu")


def pictures(count=4, size=16, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), generator=stream, dtype=torch.uint8)


@pytest.mark.parametrize("name, width", [("toy", 64), ("lite2", 1280), ("lite2:fine", 1280)])
def test_rows_depend_on_their_picture_only(name, width):
    detector = load_detector(name, CPU)
    images = pictures()
    features = detector(images)
    assert (
        features.shape == (4, width)
        and features.dtype == torch.float32
        and not features.requires_grad
    )
    assert torch.allclose(detector(images[2:3]), features[2:3], atol=1e-4)
    assert not torch.allclose(features[0], features[1], atol=1e-2)


def test_toy_weights_are_pinned():
    expected = "66157d09e0aadb6ed8c6bf005f49d001bbee243ccb143c2ff7943dae11a05934"
    assert load_detector("toy", CPU).weights_sha256 == expected


def test_lite2_weights_are_pinned():
    detector = load_detector("lite2", CPU)
    assert (
        detector.weights_sha256
        == "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    )
    assert detector.weights_sha256 in detector_id(detector) and "128 px" in detector_id(detector)


def test_lite2_fine_sees_detail_that_lite2_does_not():
    """A chequerboard of 256 px is grey at 128 px."""
    coarse, fine = load_detector("lite2", CPU), load_detector("lite2:fine", CPU)
    assert coarse.weights_sha256 == fine.weights_sha256
    assert detector_id(coarse) != detector_id(fine)
    places = torch.arange(256)
    board = ((places[:, None] + places) % 2 * 40 + 108).to(torch.uint8).expand(1, 3, 256, 256)
    grey = torch.full_like(board, 128)
    difference = {
        detector.name: (detector(board) - detector(grey)).norm() / detector(grey).norm()
        for detector in (coarse, fine)
    }
    assert difference["lite2:fine"] > 5 * difference["lite2"], difference


def test_lite2_fine_enlarges_to_256_px_and_never_shrinks():
    fine, seen = Lite2Detector(CPU, fine=True), []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.append(tuple(inputs[0].shape[-2:]))

    fine.net.trunk.register_forward_pre_hook(note)
    for height, width in ((64, 64), (256, 256), (320, 300)):
        fine(torch.zeros(2, 3, height, width, dtype=torch.uint8))
    assert seen == [(256, 256), (256, 256), (300, 300)]


def test_hash_sees_names_values_and_shapes():
    def hash_of(weight, name="weight"):
        module = torch.nn.Module()
        module.register_buffer(name, weight)
        return weights_sha256(module)

    base = hash_of(torch.zeros(2, 3))
    assert base == hash_of(torch.zeros(2, 3))
    assert (
        len(
            {
                base,
                hash_of(torch.zeros(3, 2)),
                hash_of(torch.ones(2, 3)),
                hash_of(torch.zeros(2, 3), "bias"),
            }
        )
        == 4
    )
    assert hash_of(torch.tensor(1.0)) != hash_of(torch.tensor(2.0))


def test_loaded_encoders_are_used_and_pictures_reach_them_in_network_range(encoders):
    detector: Any = load_detector("small-heldout", CPU, encoders)
    assert detector.encoder is encoders["small-heldout"] and detector.encoder_id == "two"
    white = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    assert torch.allclose(
        detector(white), encoders["small-heldout"].encode_image(torch.ones(1, 3, 8, 8))
    )
    captions = [f"caption {i}" for i in range(300)]
    assert torch.equal(
        detector.text(captions), encoders["small-heldout"].encode_text(captions).sentence
    )
