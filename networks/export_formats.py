"""The files that `export.py` writes: ONNX, and programs of torch.export (.pt2).

onnx, onnxscript and onnxruntime are optional. They are imported only here and only when used.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from dnnlib.errors import UserError, library_errors
from dnnlib.ownership import Rule
from networks.coordinates import View
from networks.exact_waves import replace_waves
from networks.exported import ExportedNetwork
from networks.exported_parts import Graph
from networks.interfaces import Generator, TextFeatures
from torch_utils.ops.backend import using

Format = Literal["onnx", "torch-export", "html"]
Runner = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]

OPSET = 18  # has every operator that a network needs; LayerNormalization exists since opset 17
TOLERANCE = 1e-4
MARK = "eidgan"  # key of the metadata that says which version wrote a file
_EXTRA = "eidgan.json"  # the metadata inside a .pt2 file
_EXAMPLE_PX = (6, 5)  # height and width of the example that is traced; any other size will do


def require(format: Format, *, check: bool) -> None:
    """Raises `UserError` that names the missing packages of a format, or of its check."""
    if format == "torch-export":
        return
    wanted = ["onnx", "onnxscript", *(["onnxruntime"] if check else [])]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        reason = " (or skip the check: --no-check)" if missing == ["onnxruntime"] else ""
        raise UserError(
            f"--format {format} needs packages that are not installed; run: "
            f"pip install {' '.join(missing)}{reason}"
        )


def trace(network: ExportedNetwork, prompt_length: int) -> torch.export.ExportedProgram:
    """The graph for any number of pictures, rows and columns, and for `prompt_length` words."""
    config, (height, width) = network.generator.config, _EXAMPLE_PX
    z = torch.zeros(2, *network.generator.latent_shape)
    text = TextFeatures(
        torch.ones(2, config.sentence_dim),
        torch.ones(2, prompt_length, config.word_dim),
        torch.ones(2, prompt_length, dtype=torch.bool),
    )
    inputs = network.inputs(z, text, View(height=height, width=width))
    # A mean over points has at least two pixels a side: torch.export takes a size of 1 for fixed.
    samples = network.generator.samples
    least = 2 * samples if samples > 1 else None
    dims = {name: torch.export.Dim(name, min=least) for name in ("height", "width")}
    dims["batch"] = torch.export.Dim("batch")
    shapes = tuple({0: dims[axis]} for axis in _axes(network))
    with using("ref"), _quiet():
        return torch.export.export(
            network, tuple(inputs.values()), dynamic_shapes=(shapes,), strict=False
        )


def _axes(network: ExportedNetwork) -> list[str]:
    """What the first axis of every input counts."""
    axes = {"rows": "height", "columns": "width"}
    return [axes.get(name, "batch") for name in network.input_names]


def write(
    program: torch.export.ExportedProgram,
    network: ExportedNetwork,
    path: Path,
    format: Format,
    metadata: Mapping[str, str],
) -> None:
    """Write the program to `path`; the metadata go into the file."""
    if format == "torch-export":
        with _quiet():
            torch.export.save(program, path, extra_files={_EXTRA: json.dumps(dict(metadata))})
        return
    shapes = tuple({0: axis} for axis in _axes(network))
    _save_onnx(program, path, network.input_names, ["image"], shapes, metadata)


def write_graph(graph: Graph, path: Path, metadata: Mapping[str, str]) -> None:
    """Trace one of the graphs of `networks.exported_parts` and write it to `path` as ONNX.

    Browsers run it, so sines and cosines are replaced (`networks.exact_waves`).
    """
    axes = [graph.axes.get(name, {}) for name in graph.input_names]
    shapes = tuple(dict.fromkeys(one, torch.export.Dim.DYNAMIC) for one in axes)
    with using("ref"), _quiet():
        program = torch.export.export(
            graph, tuple(graph.example().values()), dynamic_shapes=(shapes,), strict=False
        )
        program = replace_waves(program)
    _save_onnx(program, path, graph.input_names, graph.output_names, tuple(axes), metadata)


def _save_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    axes: tuple[dict[int, str], ...],
    metadata: Mapping[str, str],
) -> None:
    """axes: the names of the free axes of every input."""
    with (
        _quiet(),
        library_errors(lambda reason: UserError(f"{path}: ONNX export failed: {reason}")),
    ):
        model = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            dynamic_shapes=(axes,),
            verbose=False,
        )
    assert model is not None
    model.model.metadata_props.update(metadata)
    model.save(path, external_data=False)


def run_onnx(
    path: Path, inputs: Mapping[str, torch.Tensor], num_threads: int = 1
) -> dict[str, torch.Tensor]:
    """The outputs of an ONNX file by name, computed by onnxruntime on the CPU.

    inputs: by name; those that the graph does not have are left out.
    """
    return _onnx_session(path, num_threads)(inputs)


def open_onnx(path: Path, num_threads: int = 1) -> Runner:
    """The ONNX file of an `ExportedNetwork` as a function of its named inputs."""
    session = _onnx_session(path, num_threads)
    return lambda inputs: session(inputs)["image"]


def _onnx_session(
    path: Path, num_threads: int
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        arrays = {one.name: inputs[one.name].numpy() for one in session.get_inputs()}
        results = session.run(outputs, arrays)
        return {name: torch.from_numpy(x) for name, x in zip(outputs, results, strict=True)}

    return run


def open_program(path: Path) -> Runner:
    """A .pt2 file as a function of its named inputs. Files of strangers may run code: open none."""
    with _quiet():
        module = torch.export.load(path).module()

    def run(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            return module(*inputs.values())

    return run


def deviation(
    run: Runner, network: ExportedNetwork, generator: Generator, prompt_length: int, side: int
) -> float:
    """The largest difference between an exported file and PyTorch over three views: the trained
    frame at `side` x `side`, a smaller picture that is not square, and a window that reaches beyond
    the frame. Relative to the largest value of a picture where that exceeds 1.
    """
    views = (
        View.square(side),
        View(height=side // 2 + 1, width=side // 3 + 2),
        View(height=9, width=17, box=(-0.25, 0.3, 1.1, 0.8)),
    )
    config, draws, worst = generator.config, torch.Generator().manual_seed(0), 0.0
    for batch, view in enumerate(views, start=1):

        def normal(*shape: int, batch: int = batch) -> torch.Tensor:
            return torch.randn(batch, *shape, generator=draws)

        num_words = torch.randint(1, prompt_length + 1, (batch, 1), generator=draws)
        mask = torch.arange(prompt_length) < num_words
        # The words that the mask leaves out are zeros, as `fixed_length` makes them.
        words = normal(prompt_length, config.word_dim) * mask.unsqueeze(2)
        z, text = (
            normal(*generator.latent_shape),
            TextFeatures(normal(config.sentence_dim), words, mask),
        )
        with torch.no_grad():
            expected = generator(z, text if generator.reads_text else None, view)
        drawn = run(network.inputs(z, text, view))
        if drawn.shape != expected.shape or not drawn.isfinite().all():
            return math.inf
        worst = max(
            worst, ((drawn - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
        )
    return worst


def fixed_length(text: TextFeatures, prompt_length: int) -> TextFeatures:
    """The words filled up with masked zeros to the length of the export. Raises `UserError` for a
    prompt that is longer.
    """
    longest = int(text.mask.sum(dim=1).max())
    if longest > prompt_length:
        raise UserError(
            f"--prompt has {longest} tokens and the graph reads {prompt_length}; shorten "
            f"it, or give --prompt-length {longest}"
        )
    missing = max(0, prompt_length - text.words.shape[1])
    words = torch.nn.functional.pad(text.words, (0, 0, 0, missing))[:, :prompt_length]
    mask = torch.nn.functional.pad(text.mask, (0, missing))[:, :prompt_length]
    return TextFeatures(text.sentence, words, mask)


def read_metadata(path: Path, format: Format) -> dict[str, str]:
    """What `write` put into a file; empty for any other file."""
    with contextlib.suppress(UserError), library_errors(UserError):
        if format == "onnx":
            import onnx

            model = onnx.load(path, load_external_data=False)
            return {entry.key: entry.value for entry in model.metadata_props}
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/{_EXTRA}")]
            return json.loads(archive.read(names[0])) if names else {}
    return {}


def exported_fault(format: Format) -> Rule:
    """The rule of ownership (`dnnlib.ownership`) for files of this format."""

    def rule(path: Path) -> str | None:
        ours = MARK in read_metadata(path, format)
        return None if ours else f"is no file that export.py --format {format} wrote"

    return rule


def features_fault(path: Path) -> str | None:
    """The rule of ownership for the .npz of text features."""
    names: set[str] = set()
    with (
        contextlib.suppress(UserError),
        library_errors(UserError),
        zipfile.ZipFile(path) as archive,
    ):
        names = set(archive.namelist())
    ours = {"z.npy", "rows.npy", "columns.npy"} <= names
    return None if ours else "holds no inputs that export.py --prompt wrote"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress lines and the warnings of the exporters."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
