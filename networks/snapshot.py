"""Snapshots: a trained generator in a folder of data without code.

The folder holds `config.json`, `model.safetensors` and `README.md` (the model card). The weights
are those of the EMA generator. The config names the generator's config, the spec and the id of the
text encoder, the trained resolution, and `info` about the run. A published snapshot may also hold
`discriminator.safetensors`, the discriminator's weights for those who train on. Reading a snapshot
executes no code from it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from dnnlib.config_codec import from_dict, nearest, to_dict
from dnnlib.errors import UserError, library_errors
from dnnlib.files import atomic_path, read_json, read_json_lines, sha256_of
from dnnlib.ownership import json_with, whole_folder
from dnnlib.seeds import check_seed
from dnnlib.weight_files import load_weights
from networks import hub_snapshots
from networks.coordinates import MAX_SIDE_PX, View, check_picture_size, parse_window
from networks.generators import GENERATORS
from networks.interfaces import Generator, TextEncoder
from networks.model_card import CardFields, model_card
from networks.picture_facts import refuse_overflow
from networks.sampling import iterate_images
from networks.snapshot_folders import snapshot_folder
from networks.text_encoders import load_encoder
from networks.warps import Box
from torch_utils.meta import WithoutMemory
from torch_utils.tensors import to_uint8

if TYPE_CHECKING:
    from PIL import Image

FORMAT = 1
MAX_CONFIG_BYTES = 16 << 20
MAX_WIDTH = 1 << 16  # of a layer
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass
class Snapshot:
    """A generator and the facts that are needed to use it.

    text_encoder: spec for `networks.text_encoders.load_encoder`; empty where training loaded no
        encoder.
    resolution: side of the training pictures in pixels.
    info: free-form facts of the run (recipe, kimg, data set, ...).
    sha256: hash of the weight file; empty before saving.
    encoder_id: `TextEncoder.id` in training, which identifies the encoder's weights; empty in
        older snapshots, which do not store it.
    """

    generator: Generator
    text_encoder: str
    resolution: int
    info: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    encoder_id: str = ""

    def load_encoder(self, device: torch.device | str = "cpu") -> TextEncoder | None:
        """Load the text encoder of the training; None for an unconditional generator.

        The embedded encoders come without their image tower. Raises `UserError` where the encoder's
        weights or widths differ from those in training.
        """
        if not self.generator.reads_text:
            return None
        encoder = load_encoder(self.text_encoder, device, images=False)
        if self.encoder_id and encoder.id != self.encoder_id:
            raise UserError(
                f"text encoder {self.text_encoder} has other weights here ({encoder.id}) than in "
                f"training ({self.encoder_id}), so its features would not fit this generator; "
                "restore the encoder's weights of the training"
            )
        config = self.generator.config
        for name in ("sentence_dim", "word_dim"):
            if getattr(config, name) not in (0, getattr(encoder, name)):
                raise UserError(
                    f"text encoder {self.text_encoder}: its {name} is {getattr(encoder, name)}, "
                    f"the generator's {getattr(config, name)}; config.json names another encoder "
                    "than that of the training"
                )
        return encoder

    def draw(
        self,
        prompt: str = "",
        seed: int = 0,
        *,
        width: int | None = None,
        height: int | None = None,
        window: Box | str = (0.0, 0.0, 1.0, 1.0),
    ) -> Image.Image:
        """One picture of a prompt and a seed, as `generate.py` draws it.

        prompt: left out for a network without text.
        width, height: in pixels; None takes the trained resolution.
        window: (x0, y0, x1, y1) in frame units, as in `View`, or a text as after `--window`: '5:3'
            is a picture of this shape around the frame.

        The text encoder is loaded for each call. `networks.sampling.iterate_images` draws many
        pictures and takes every option of `generate.py`. Raises `UserError`.
        """
        from PIL import Image

        check_seed(seed)
        if bool(prompt) != self.generator.reads_text:
            raise UserError(
                "prompt: the network was trained without text; leave it out"
                if prompt
                else "prompt: is missing; give a text, such as 'a red apple'"
            )
        side, device = self.resolution, self.generator.tokens_mean.device
        view = View(
            height=side if height is None else height,
            width=side if width is None else width,
            box=parse_window(window) if isinstance(window, str) else window,
        )
        check_picture_size(view.width, view.height)
        view.check_steps()
        encoder = self.load_encoder(device)
        [sample] = iterate_images(self.generator, encoder, [prompt], [seed], view, device=device)
        refuse_overflow(sample.image, prompt, seed)
        return Image.fromarray(to_uint8(sample.image).permute(1, 2, 0).contiguous().numpy())

    def save_pretrained(
        self,
        path: str | Path,
        card: CardFields | None = None,
        *,
        half: bool = False,
        discriminator: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the snapshot folder atomically; an existing snapshot is replaced.

        card: fields of the model card that the snapshot does not hold. half: store weights in
        float16, half as large; they are loaded as float32. discriminator: D's weights by name
        (`training.transfer.find_discriminator`), which `--init-from` takes. Raises `UserError` if
        the folder exists and is no snapshot, and if a score in `card` was measured on other
        weights.
        """
        config = {
            "format": FORMAT,
            "generator": to_dict(self.generator.config),
            "text_encoder": self.text_encoder,
            "text_encoder_id": self.encoder_id,
            "resolution": self.resolution,
            "info": self.info,
        }
        with atomic_path(path, folder=True, ours=snapshot_fault) as folder:
            (folder / "model.safetensors").write_bytes(_packed(self.generator.state_dict(), half))
            if discriminator is not None:
                (folder / hub_snapshots.DISCRIMINATOR).write_bytes(_packed(discriminator, half))
            self.sha256 = sha256_of(folder / "model.safetensors")
            (folder / "config.json").write_text(
                json.dumps(config, indent=2) + "\n", encoding="utf-8"
            )
            fields = replace(card or CardFields(), discriminator=discriminator is not None)
            text = model_card(config, self.generator, self.sha256, fields)
            (folder / "README.md").write_text(text, encoding="utf-8")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        license: str,
        datasets: Sequence[str] = (),
        scores: str | Path | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str = "Upload a snapshot of EIDGAN",
        discriminator: dict[str, torch.Tensor] | None = None,
    ) -> str:
        """Upload the snapshot with its model card to the Hugging Face Hub.

        repo_id: "user/name"; the repository is created if it does not exist.
        license: the Hub's identifier of a license, such as "cc-by-sa-4.0".
        datasets: names of the training data.
        scores: a file that `calc_metrics.py calc --out` wrote for this snapshot.
        private: whether a new repository is private; None takes the account's default.
        revision: a branch other than main.
        token: an access token; None takes the token that `hf auth login` stored.
        message: message of the commit.
        discriminator: as for `save_pretrained`.

        Returns the URL of the commit. Raises `UserError` for a file without scores, for scores of
        other weights and where the upload fails.
        """
        records = []
        if scores is not None:
            records = read_json_lines(scores)
            if not records:
                raise UserError(f"{scores} holds no record of calc_metrics.py calc --out")
        card = CardFields(license=license, datasets=datasets, scores=records, network=repo_id)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "snapshot"
            self.save_pretrained(folder, card, discriminator=discriminator)
            return hub_snapshots.upload(
                folder, repo_id, private=private, revision=revision, message=message, token=token
            )

    @staticmethod
    def from_pretrained(path: str | Path, revision: str | None = None) -> Snapshot:
        """Load a snapshot.

        path: a snapshot folder, a run folder (its newest snapshot is loaded), the name of a network
            that comes with the repository, or `user/name` on the Hugging Face Hub. A local folder
            of the same name takes precedence.
        revision: a branch, a tag or a commit on the Hub.

        Returns a snapshot whose generator is in evaluation mode, on the CPU, without gradients.
        Raises `UserError` that names the faulty file.
        """
        folder = snapshot_folder(path, revision)
        config = read_config(folder / "config.json")
        weights = folder / "model.safetensors"
        generator = _load_generator(folder / "config.json", config["generator"], weights)
        return Snapshot(
            generator.eval().requires_grad_(False),
            config["text_encoder"],
            config["resolution"],
            config["info"],
            sha256_of(weights),
            config.get("text_encoder_id", ""),
        )


def _packed(tensors: dict[str, torch.Tensor], half: bool) -> bytes:
    """The content of a safetensors file; half: of numbers in float16."""
    return save(
        {
            name: (tensor.half() if half and tensor.is_floating_point() else tensor)
            .detach()
            .cpu()
            .contiguous()
            for name, tensor in tensors.items()
        }
    )


def _snapshot_files(folder: Path) -> tuple[str, ...]:
    if json_with("format", "generator", "text_encoder")(folder / "config.json"):
        raise UserError("no config.json of a snapshot")
    return (*hub_snapshots.FILES, hub_snapshots.DISCRIMINATOR)


snapshot_fault = whole_folder(_snapshot_files)  # ownership rule (`dnnlib.ownership`) of snapshots


_FIELDS = {"format": int, "generator": dict, "text_encoder": str, "resolution": int, "info": dict}
_LATER_FIELDS = {"text_encoder_id": str}  # which older snapshots do not have


def read_config(path: Path) -> dict[str, Any]:
    """The content of a snapshot's config.json. Raises `UserError` that names the faulty field."""
    if path.is_file() and path.stat().st_size > MAX_CONFIG_BYTES:
        raise UserError(f"{path}: has {path.stat().st_size} bytes; this is not a snapshot's config")
    config = read_json(path)
    for name, kind in (_FIELDS | _LATER_FIELDS).items():
        if not isinstance(config, dict) or name in _FIELDS and name not in config:
            raise UserError(f"{path}: no field {name!r}; this is not a snapshot's config")
        value = config.get(name, kind())
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(
                f"{path}: field {name!r} must be of type {kind.__name__}, got {_short(value)}"
            )
    for name in config:
        if name not in _FIELDS | _LATER_FIELDS:
            known = nearest(name, _FIELDS | _LATER_FIELDS)
            raise UserError(f"{path}: no such field as {_short(name)}; {known}")
    if config["format"] != FORMAT:
        raise UserError(
            f"{path}: format {_short(config['format'])} is not {FORMAT}; "
            "use the version of this project that wrote the snapshot"
        )
    if not 1 <= config["resolution"] <= MAX_SIDE_PX:
        raise UserError(
            f"{path}: field 'resolution' must be from 1 to {MAX_SIDE_PX} pixels, "
            f"got {_short(config['resolution'])}"
        )
    return config


def _short(value: Any) -> str:
    return repr(value)[:80]


def _load_generator(path: Path, options: dict[str, Any], weights: Path) -> Generator:
    """The generator of config.json with its weights.

    The network is first built without memory, on torch's meta device, and compared with the names
    and shapes in the file. So config.json cannot ask for more memory than the file of weights has.
    """
    if not weights.exists():
        raise UserError(f"{weights} does not exist; the snapshot folder is incomplete")
    kind = str(options.get("kind", ""))[:80]
    if kind not in GENERATORS:
        raise UserError(f"{path}: unknown generator {kind!r}; {nearest(kind, GENERATORS)}")

    tensors = load_weights(weights)
    config = from_dict(GENERATORS[kind], options, f"{path}: generator")
    _check_amounts(path, "generator", to_dict(config), len(tensors))

    def refusal(reason: str) -> UserError:
        return UserError(f"{path}: no network can be built of the field 'generator' ({reason})")

    with library_errors(refusal), WithoutMemory():
        expected = config.build().state_dict()
    for name in expected.keys() | tensors.keys():
        if name not in tensors or name not in expected:
            raise UserError(
                f"{weights}: tensor {name!r} is {'missing' if name in expected else 'unknown'}; "
                "the weights do not belong to the config.json in this folder"
            )
        if expected[name].shape != tensors[name].shape:
            raise UserError(
                f"{weights}: tensor {name!r} has shape {tuple(tensors[name].shape)}, "
                f"config.json asks for {tuple(expected[name].shape)}"
            )
        if tensors[name].dtype not in (expected[name].dtype, *_FLOATS):
            raise UserError(f"{weights}: tensor {name!r} has the type {tensors[name].dtype}")
    generator: Generator = config.build()
    generator.load_state_dict(tensors)
    return generator


def _check_amounts(path: Path, name: str, value: Any, num_tensors: int) -> None:
    """Raise `UserError` for numbers that would keep the computer busy before weights are compared.

    A layer has a tensor, so there are no more layers than tensors; no layer is wider than
    `MAX_WIDTH`.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            _check_amounts(path, f"{name}.{key}", item, num_tensors)
        return
    numbers = [n for n in (value if isinstance(value, list) else [value]) if isinstance(n, int)]
    layers = len(value) if isinstance(value, list) else 0
    if "layers" in name:
        layers = max([layers, *numbers])
    if layers > num_tensors or any(number > MAX_WIDTH for number in numbers):
        raise UserError(
            f"{path}: field {name[:80]!r}: {_short(value)} is more than the weights can hold"
        )
