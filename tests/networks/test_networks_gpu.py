"""Networks on a GPU: results equal to the CPU's, CUDA graphs, memory of large pictures."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from networks.coordinates import View
from networks.discriminators import DISCRIMINATORS
from networks.generators import PRESETS, preset
from networks.interfaces import TextFeatures
from networks.sampling import render_tiled
from torch_utils.precision import no_tf32

pytestmark = pytest.mark.gpu


def text_of(num, sentence_dim=64, word_dim=64, seed=1):
    g = torch.Generator().manual_seed(seed)
    return TextFeatures(
        torch.randn(num, sentence_dim, generator=g),
        torch.randn(num, 5, word_dim, generator=g),
        torch.arange(5) <= torch.arange(num)[:, None] + 1,
    )


def assert_same(actual, expected, tolerance=1e-3):
    """Error norm over the tensor's norm, or over 1/1000 of the largest norm if that is more."""
    largest = max(value.norm() for value in expected)
    for a, e in zip(actual, expected, strict=True):
        assert (a.cpu() - e).norm() <= tolerance * max(e.norm(), 1e-3 * largest)


def gradients(value, network):
    """The gradient of every parameter; zero where the value does not depend on it."""
    parameters = list(network.parameters())
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if grad is None else grad
        for p, grad in zip(parameters, found, strict=True)
    ]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-tiny")])
def test_pictures_and_gradients_equal_the_cpus(name):
    torch.manual_seed(0)
    network = preset(name).build()
    z, text, results = torch.randn(3, *network.latent_shape), text_of(3), []
    for device in ("cpu", "cuda"):
        own, told = copy.deepcopy(network).to(device), text.to(device)
        with no_tf32():
            image = own(z.to(device), told, View.square(32))
            grads = gradients(image.square().mean(), own)
            with torch.no_grad():
                drawn = own(z.to(device), told, View.square(32))
        results.append([image.detach(), drawn, *grads])
    assert_same(results[1], results[0])


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_verdicts_and_r1_equal_the_cpus(name):
    torch.manual_seed(0)
    network = DISCRIMINATORS[name](resolution=32, channel_base=512, sentence_dim=64).build()
    images, text, results = torch.randn(4, 3, 32, 32), text_of(4), []
    for device in ("cpu", "cuda"):
        own, x = copy.deepcopy(network).to(device), images.to(device).requires_grad_()
        with no_tf32():
            logits = own(x, text.to(device)).logits
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
            second = gradients(gradient.square().sum(), own)
        results.append([logits.detach(), gradient.detach(), *second])
    assert_same(results[1], results[0])


def small_generator():
    torch.manual_seed(0)
    network = preset("eidgan-small").build().cuda().eval()
    return (
        network,
        torch.randn(2, *network.latent_shape, device="cuda"),
        text_of(2, 256, 384).to("cuda"),
    )


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
