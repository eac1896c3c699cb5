"""LPIPS with a random backbone, against the formula and the authors' package; missing weights."""

import pytest
import torch
from torchvision.models import alexnet

from dnnlib.errors import UserError
from networks.pretrained import lpips as module
from networks.pretrained.lpips import MIN_PX, Lpips


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(
            {f"features.{name}": x for name, x in alexnet().features.state_dict().items()}, path
        )
    return path


@pytest.fixture
def heads(tmp_path, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    tensors = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=rng)
        for i, width in enumerate((64, 192, 384, 256, 256))
    }
    torch.save(tensors, tmp_path / "heads.pth")
    monkeypatch.setattr(module, "package_file", lambda *_: tmp_path / "heads.pth")
    return list(tensors.values())


def pictures(size, seed):
    return torch.rand(
        2, 3, size, size + 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.slow
def test_equation_by_hand(backbone, heads):
    a, b = pictures(64, 0), pictures(64, 1)
    net = alexnet().features.eval()
    net.load_state_dict(
        {
            name.removeprefix("features."): x
            for name, x in torch.load(backbone, weights_only=True).items()
        }
    )
    expected = torch.zeros(2)
    with torch.no_grad():
        x, y = (
            (z.float() - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
            / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
            for z in (a, b)
        )
        weights = iter(heads)
        for layer in net[:12]:
            x, y = layer(x), layer(y)
            if isinstance(layer, torch.nn.ReLU):
                w = next(weights).flatten()
                x_unit, y_unit = (torch.nn.functional.normalize(z, dim=1) for z in (x, y))
                expected += (
                    torch.einsum("nchw,c->nhw", (x_unit - y_unit) ** 2, w).flatten(1).mean(1)
                )
    net = Lpips(backbone)
    assert torch.allclose(net(a, b), expected, rtol=1e-4)
    assert (
        (net(a, a) == 0).all()
        and len(net.weights_sha256) == 64
        and not any(p.requires_grad for p in net.parameters())
    )
    assert net(pictures(MIN_PX, 0), pictures(MIN_PX, 1)).isfinite().all()


def test_equals_the_authors_package(backbone):
    theirs = pytest.importorskip("lpips").LPIPS(net="alex", pnet_rand=True, verbose=False)
    tensors = torch.load(backbone, weights_only=True)
    for part in range(1, 6):
        for number, layer in getattr(theirs.net, f"slice{part}").named_children():
            for name, parameter in layer.named_parameters():
                parameter.data.copy_(tensors[f"features.{number}.{name}"])
    a, b = pictures(64, 0), pictures(64, 1)
    expected = theirs(a.float(), b.float(), normalize=True).flatten()
    assert torch.allclose(Lpips(backbone)(a, b), expected, rtol=1e-4)


def test_what_is_missing_is_named(heads, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        UserError,
        match="alexnet-owt-7be5be79.pth; download https://download.pytorch.org.*"
        "--weights alexnet=FILE",
    ):
        Lpips()
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="other.pth is not torchvision's AlexNet"):
        Lpips(tmp_path / "other.pth")


def test_without_the_package(backbone, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    with pytest.raises(UserError, match="pip install lpips==0.1.4"):
        Lpips(backbone)
