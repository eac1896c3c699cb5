"""`calc_metrics.py gen`: the pictures of a protocol as PNG files, for other tools and for `calc --images`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from datasets.folder import CAPTIONS_FILE
from datasets.text_image import TextImageDataset
from dnnlib.config_codec import to_dict
from dnnlib.errors import UserError
from dnnlib.files import make_folder, write_json, write_text
from metrics.features import Progress
from metrics.frames import generated_frames
from metrics.image_sets import image_set
from metrics.measures import Protocol
from metrics.picture_folder import ORIGIN_FILE
from metrics.ranks import shares_over_ranks
from metrics.subjects import Subject
from torch_utils.distributed import on_main
from torch_utils.pictures import save_png
from torch_utils.precision import no_tf32


def write_pictures(subject: Subject, data: Path, protocol: Protocol, folder: Path, *, device: torch.device, batch_size: int,
                   progress: Progress) -> dict[str, Any]:
    """img00000000.png ... with `captions.jsonl` and `pictures.json` in `folder`; the latter, which it also returns.

    Every rank writes its share. Existing pictures of an earlier `gen` are replaced. Raises `UserError` for a folder with
    other content.
    """
    pictures = protocol.pictures
    if pictures.view != "native":
        raise UserError(f"{protocol.name} looks at other sizes than the network's own; name a protocol such as fid10k")
    dataset = TextImageDataset(data, split=pictures.split)
    chosen = image_set(dataset, num_images=pictures.num_images, seed=pictures.seed)
    on_main(lambda: _prepare(folder))
    names = [f"img{index:08d}.png" for index in range(len(chosen))]

    def write(share: range) -> None:
        frames = generated_frames(subject, chosen, pictures, share, large=0, batch_size=batch_size, device=device,
                                  progress=progress)
        with no_tf32():  # as `calc`, which must see the same pictures
            for index, frame in zip(share, frames, strict=True):
                save_png(folder / names[index], frame)

    shares_over_ranks(len(chosen), write)
    origin = {"protocol": to_dict(protocol), "seed": pictures.seed, **subject.identity(),
              "dataset": {"name": dataset.name, "content_hash": dataset.content_hash},
              "items": {name: dataset.id(item) for name, item in zip(names, chosen.items, strict=True)},
              "latent_seeds": dict(zip(names, chosen.seeds, strict=True))}
    lines = [json.dumps({"file": name, "captions": [prompt]}, ensure_ascii=False)
             for name, prompt in zip(names, chosen.prompts, strict=True)]

    def describe() -> None:
        write_text(folder / CAPTIONS_FILE, "\n".join(lines) + "\n")
        write_json(folder / ORIGIN_FILE, origin)

    on_main(describe)
    return origin


def _prepare(folder: Path) -> None:
    make_folder(folder)
    content = [path.name for path in folder.iterdir()]
    if content and ORIGIN_FILE not in content and not all(name.startswith("img") for name in content):
        raise UserError(f"--outdir {folder} holds other files; name a new folder")
    for path in folder.glob("img*.png"):
        path.unlink()
