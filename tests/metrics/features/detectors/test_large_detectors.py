"""Inception and DINOv2 with weights drawn at random: the same function as their origins, and clear
words without weights.
"""

from pathlib import Path

import pytest
import torch

from dnnlib.errors import UserError
from metrics.features.detectors import load_detector
from networks.pretrained import inception

CPU = torch.device("cpu")


def pictures(size=40, count=2):
    return torch.randint(
        0,
        256,
        (count, 3, size, size),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.mark.slow
def test_inception_modes_and_names(random_inception):
    found = {}
    for name in ("inception", "inception:clean", "inception:legacy_pytorch"):
        detector = load_detector(name, CPU, weights={"inception": random_inception})
        found[name] = detector(pictures())
        assert (
            found[name].shape == (2, 2048)
            and found[name].dtype == torch.float32
            and detector.name == name
        )
        assert len(detector.weights_sha256) == 64 and "299 px" in detector.resize
    assert not torch.allclose(found["inception"], found["inception:clean"], rtol=1e-2)
    assert not torch.allclose(found["inception"], found["inception:legacy_pytorch"], rtol=1e-2)


def test_inception_is_torch_fidelitys(random_inception):
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    net = theirs.FeatureExtractorInceptionV3(
        "x", ["2048"], feature_extractor_weights_path=str(random_inception)
    )
    ours = load_detector("inception", CPU, weights={"inception": random_inception})
    assert torch.allclose(ours(pictures()), net(pictures())[0], rtol=1e-6, atol=1e-6)


def test_inception_pools_without_padding():
    block = inception._BlockA(8, 4).eval()
    flat = torch.ones(1, 8, 6, 6)
    pooled = block._forward(flat)[-1]
    assert torch.allclose(
        pooled, pooled[..., 2:3, 2:3].expand_as(pooled)
    )  # a border that counted padding would differ


def test_weights_are_looked_for_where_others_keep_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    with pytest.raises(
        UserError,
        match="weights-inception-2015-12-05-6726825d.pth is missing and "
        "https://github.com/.*copy it to",
    ):
        load_detector("inception", CPU)
    (folder / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="pt_inception.* is damaged or another file"):
        load_detector("inception", CPU)
    monkeypatch.setattr(
        inception, "SHA256", "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"[:8]
    )
    assert (
        inception.find_weights() == folder / "pt_inception-2015-12-05-6726825d.pth"
    )  # sha256 of b"other"


def test_files_that_hold_something_else(tmp_path):
    (tmp_path / "text.pth").write_text("no")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    for name, complaint in (
        ("text.pth", "not a checkpoint of plain tensors"),
        ("other.pth", "does not hold the Inception-v3"),
    ):
        with pytest.raises(UserError, match=complaint):
            load_detector("inception", CPU, weights={"inception": tmp_path / name})
    with pytest.raises(UserError, match="no such file"):
        load_detector("inception", CPU, weights={"inception": tmp_path / "none.pth"})
    with pytest.raises(UserError, match="unknown; did you mean 'inception:clean'"):
        load_detector("inception:clear", CPU)
    with pytest.raises(UserError, match="did you mean 'inception'"):
        load_detector("inceptoin", CPU)


@pytest.mark.slow
def test_dinov2_gives_the_class_token_of_a_local_file(tmp_path):
    import timm
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(
            "vit_small_patch14_dinov2", pretrained=False, num_classes=0, img_size=224
        ).eval()
    save_file(net.state_dict(), tmp_path / "dinov2.safetensors")
    detector = load_detector(
        "dinov2:small", CPU, weights={"dinov2": tmp_path / "dinov2.safetensors"}
    )
    images = pictures(224)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        expected = net.forward_features((images / 255 - mean) / std)[:, 0]
    assert torch.allclose(detector(images), expected, atol=1e-4) and detector(
        pictures(32)
    ).shape == (2, 384)
    assert len(detector.weights_sha256) == 64
    with pytest.raises(UserError, match="does not hold vit_base_patch14_dinov2"):
        load_detector("dinov2:base", CPU, weights={"dinov2": tmp_path / "dinov2.safetensors"})


def test_dinov2_without_weights_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr("networks.pretrained.hub.cached_file", lambda *_: None)
    with pytest.raises(
        UserError,
        match="model.safetensors of timm/vit_large_patch14_dinov2.lvd142m .*--weights dinov2=FILE",
    ):
        load_detector("dinov2", CPU)


def test_a_local_file_replaces_the_tag_of_an_open_clip_detector(tmp_path):
    missing = Path(tmp_path / "none.pt")
    with pytest.raises(UserError, match="none.pt"):
        load_detector(
            "open_clip:ViT-B-32-quickgelu/openai",
            CPU,
            weights={"open_clip:ViT-B-32-quickgelu/openai": missing},
        )
