"""`calc_metrics.py gen`: the pictures of an evaluation as PNG files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.folder import CAPTIONS_FILE
from dnnlib.errors import UserError
from dnnlib.files import atomic_path, read_json, write_json, write_text
from dnnlib.ownership import in_our_folder, whole_folder
from metrics.measures.base import Evaluation
from metrics.pictures.generator_subject import GeneratorSubject
from metrics.pictures.picture_folder import ORIGIN_FILE
from metrics.pictures.ranks import shares_over_ranks
from metrics.pictures.reading import Compute
from metrics.pictures.sources import Sources
from networks.text_encoders.limits import cut_line
from torch_utils.distributed import from_main, is_main, on_main
from torch_utils.pictures import save_png
from torch_utils.precision import no_tf32


def write_pictures(
    subject: GeneratorSubject,
    sources: Sources,
    evaluation: Evaluation,
    folder: Path,
    compute: Compute,
) -> dict[str, Any]:
    """Write img00000000.png ... with `captions.jsonl` and `pictures.json`; return the last one.

    There is no `captions.jsonl` if there are no captions. Every rank writes its share. The pictures
    of an earlier `gen` are replaced when all of the new ones are there. Raises `UserError` for a
    folder with anything else in it.
    """
    pictures = evaluation.pictures
    if pictures.sight != "native":
        raise UserError(
            f"{evaluation.name} looks at other sizes than the network's own; name an evaluation "
            "such as fid10k"
        )
    dataset = sources.dataset(pictures.split)
    chosen = subject.image_set(pictures, dataset)
    cut = cut_line(subject.encoder, chosen.prompts) if is_main() else None
    if cut:
        print(cut, file=sys.stderr)
    names = [f"img{index:08d}.png" for index in range(len(chosen))]
    items = [dataset.id(item) for item in chosen.items]
    origin = {
        "protocol": evaluation.record(),
        "seed": pictures.seed,
        **subject.identity(),
        "dataset": {"name": dataset.name, "content_hash": dataset.content_hash},
        "items": dict(zip(names, items, strict=True)),
        "latent_seeds": dict(zip(names, chosen.seeds, strict=True)),
    }
    lines = [
        json.dumps({"file": name, "captions": [prompt]}, ensure_ascii=False)
        for name, prompt in zip(names, chosen.prompts, strict=True)
        if prompt
    ]
    with _folder_of_all_ranks(folder) as place:

        def write(share: range) -> None:
            frames = subject.frames(pictures, lambda: chosen, share, compute)
            with no_tf32():  # as `calc` does, which must see the same pictures
                for index, frame in zip(share, frames, strict=True):
                    save_png(place / names[index], frame, ours=in_our_folder)

        def describe() -> None:
            if lines:
                write_text(place / CAPTIONS_FILE, "\n".join(lines) + "\n", ours=in_our_folder)
            write_json(place / ORIGIN_FILE, origin, ours=in_our_folder)

        shares_over_ranks(len(chosen), write)
        on_main(describe)
    return origin


@contextlib.contextmanager
def _folder_of_all_ranks(folder: Path) -> Iterator[Path]:
    """The temporary folder of `atomic_path` on rank 0, where all ranks write."""
    with contextlib.ExitStack() as stack:
        places: list[Path] = []
        on_main(
            lambda: places.append(
                stack.enter_context(atomic_path(folder, folder=True, ours=whole_folder(_own_files)))
            )
        )
        yield from_main(places[0] if is_main() else None)
        on_main(stack.close)


def _own_files(folder: Path) -> list[str]:
    origin = read_json(folder / ORIGIN_FILE) if (folder / ORIGIN_FILE).is_file() else None
    if (
        not isinstance(origin, dict)
        or not isinstance(origin.get("items"), dict)
        or "protocol" not in origin
    ):
        raise UserError(f"no {ORIGIN_FILE} of `gen`")
    return [ORIGIN_FILE, CAPTIONS_FILE, *origin["items"]]
