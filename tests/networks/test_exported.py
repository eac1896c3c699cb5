"""Exported networks: equal to PyTorch for every size, whole or absent, refused by name."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dnnlib.errors import UserError
from explorer import web_runtime
from export import main
from networks import export_formats
from networks.coordinates import View
from networks.exported import ExportedNetwork, _ModulatedLinear
from networks.generators import preset
from networks.interfaces import TextFeatures
from networks.layers import mapping
from networks.layers.modulated import ModulatedLinear
from networks.sampling import iterate_images
from networks.snapshot import Snapshot

LENGTH = 6
SMALL = replace(
    preset("eidgan-tiny"), channels=(16,), refinement=(8,), decoder_hidden=(), text_noise=0.5
)


def built(config):
    """A generator whose spectral modulations do something, unlike those of an untrained one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = config.build().eval().requires_grad_(False)
        for name, parameter in generator.named_parameters():
            if "spectral" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return generator


def inputs_of(generator, batch, length=LENGTH):
    """Latents, and text of which the last words are masked."""
    config, draws = generator.config, torch.Generator().manual_seed(1)
    sentence, words, z = (
        torch.randn(batch, *shape, generator=draws)
        for shape in ([config.sentence_dim], [length, config.word_dim], generator.latent_shape)
    )
    mask = torch.arange(length) < torch.arange(1, batch + 1)[:, None]
    return z, TextFeatures(sentence, words, mask) if generator.reads_text else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "network-snapshot-000001"
    Snapshot(built(SMALL), "hashed", 12, encoder_id="hashed-64-v1").save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def program(folder):
    return export_formats.trace(ExportedNetwork(Snapshot.from_pretrained(folder).generator), LENGTH)


@pytest.fixture
def traced(program, monkeypatch):
    """The command with the tracing, which takes seconds, done once for all tests."""
    monkeypatch.setattr(export_formats, "trace", lambda network, prompt_length: program)


def invoke(*arguments, code=0):
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    assert code == 0 or done.stderr.splitlines()[-1].startswith("Error: ")
    return done


@pytest.mark.parametrize("channels", [8, 9])
@pytest.mark.parametrize("spectral", [True, False])
@pytest.mark.parametrize("demodulate", [True, False])
def test_a_layer_without_complex_numbers_is_the_same_layer(channels, spectral, demodulate):
    torch.manual_seed(0)
    layer = ModulatedLinear(
        channels, 5, 4, spectral=spectral, demodulate=demodulate, activate=demodulate
    )
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    for x in (torch.randn(3, 7, channels), torch.randn(7, channels)):
        y = torch.randn(3, 4)
        torch.testing.assert_close(_ModulatedLinear(layer)(x, y), layer(x, y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, samples=2),
        replace(preset("creps-tiny"), convention="endpoints", sentence_dim=0),
    ],
    ids=["eidgan", "eidgan-samples", "creps"],
)
def test_the_graph_of_coordinates_draws_what_the_generator_draws(config):
    generator = built(config)
    network, (z, text) = ExportedNetwork(generator), inputs_of(generator, 2)
    convention = getattr(config, "convention", "centers")
    view = View(height=7, width=5, box=(-0.2, 0.1, 0.9, 1.4), convention=convention)
    found = network(*network.inputs(z, text, view).values())
    torch.testing.assert_close(found, generator(z, text, view), rtol=1e-4, atol=1e-4)


def test_masked_words_of_zeros_need_no_epsilon(monkeypatch):
    """Optimisers of graphs drop the 1e-8 of `unit_second_moment`."""

    def without_epsilon(x):
        return x * x.square().mean(dim=-1, keepdim=True).rsqrt()

    generator = built(SMALL)
    network, (z, text) = ExportedNetwork(generator), inputs_of(generator, 2)
    text = replace(text, words=text.words * text.mask.unsqueeze(2))
    view = View(height=5, width=4)
    expected = generator(z, text, view)
    monkeypatch.setattr(mapping, "unit_second_moment", without_epsilon)
    assert generator(z, text, view).isnan().any()
    found = network(*network.inputs(z, text, view).values())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_check_fills_prompts_up_with_zeros(folder):
    generator = Snapshot.from_pretrained(folder).generator
    network, seen = ExportedNetwork(generator), []

    def run(inputs):
        seen.append(inputs["words"][~inputs["mask"]])
        return network(*inputs.values())

    export_formats.deviation(run, network, generator, LENGTH, 12)
    assert len(torch.cat(seen)) > 0 and not torch.cat(seen).any()


@pytest.mark.parametrize("name", ["cips", "inrgan", "stylegan2", "vqcgan", "quantized"])
def test_other_systems_are_refused_by_name(name):
    with pytest.raises(UserError, match=f"kind {name} cannot be exported.*: eidgan and creps"):
        ExportedNetwork(built(preset(f"{name}-tiny")))


@pytest.mark.slow
def test_a_program_draws_every_number_and_size(folder, traced, tmp_path):
    out = tmp_path / "small.pt2"
    prompt = ("--prompt", "a red apple", "--prompt-length", LENGTH)
    done = invoke("--network", folder, "--format", "torch-export", "--out", out, *prompt)
    assert done.stdout.splitlines() == [str(out), str(tmp_path / "small.npz")]
    assert "Largest difference from PyTorch" in done.stderr

    snapshot = Snapshot.from_pretrained(folder)
    generator, run = snapshot.generator, export_formats.open_program(out)
    for batch, height, width in ((1, 1, 33), (3, 16, 16)):
        view = View(height=height, width=width, box=(-0.5, 0.25, 0.75, 2))
        z, text = inputs_of(generator, batch)
        found = run(ExportedNetwork(generator).inputs(z, text, view))
        torch.testing.assert_close(found, generator(z, text, view), rtol=1e-4, atol=1e-4)

    facts = export_formats.read_metadata(out, "torch-export")
    assert facts["network_sha256"] == snapshot.sha256 and facts["prompt_length"] == str(LENGTH)
    assert facts["inputs"] == "z,sentence,words,mask,rows,columns"
    with np.load(tmp_path / "small.npz") as file:
        stored = {name: torch.from_numpy(file[name]) for name in file.files}
    assert stored["words"].shape == (1, LENGTH, 64) and stored["mask"].sum() == 4
    (drawn,) = iterate_images(  # as generate.py does
        generator, snapshot.load_encoder(), ["a red apple"], [0], View.square(12)
    )
    torch.testing.assert_close(run(stored)[0], drawn.image, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_program_takes_the_points_of_each_pixel():
    network = ExportedNetwork(generator := built(replace(SMALL, samples=2)))
    module = export_formats.trace(network, LENGTH).module()

    def run(inputs):
        with torch.no_grad():
            return module(*inputs.values())

    difference = export_formats.deviation(run, network, generator, LENGTH, 32)
    assert difference < export_formats.TOLERANCE


@pytest.mark.slow
def test_a_file_that_differs_is_not_kept(folder, traced, tmp_path, monkeypatch):
    monkeypatch.setattr(export_formats, "TOLERANCE", 0.0)
    monkeypatch.setattr(export_formats, "deviation", lambda *arguments: 1e-3)
    out = tmp_path / "small.pt2"
    done = invoke("--network", folder, "--format", "torch-export", "--out", out, code=1)
    assert "differs from PyTorch by 1.0e-03" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_check_sees_another_network(folder):
    generator = Snapshot.from_pretrained(folder).generator
    network, other = ExportedNetwork(generator), ExportedNetwork(built(replace(SMALL, bandwidth=1)))
    compared = (network, generator, LENGTH, 12)

    def run(inputs):
        return network(*inputs.values())

    assert export_formats.deviation(run, *compared) < 1e-5
    assert export_formats.deviation(lambda inputs: other(*inputs.values()), *compared) > 0.01
    assert export_formats.deviation(lambda inputs: run(inputs) * torch.nan, *compared) == np.inf
    assert export_formats.deviation(lambda inputs: run(inputs)[:1, :, 1:], *compared) == np.inf


def test_bad_input_is_one_line(folder, tmp_path):
    def refused(*options, network=folder, format_="torch-export", out="x.pt2"):
        line = ("--network", network, "--format", format_, "--out", tmp_path / out, *options)
        return invoke(*line, code=1).stderr

    assert "--prompt has 4 tokens" in refused("--prompt", "a red apple", "--prompt-length", 3)
    assert ".npz is the ending of the inputs" in refused(out="x.npz")
    (tmp_path / "foreign.pt2").write_text("a letter")
    assert "is no file that export.py --format torch-export wrote" in refused(out="foreign.pt2")
    np.savez(tmp_path / "letters.npz", a=np.zeros(3))
    assert "letters.npz holds no inputs" in refused("--prompt", "a", out="letters.pt2")
    bare = tmp_path / "bare"
    Snapshot(built(replace(SMALL, sentence_dim=0, word_dim=0)), "", 12).save_pretrained(bare)
    assert "was trained without text" in refused("--prompt", "a", network=bare)
    assert "does not exist" in refused(network=tmp_path / "nothing")


def test_a_missing_package_is_named(folder, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    missing = {"onnxruntime"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else real(name)
    )
    line = ("--network", folder, "--format", "onnx", "--out", tmp_path / "x.onnx")
    missing |= {"onnx", "onnxscript"}
    assert "pip install onnx onnxscript onnxruntime" in invoke(*line, code=1).stderr
    assert invoke(*line, "--no-check", code=1).stderr.endswith("pip install onnx onnxscript\n")


@pytest.mark.slow
def test_onnx_is_computed_by_onnxruntime(folder, traced, tmp_path):
    onnx = pytest.importorskip("onnx", reason="ONNX is optional: requirements-optional.txt")
    pytest.importorskip("onnxruntime", reason="ONNX is optional: requirements-optional.txt")
    pytest.importorskip("onnxscript", reason="ONNX is optional: requirements-optional.txt")
    out = tmp_path / "small.onnx"
    line = ("--network", folder, "--format", "onnx", "--out", out, "--prompt-length", LENGTH)
    done = invoke(*line)
    assert "Largest difference from PyTorch" in done.stderr
    model = onnx.load(out)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [
        ("", export_formats.OPSET)
    ]
    assert not {"DFT", "Loop", "If"} & {node.op_type for node in model.graph.node}
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["words"] == ["batch", LENGTH, 64]
    assert shapes["image"] == ["batch", 3, "height", "width"]
    assert export_formats.read_metadata(out, "onnx")["opset"] == "18"
    (tmp_path / "foreign.onnx").write_text("a letter")
    assert (
        "is no file that export.py"
        in invoke(*line[:4], "--out", tmp_path / "foreign.onnx", code=1).stderr
    )


@pytest.mark.parametrize("out", [".", "/", ".."])
def test_a_folder_is_no_name_for_a_graph(folder, out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ("--network", folder, "--format", "torch-export", "--no-check", "--out", out)
    assert "name another place" in invoke(*line, code=1).stderr


def test_bad_input_for_a_page_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(export_formats, "require", lambda format, check: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(web_runtime.shutil, "which", lambda name: None)

    def refused(*options, network=folder, format_="html", out="page"):
        line = ("--network", network, "--format", format_, "--out", tmp_path / out, *options)
        return invoke(*line, code=1).stderr

    for option, value in (("--prompt", "a red apple"), ("--prompt-length", 77)):
        assert f"{option}: is for the other formats; for html give" in refused(option, value)
    for option in (["--prompts", "x"], ["--prompts-file", "x"], ["--runtime", "x"]):
        line = refused(*option, format_="torch-export")
        assert f"{option[0]}: is for --format html only" in line
    for option in ("--free-text", "--no-free-text"):
        line = refused(option, format_="onnx")
        assert "--free-text/--no-free-text: is for --format html only" in line
    assert "no prompt; give --prompts" in refused()
    assert "npm is not installed here" in refused("--prompts", "a red apple")
    other = tmp_path / "other.tgz"
    other.write_bytes(b"x")
    assert "SHA-512" in refused("--prompts", "a red apple", "--runtime", other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear reader")
    assert "holds letter.txt and no graphs/facts.json" in refused(out="mine")
    bare = tmp_path / "bare"
    Snapshot(built(replace(SMALL, sentence_dim=0, word_dim=0)), "", 12).save_pretrained(bare)
    assert "was trained without text" in refused("--prompts", "a", network=bare)
    cips = tmp_path / "cips"
    Snapshot(built(preset("cips-tiny")), "hashed", 12).save_pretrained(cips)
    assert "kind cips cannot be exported" in refused("--prompts", "a", network=cips)
