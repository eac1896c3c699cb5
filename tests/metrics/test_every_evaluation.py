"""Every row of the table: it gives a number where its files are there, and else one line that names
what is missing.
"""

import math
from dataclasses import replace

import pytest
import torch

from datasets.archive import Picture, write_archive
from dnnlib.errors import UserError
from metrics import session as session_module
from metrics.evaluations import EVALUATIONS
from metrics.evaluations.table import CLIP, CMMD_CLIP, HELD_OUT_CLIP
from metrics.features.detectors import load_detector
from metrics.measures.clip import ClipScore, RPrecision
from metrics.pictures.sights import real_side
from metrics.pictures.sources import Sources
from metrics.runner import evaluate

CPU = torch.device("cpu")
WEIGHTS_FROM = {
    "inception": "weights-inception-2015-12-05-6726825d.pth is missing and https://github.com/toshas/torch-fidelity",
    "dinov2": "fetch model.safetensors of timm/vit_large_patch14_dinov2.lvd142m "
    "from huggingface.co",
    "open_clip": "--weights open_clip:{model}=FILE",
}
DOWNLOADED = sorted(
    {
        row.measure.detector
        for row in EVALUATIONS.values()
        if row.measure.detector and row.measure.detector.partition(":")[0] in WEIGHTS_FROM
    }
)


def archive(path, side, source, count=16):
    rng = torch.Generator().manual_seed(side)
    pictures = [
        Picture(
            torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, generator=rng).numpy(),
            f"id{i}",
            (f"thing number {i}", f"a picture of {i}"),
            "train" if i % 2 else "test",
        )
        for i in range(count)
    ]
    write_archive(
        path,
        pictures,
        (side, side),
        {"name": path.stem, "licence": "CC0", "resize_filter": "none", "source": source},
    )
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """An archive by (source, side), made when it is asked for."""
    folder, made = tmp_path_factory.mktemp("rows"), {}

    def place(source, side):
        if (source, side) not in made:
            made[source, side] = archive(folder / f"{source[:3]}{side}.zip", side, source)
        return made[source, side]

    return place


@pytest.fixture
def stand_ins(monkeypatch, encoders):
    """Weights that cannot be reached are replaced by the toy detector and by mean colours; all else
    is the real path.
    """

    def load(name, device, encoders, weights):
        return load_detector(
            "toy" if name.startswith(("inception", "dinov2", "lite2")) else name,
            device,
            encoders,
            weights,
        )

    monkeypatch.setattr(session_module, "load_detector", load)
    colours = type(encoders["small"])("six")
    return dict.fromkeys((CLIP, CMMD_CLIP, HELD_OUT_CLIP, "small", "small-heldout"), colours)


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATIONS)
def test_row_gives_a_number(name, subject, places, stand_ins):
    row = EVALUATIONS[name]
    side = row.resolution or (32 if name == "eqr" else subject.resolution)
    sources = Sources(data=places(row.data or "numpy", side))
    if row.reference.sight != "native":
        large = 2 * side if row.reference.sight == "patch" else real_side(row.reference.sight, side)
        sources = replace(sources, large=places("numpy", large))
    scored = replace(subject, resolution=side)
    (record,) = evaluate(scored, sources, [row], num=7, encoders=stand_ins, batch_size=4)
    assert record["metric"] == name and "note" not in record, record
    assert math.isfinite(record["value"]) and record["num_generated"] <= 7
    if isinstance(row.measure, (ClipScore, RPrecision)):
        assert -1 <= record["value"] <= 1 or row.measure.ratio
    elif row.measure.detector is not None:
        count = 7 if row.reference.sight == "patch" else 16 if row.reference.split == "all" else 8
        assert record["num_real"] == {"flip_shift": 80, "none": count}[row.reference.expand]


@pytest.mark.parametrize("detector", DOWNLOADED)
def test_a_missing_file_is_named_with_its_origin(detector, monkeypatch, tmp_path):
    for variable in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    family, _, model = detector.partition(":")
    monkeypatch.setattr("networks.pretrained.hub.cached_file", lambda *_: None)
    with pytest.raises(UserError) as raised:
        load_detector(detector, CPU)
    assert WEIGHTS_FROM[family].format(model=model) in str(raised.value) and "\n" not in str(
        raised.value
    )


def test_a_row_of_a_data_set_refuses_another(subject, places, stand_ins):
    row = EVALUATIONS["fid30k_coco256"]
    birds = replace(subject, resolution=256)
    with pytest.raises(
        UserError,
        match="fid30k_coco256: defined on MS-COCO, but .* says it is 'CUB'; import .* "
        "dataset_tool.py coco",
    ):
        list(evaluate(birds, places("CUB", 256), [row], num=7, encoders=stand_ins))
    with pytest.raises(UserError, match="defined at 256x256, these pictures have 16x16; fid10k"):
        list(evaluate(subject, places("MS-COCO", 16), [row], num=7, encoders=stand_ins))
