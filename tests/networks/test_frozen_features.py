"""The discriminator on frozen features: what is frozen, what is mixed, what a head computes, which
backbones it takes.
"""

from __future__ import annotations

import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn import functional

from dnnlib.errors import UserError
from networks.discriminators import FrozenFeaturesConfig
from networks.discriminators.frozen_features import RandomMixing, ScaleHead
from networks.layers.virtual_batch_norm import VirtualBatchNorm
from networks.pretrained import hub
from networks.pretrained.efficientnet import efficientnet_features
from networks.pretrained.scales import FrozenScales


def pictures(n=2, side=48):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def discriminator():
    torch.manual_seed(0)
    return FrozenFeaturesConfig(
        resolution=48, input_px=32, channels=(8, 16), sentence_dim=0
    ).build()


def test_scales_are_those_of_the_packaged_tower():
    net, whole = FrozenScales("lite0", 48, 4), efficientnet_features("lite0", 48).trunk
    images = pictures()
    with torch.no_grad():
        x, expected = whole.bn1(whole.conv_stem((images * 127.5 + 0.5) / 128)), []
        for index, block in enumerate(whole.blocks):
            x = block(x)
            if index in (1, 2, 4, 6):
                expected.append(x)
        maps = net(images)
    assert net.channels == (24, 40, 112, 320) and net.sizes == (12, 6, 3, 2)
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    coarse = FrozenScales("lite0", 48, 2)
    assert coarse.channels == (112, 320)


def test_the_frozen_network_is_no_parameter_and_no_state_but_moves_along(discriminator):
    tower = discriminator._tower[0]
    weights = {id(p) for p in tower.parameters()}
    assert weights and not weights & {id(p) for p in discriminator.parameters()}
    assert all(name.split(".")[0] in ("mixing", "heads") for name in discriminator.state_dict())
    discriminator.train().requires_grad_(True)
    assert not any(module.training for module in tower.modules())
    assert not any(p.requires_grad for p in tower.parameters())
    assert not any(p.requires_grad for p in discriminator.mixing.parameters())
    moved = (
        FrozenFeaturesConfig(resolution=48, input_px=32, channels=(8, 16), sentence_dim=0)
        .build()
        .to("meta")
    )
    places = {x.device.type for x in (*moved._tower[0].parameters(), *moved._tower[0].buffers())}
    assert places == {"meta"}


def test_what_is_sensed_depends_on_no_parameter_and_lets_the_gradient_through(discriminator):
    images = pictures().requires_grad_()
    sensed = discriminator.sense(images)
    assert [tuple(x.shape) for x in sensed] == [(2, 8, 2, 2), (2, 16, 1, 1), (2, 3, 48, 48)]
    (gradient,) = torch.autograd.grad(sum(x.square().sum() for x in sensed[:2]), images)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not discriminator.sense(pictures())[0].requires_grad


def test_mixing_is_fixed_by_its_seed_and_follows_its_equation():
    maps = [torch.randn(2, 5, 8, 8), torch.randn(2, 7, 4, 4)]
    torch.manual_seed(1)
    first = RandomMixing((5, 7), (3, 4), seed=0)
    torch.manual_seed(2)
    again, other = RandomMixing((5, 7), (3, 4), seed=0), RandomMixing((5, 7), (3, 4), seed=1)
    state = first.state_dict()
    assert not list(first.parameters()) and set(state) == {"channels0", "channels1", "scales0"}
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(state["scales0"], other.state_dict()["scales0"])
    coarse = torch.einsum("nchw,oc->nohw", maps[1], state["channels1"][:, :, 0, 0])
    up = functional.interpolate(
        functional.conv2d(coarse, state["scales0"], padding=1), (8, 8), mode="bilinear"
    )
    fine = torch.einsum("nchw,oc->nohw", maps[0], state["channels0"][:, :, 0, 0])
    mixed = first(maps)
    torch.testing.assert_close(mixed[1], coarse)
    torch.testing.assert_close(mixed[0], (fine + up) / math.sqrt(2))


def test_a_head_judges_every_position_by_direction_and_text():
    torch.manual_seed(0)
    head = ScaleHead(3, 12, 6, sentence_dim=5, group_size=2, kernels=0)
    hidden, sentence = head.read(torch.randn(4, 3, 12, 12)), torch.randn(4, 5)
    assert hidden.shape == (4, 6, 3, 3)
    logits = head.judge(hidden, sentence).unflatten(1, (3, 3))
    at = hidden[1, :, 2, 0]
    assert head.text is not None
    expected = (
        at @ head.weight / head.weight.norm()
        + head.bias
        + at @ (head.text.weight @ sentence[1]) / math.sqrt(6)
    )
    torch.testing.assert_close(logits[1, 2, 0], expected)


def test_groups_are_normalised_apart():
    x = torch.randn(6, 4, 3, 3)
    norm = VirtualBatchNorm(4, 3)
    norm.weight.data, norm.bias.data = torch.randn(4), torch.randn(4)
    expected = torch.cat(
        [
            functional.batch_norm(part, None, None, norm.weight, norm.bias, training=True)
            for part in x.split(3)
        ]
    )
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)
    # 5 does not divide 6, so groups have 3 samples.
    torch.testing.assert_close(VirtualBatchNorm(4, 5)(x), VirtualBatchNorm(4, 3)(x))


def test_any_timm_network_whose_weights_are_at_hand(tmp_path, monkeypatch):
    name, path = "test_resnet", tmp_path / "model.safetensors"
    torch.manual_seed(0)
    whole = timm.create_model(name)
    save_file(whole.state_dict(), path)
    monkeypatch.setattr(hub, "cached_file", lambda repository, file: str(path))
    net = FrozenScales(name, 64, 3)
    weights, mean = net.net.state_dict(), torch.tensor(timm.get_pretrained_cfg(name).mean)
    assert all(
        torch.equal(value, weights[key])
        for key, value in whole.state_dict().items()
        if key in weights
    )
    torch.testing.assert_close(net.mean.flatten(), mean)
    assert len(net(pictures())) == 3 and net.sizes[-1] == 2
    with pytest.raises(UserError, match=r"discriminator.channels: test_resnet has \d scales"):
        FrozenScales(name, 64, 9)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_mambaout", "test_mambaout gives no maps .N, C, S, S."),  # [N, S, S, C]
        (
            "test_maxvit",
            "test_maxvit does not read pictures of 96 px a side .*discriminator.input_px",
        ),
    ],
)
def test_networks_that_give_no_maps_are_refused(tmp_path, monkeypatch, name, message):
    path = tmp_path / "model.safetensors"
    save_file(timm.create_model(name).state_dict(), path)
    with_weights = timm.get_pretrained_cfg("test_resnet")
    monkeypatch.setattr("timm.models.get_pretrained_cfg", lambda name: with_weights)
    monkeypatch.setattr(hub, "cached_file", lambda repository, file: str(path))
    with pytest.raises(UserError, match=message):
        FrozenScales(name, 96, 3)


def test_missing_backbones_and_weights_are_named(monkeypatch):
    with pytest.raises(
        UserError, match="discriminator.backbone: 'nonet' is neither lite0 nor lite2"
    ):
        FrozenScales("nonet", 64, 2)
    monkeypatch.setattr(hub, "cached_file", lambda repository, file: None)

    def offline():
        raise OSError("HF_HUB_OFFLINE is set")

    monkeypatch.setattr(hub, "check_network", offline)
    with pytest.raises(
        UserError, match="the weights of test_resnet are not in the local cache.*take lite0"
    ):
        FrozenScales("test_resnet", 64, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", ()),
        ("head_channels", 0),
        ("group_size", 0),
        ("input_px", 16),
        ("pixel_channels", -1),
        ("kernels", -1),
    ],
)
def test_bad_fields_are_named(field, value):
    with pytest.raises(UserError, match=f"discriminator.{field}"):
        FrozenFeaturesConfig(**{field: value})
