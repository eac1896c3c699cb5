from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from configs import recipe
from dnnlib.errors import UserError
from networks.discriminators import FrozenFeaturesConfig
from networks.generators import preset
from networks.interfaces import TextFeatures
from tests.networks.sizes import SMALL_FROZEN
from torch_utils.training_stats import Collector
from training import losses
from training.augment import NUM_UNIFORMS, Augmentation
from training.config import AugmentConfig
from training.gan_loss import GanLoss
from training.loss_config import LossConfig
from training.micro_batch import MicroBatch


def text(n, width, seed=0):
    g = torch.Generator().manual_seed(seed)
    return TextFeatures(
        torch.randn(n, width, generator=g),
        torch.randn(n, 5, width, generator=g),
        torch.ones(n, 5, dtype=torch.bool),
    )


def parts(**loss):
    """Networks of the debug recipe without augmentation, and a micro batch of 4."""
    torch.manual_seed(0)
    config = recipe("debug")
    generator, discriminator = config.generator.build(), config.discriminator.build()
    augment = Augmentation(AugmentConfig(mode="noaug"), "cpu")
    gan = GanLoss(
        generator, discriminator, None, augment, LossConfig(**loss), 32, Collector(), "fp32"
    )
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return gan, MicroBatch(images, text(4, 64), slice(0, 4), 4, (0, "step", 0, 0))


def test_logistic_losses_in_closed_form():
    logits = torch.tensor([0.0, 2.0])
    assert losses.logistic_real(logits).item() == pytest.approx(
        (math.log(2) + math.log1p(math.exp(-2))) / 2
    )
    assert losses.logistic_fake(logits).item() == pytest.approx(
        (math.log(2) + 2 + math.log1p(math.exp(-2))) / 2
    )


def test_hinge_losses_in_closed_form():
    logits = torch.tensor([[0.5, 3.0], [-2.0, 0.0]])
    hinge = losses.ADVERSARIAL["hinge"]
    assert hinge.real(logits).item() == pytest.approx((0.5 + 0 + 3 + 1) / 4)
    assert hinge.fake(logits).item() == pytest.approx((1.5 + 4 + 0 + 1) / 4)
    assert hinge.generator(logits).item() == pytest.approx(-1.5 / 4)


def frozen_parts(augment, *, keep_fakes, **loss):
    """Small networks with a discriminator on frozen features under the hinge loss."""
    torch.manual_seed(0)
    generator = preset("eidgan-tiny").build()
    discriminator = FrozenFeaturesConfig(resolution=32, sentence_dim=64, **SMALL_FROZEN).build()
    config = LossConfig(adversarial="hinge", shared_fakes=True, r1_gamma=0.0, mismatch=1.0, **loss)
    return GanLoss(
        generator,
        discriminator,
        None,
        augment,
        config,
        32,
        Collector(),
        "fp32",
        keep_fakes=keep_fakes,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("imle", "expected"), [(0.0, [(2, 3), (1, 2)]), (0.5, [(4, 4), (2, 2)])])
def test_one_pass_for_both_players_equals_two_passes_with_the_same_draws(imle, expected):
    """Compare the gradients of D and G, with a step of D in between and augmentation on.

    If the fakes are kept, G runs once, and the frozen network once for fakes. IMLE adds a pass of
    G to each draw of fakes. `expected` counts the passes of G's mapping and of the frozen network.
    """
    augment = Augmentation(AugmentConfig(mode="fixed", p=0.7), "cpu")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    micro = MicroBatch(images, text(4, 64), slice(0, 4), 4, (0, "step", 0, 0))
    gradients, passes = [], []
    for keep_fakes in (False, True):
        gan = frozen_parts(augment, keep_fakes=keep_fakes, imle=imle)
        runs: list[int] = []
        gan.generator.mapping_network.register_forward_hook(lambda *_, runs=runs: runs.append(0))
        gan.discriminator._tower[0].register_forward_hook(lambda *_, runs=runs: runs.append(1))
        weights_d, weights_g = (
            list(net.parameters()) for net in (gan.discriminator, gan.generator)
        )
        of_d = torch.autograd.grad(gan.discriminator_loss(micro, regularise=False)[0], weights_d)
        for parameter, gradient in zip(weights_d, of_d, strict=True):
            parameter.data -= 0.1 * gradient
        of_g = torch.autograd.grad(gan.generator_loss(micro)[0], weights_g)
        gradients.append([*of_d, *of_g])
        passes.append((runs.count(0), runs.count(1)))
    assert passes == expected
    largest = max(gradient.abs().max() for gradient in gradients[0])
    assert largest > 1e-3
    difference = max((once - twice).abs().max() for twice, once in zip(*gradients, strict=True))
    assert difference < 1e-5 * largest


def test_feature_distance_in_closed_form():
    fakes = [torch.zeros(4, 2, 3, 3), torch.ones(4, 5, 1, 1)]
    reals = [torch.ones(4, 2, 3, 3), torch.zeros(4, 5, 1, 1)]
    reals[0][::2] = 3.0  # mean squared differences: 9 at even rows; the variance is 1 (72 values)
    reals[1][1::2] = 2.0  # 1 at even rows; the variance is 1 (20 values)
    even = losses.feature_distance(fakes, reals, slice(0, None, 2))
    assert even.item() == pytest.approx((9 * 71 / 72 + 1 * 19 / 20) / 2 * (2 / 4))


def test_gradient_penalties_on_frozen_features_are_refused():
    config = recipe("eidgan-flowers64")
    for name in ("r1_gamma", "matching_aware_gp"):
        message = f"loss.{name}: a gradient penalty on frozen features.*set loss.{name}=0"
        with pytest.raises(UserError, match=message):
            replace(config, loss=replace(config.loss, **{name: 1.0}))


def test_r1_gradients_equal_a_hand_written_step():
    """R1 adds gamma/2 * interval * d/dtheta mean |grad_x D|^2 to D's gradient."""
    gan, micro = parts(r1_gamma=3.0, r1_interval=4)
    parameters = list(gan.discriminator.parameters())

    def gradients(loss):
        return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)

    plain = gradients(gan.discriminator_loss(micro, regularise=False)[0])
    full = gradients(gan.discriminator_loss(micro, regularise=True)[0])
    images = micro.images.clone().requires_grad_(True)
    logits = gan.discriminator(images, micro.text).logits
    in_images = torch.autograd.grad(logits.sum(), images, create_graph=True)[0]
    by_hand = gradients(3.0 / 2 * 4 * (in_images**2).sum() / 4)
    largest = max(g.abs().max() for g in by_hand)
    assert largest > 1e-3
    for with_r1, without, r1 in zip(full, plain, by_hand, strict=True):
        assert (with_r1 - without - r1).abs().max() < 1e-4 * largest


def test_r1_of_a_linear_discriminator_is_its_weight_norm():
    weight = torch.randn(3, 8, 8)
    images = torch.randn(5, 3, 8, 8, requires_grad=True)
    assert losses.r1_penalty((images * weight).sum(dim=(1, 2, 3)), images).item() == pytest.approx(
        weight.square().sum().item(), rel=1e-5
    )


def test_matching_aware_penalty_of_a_linear_discriminator():
    images = torch.randn(2, 1, 2, 2, requires_grad=True)
    sentence = torch.randn(2, 3, requires_grad=True)
    logits = 0.5 * images.flatten(1).sum(dim=1) + 2 * sentence[:, 0]
    assert losses.matching_aware_penalty(logits, images, sentence).item() == pytest.approx(
        (1 + 2) ** 6, rel=1e-5
    )


def test_path_length_of_a_linear_generator():
    """For G(w) = A w the length is |A^T y|."""
    tokens = torch.randn(2, 1, 4, requires_grad=True)
    matrix = torch.randn(3 * 2 * 2, 4)
    images = (tokens[:, 0] @ matrix.T).view(2, 3, 2, 2)
    noise = torch.randn(2, 3, 2, 2)
    expected = (noise.flatten(1) / 2 @ matrix).norm(dim=1)
    torch.testing.assert_close(losses.path_lengths(images, tokens, noise), expected)


def test_info_nce_against_its_definition():
    candidates, anchors = torch.randn(4, 6), torch.randn(4, 6)
    a, b = (x / x.norm(dim=1, keepdim=True) for x in (candidates, anchors))
    expected = 0.0
    for i in range(4):
        scores = torch.stack([(a[j] * b[i]).sum() for j in range(4)]) / 0.2
        expected -= (scores[i] - scores.logsumexp(dim=0)) / 4
    assert losses.info_nce(candidates, anchors, 0.2).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_mismatch_uses_the_texts_of_other_pictures():
    gan, micro = parts(mismatch=1.0, r1_gamma=0.0)
    loss, _ = gan.discriminator_loss(micro, regularise=False)
    hidden = gan.discriminator.trunk(micro.images)
    real, wrong = (
        gan.discriminator.judge(hidden, t).logits for t in (micro.text, micro.text.roll(1))
    )
    codes = gan.codes(micro, "z-d")
    fake = gan.discriminator(gan.generator.synthesis(codes, gan.view), micro.text).logits
    expected = (
        losses.logistic_real(real) + (losses.logistic_fake(fake) + losses.logistic_fake(wrong)) / 2
    )
    torch.testing.assert_close(loss, expected)


def test_style_mixing_swaps_a_tail_of_codes():
    gan, micro = parts(style_mixing=1.0)
    mixed = gan.codes(micro, "z").tokens
    first = gan.generator.mapping(micro.normal("z", gan.generator.latent_shape), micro.text).tokens
    second = gan.generator.mapping(
        micro.normal("z-mix", gan.generator.latent_shape), micro.text
    ).tokens
    for i in range(4):
        kept = [torch.equal(a, b) for a, b in zip(mixed[i], first[i], strict=True)]
        cut = kept.index(False)
        assert cut > 0  # the first code is of the first latent
        assert kept == [True] * cut + [False] * (len(kept) - cut)
        assert torch.equal(mixed[i, cut:], second[i, cut:])


@pytest.mark.parametrize("seed", range(3))
def test_augmentation_at_zero_is_the_identity_and_at_one_differentiable(seed):
    images = torch.rand(
        4, 3, 16, 16, generator=torch.Generator().manual_seed(seed)
    ).requires_grad_()
    uniforms = torch.rand(4, NUM_UNIFORMS, generator=torch.Generator().manual_seed(seed))
    off = Augmentation(AugmentConfig(mode="fixed", p=0.0), "cpu")
    assert off(images, pytest.fail) is images  # no random number is drawn
    on = Augmentation(AugmentConfig(mode="fixed", p=1.0, rotation=0.1), "cpu")
    augmented = on(images, lambda width: uniforms)
    assert augmented.shape == images.shape and not torch.allclose(augmented, images)
    (gradient,) = torch.autograd.grad(augmented.square().sum(), images)
    assert (gradient.flatten(1).abs().sum(dim=1) > 0).all()


def test_flip_alone_mirrors_and_brightness_alone_shifts():
    images = torch.rand(8, 3, 16, 16)
    none = {
        "mode": "fixed",
        "p": 1.0,
        "flip": False,
        "translation": 0,
        "scale": 0,
        "rotation": 0,
        "brightness": 0,
        "contrast": 0,
        "saturation": 0,
        "cutout": 0,
    }
    uniforms = torch.rand(8, NUM_UNIFORMS)
    flip = Augmentation(AugmentConfig(**none | {"flip": True}), "cpu")
    flipped = flip(images, lambda width: uniforms)
    for image, out, draw in zip(images, flipped, uniforms[:, 1], strict=True):
        torch.testing.assert_close(out, image.flip(-1) if draw < 0.5 else image, atol=1e-5, rtol=0)
    brighten = Augmentation(AugmentConfig(**none | {"brightness": 0.3}), "cpu")
    shift = brighten(images, lambda width: uniforms) - images
    assert (shift.flatten(1).std(dim=1) < 1e-5).all() and 0.01 < shift.abs().max() <= 0.3 + 1e-5


def test_whole_pixels_are_moved_and_not_blurred():
    images = torch.rand(8, 3, 16, 12)
    none = {
        "mode": "fixed",
        "p": 1.0,
        "flip": False,
        "scale": 0,
        "rotation": 0,
        "brightness": 0,
        "contrast": 0,
        "saturation": 0,
        "cutout": 0,
    }
    uniforms = torch.rand(8, NUM_UNIFORMS)
    augment = Augmentation(AugmentConfig(**none, translation=0.25, whole_pixels=True), "cpu")
    moved = augment(images, lambda width: uniforms)
    shifts = set()
    for image, out, draw in zip(images, moved, uniforms, strict=True):
        x, y = (round(((draw[i] * 2 - 1) * 0.25 * side).item()) for i, side in ((1, 12), (2, 16)))
        padded = torch.nn.functional.pad(image, (4, 4, 4, 4), mode="constant")
        inner = padded[:, 4 + y : 20 + y, 4 + x : 16 + x]
        inside = inner != 0  # the picture is mirrored beyond its edges
        assert torch.equal(out[inside], inner[inside])
        shifts.add((x, y))
    assert len(shifts) > 4


def test_ada_moves_p_towards_its_target():
    augment = Augmentation(AugmentConfig(mode="ada", kimg=1.0, interval=2, target=0.6), "cpu")
    for step in range(1, 5):
        augment.observe(torch.ones(8))
        augment.adapt(step * 8, 8)
    assert augment.p == pytest.approx(2 * 8 * 2 / 1000)
    state = augment.state_dict()
    for step in range(5, 7):
        augment.observe(-torch.ones(8))
        augment.adapt(step * 8, 8)
    assert augment.p == pytest.approx(8 * 2 / 1000)
    augment.load_state_dict(state)
    assert augment.p == pytest.approx(2 * 8 * 2 / 1000)


class TinyTowers:
    """A frozen dual encoder: random projections of the pooled picture and of the sentence."""

    id, sentence_dim, word_dim = "tiny", 64, 64

    def __init__(self):
        self.projection = torch.randn(64, 48, generator=torch.Generator().manual_seed(2))

    def encode_text(self, captions):
        return text(len(captions), 64)

    def encode_image(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ self.projection.T


def test_image_losses_reach_the_players_they_are_for():
    """ConD moves D's feature head and trunk, ConG moves G; neither exists at weight 0."""
    torch.manual_seed(0)
    config = recipe("debug")
    discriminator: Any = config.discriminator.with_io(32, 64, 64).build()
    generator = config.generator.build()
    augment = Augmentation(AugmentConfig(mode="noaug"), "cpu")
    loss_config = LossConfig(r1_gamma=0.0, cond=1.0, cong=1.0, cong_interval=4)
    gan = GanLoss(
        generator, discriminator, TinyTowers(), augment, loss_config, 32, Collector(), "fp32"
    )
    micro = MicroBatch(torch.rand(4, 3, 32, 32), text(4, 64), slice(0, 4), 4, (0, "step", 0, 0))
    with_d, _ = gan.discriminator_loss(micro, regularise=False)
    with_g, between = gan.generator_loss(micro)[0], gan.generator_loss(micro, contrast=False)[0]
    means = gan.collector.flush()
    gan.config = LossConfig(r1_gamma=0.0)
    without_d, _ = gan.discriminator_loss(micro, regularise=False)
    assert with_d.item() - without_d.item() == pytest.approx(means["Loss/ConD"], rel=1e-4)
    assert between.item() == gan.generator_loss(micro)[0].item()
    assert with_g.item() - between.item() == pytest.approx(4 * means["Loss/ConG"], rel=1e-4)
    expected = losses.info_nce(
        discriminator(micro.images, micro.text).features,
        TinyTowers().encode_image(micro.images),
        0.1,
    )
    assert means["Loss/ConD"] == pytest.approx(expected.item(), rel=1e-5)
    with_d.backward()
    assert discriminator.head.features.weight.grad.abs().max() > 0
    generator.zero_grad()
    discriminator.requires_grad_(False)
    with_g.backward()
    assert all(p.grad is not None for p in generator.parameters())
