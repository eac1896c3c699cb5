"""The explorer as a folder for any static host: `export.py --format html` writes it.

index.html, page/   the page of the explorer; page/server.js computes in the browser
graphs/             the network and, for free text, the text tower as ONNX; facts.json; features.bin
runtime/            onnxruntime-web (`explorer.web_runtime`)

features.bin holds float32 numbers, little-endian, without gaps: for each seed the latent z and the
noise of the sentence, then for each prompt the sentence and its words.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dnnlib.errors import UserError
from dnnlib.files import read_json
from dnnlib.ownership import content, json_with, whole_folder
from dnnlib.version import VERSION
from explorer import guard, page_files, tiles, web_runtime
from explorer.state import MAX_DOWNLOAD_PX, MAX_PROMPT
from networks import export_formats as formats
from networks.coordinates import View
from networks.exported_parts import ExportedCodes, ExportedSynthesis
from networks.interfaces import TextEncoder, TextFeatures
from networks.picture_facts import refuse_overflow
from networks.sampling import codes_of, noise_length, sentence_noise
from networks.snapshot import Snapshot
from networks.text_encoders.minilm import minilm_folder
from networks.text_encoders.open_clip_encoder import OpenClipTextEncoder
from networks.text_encoders.small import SPECS
from torch_utils.rng import normal_per_seed

NUM_SEEDS = 64
PAGE_FILES = Path(__file__).with_name("alone")
FACTS = "graphs/facts.json"


@dataclass(frozen=True)
class StaticPage:
    """What a folder shows: the prompts whose features are stored, and whether others can be typed.

    name: of the network, as the page shows it.
    encoder: None for a network without text.
    free_text: the text tower is part of the folder (`can_read_text`).
    """

    snapshot: Snapshot
    name: str
    encoder: TextEncoder | None
    prompts: Sequence[str]
    free_text: bool

    def write(self, folder: Path, archive: Path, check: bool) -> dict[str, float]:
        """Write all files into an empty folder.

        archive: of onnxruntime-web. check: compare the graphs with PyTorch. Returns measured
        values by name. Raises `UserError` for a network that cannot be exported, and for graphs
        that differ.
        """
        for name in ("page", "graphs", "runtime"):
            (folder / name).mkdir()
        self._write_page(folder)
        web_runtime.unpack(archive, folder / "runtime")
        texts = [self.encoder.encode_text([text]) for text in self.prompts] if self.encoder else []
        seeds = self._write_features(folder, texts)
        measured = self._write_graphs(folder / "graphs", texts, seeds, check)
        if self.free_text:
            measured |= self._write_text_tower(folder / "graphs", texts)
        facts = self._facts(texts) | {"files": sorted([*content(folder), FACTS])}
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        return measured

    def _write_page(self, folder: Path) -> None:
        """The page of the explorer, with the files of alone/ over those of the same name.

        A static host sends no content security policy, so the page itself holds it.
        """
        for name, (data, _) in page_files.files().items():
            place = folder if name == "index.html" else folder / "page"
            if name == "index.html":
                policy = f'<meta http-equiv="Content-Security-Policy" content="{guard.POLICY}">'
                data = data.replace(b"<head>", f"<head>\n{policy}".encode(), 1)
            (place / name).write_bytes(data)
        for path in PAGE_FILES.glob("*.js"):
            shutil.copyfile(path, folder / "page" / path.name)

    def _write_features(
        self, folder: Path, texts: Sequence[TextFeatures]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """features.bin. Returns the latents and the noise rows of all seeds."""
        generator, config = self.snapshot.generator, self.snapshot.generator.config
        numbers = list(range(NUM_SEEDS))
        z = normal_per_seed(numbers, generator.latent_shape)
        empty = TextFeatures(torch.zeros(1, config.sentence_dim), z[:1], z[:1])
        noise = sentence_noise(numbers, empty)
        parts = [part for row in zip(z, noise, strict=True) for part in row]
        for text in texts:
            parts += [text.sentence[0, : config.sentence_dim], text.words[0, :, : config.word_dim]]
        numbers_of_parts = torch.cat([part.flatten() for part in parts]).numpy()
        (folder / "graphs" / "features.bin").write_bytes(numbers_of_parts.astype("<f4").tobytes())
        return z, noise

    def _facts(self, texts: Sequence[TextFeatures]) -> dict[str, Any]:
        generator = self.snapshot.generator
        return {
            formats.MARK: VERSION,
            "network_sha256": self.snapshot.sha256,
            "system": generator.config.kind,
            "resolution": self.snapshot.resolution,
            "samples": generator.samples,
            "reads_text": generator.reads_text,
            "free_text": self.free_text,
            "max_tokens": getattr(self.encoder, "max_tokens", 0),
            "text_noise": generator.config.text_noise,
            "latent_shape": list(generator.latent_shape),
            "sentence_dim": generator.config.sentence_dim,
            "word_dim": generator.config.word_dim,
            "seeds": NUM_SEEDS,
            "prompts": list(self.prompts),
            "lengths": [text.words.shape[1] for text in texts],
            "farthest": tiles.FARTHEST,
            "max_px": MAX_DOWNLOAD_PX,
            # What /options of the server answers, and what only this page needs.
            "options": {
                "networks": [self.name],
                "runs": [],
                "warps": [],
                "zooms": [tiles.MIN_ZOOM, tiles.MAX_ZOOM],
                "max_prompt": MAX_PROMPT,
                "num_seeds": NUM_SEEDS,
                "prompts": list(self.prompts),
            },
        }

    def _write_graphs(
        self,
        folder: Path,
        texts: Sequence[TextFeatures],
        seeds: tuple[torch.Tensor, torch.Tensor],
        check: bool,
    ) -> dict[str, float]:
        """codes.onnx and synthesis.onnx; returns their difference from PyTorch where checked."""
        codes = ExportedCodes(self.snapshot.generator)
        synthesis = ExportedSynthesis(codes)
        metadata = {formats.MARK: VERSION, "network_sha256": self.snapshot.sha256}
        formats.write_graph(codes, folder / "codes.onnx", metadata)
        formats.write_graph(synthesis, folder / "synthesis.onnx", metadata)
        if not check:
            return {}
        text = texts[0] if texts else None
        difference = self._deviation(folder, codes, text, seeds)
        if not difference <= formats.TOLERANCE:
            raise UserError(
                f"{self.name}: the graphs differ from PyTorch by {difference:.1e}, more than "
                f"{formats.TOLERANCE}; the folder is not kept; please report it with the output of "
                "python doctor.py"
            )
        return {"Largest difference of the graphs from PyTorch": difference}

    @torch.no_grad()
    def _deviation(
        self,
        folder: Path,
        graph: ExportedCodes,
        text: TextFeatures | None,
        seeds: tuple[torch.Tensor, torch.Tensor],
    ) -> float:
        """The largest difference of a picture of seed 1 with truncation 0.7 from PyTorch, relative
        to its largest value where that exceeds 1. text: of the picture.
        """
        generator, psi = self.snapshot.generator, 0.7
        (z, noise), length = (part[1:2] for part in seeds), noise_length(generator, psi, None)
        view = View(height=48, width=64, box=(-0.25, 0.1, 1.1, 0.9))
        noisy = text.perturbed(noise, length) if text is not None and length else text
        codes = codes_of(generator, z, noisy if generator.reads_text else None, psi)
        expected = generator.synthesis(codes, view)
        refuse_overflow(expected, None, 1)
        known = {"z": z, "noise": noise, "noise_length": torch.tensor([length])}
        points = view.scaled(generator.samples)
        known |= {"psi": torch.tensor([psi]), "rows": points.rows(), "columns": points.columns()}
        if text is not None:
            known |= {"sentence": text.sentence, "words": text.words}
        for name in ("codes", "synthesis"):
            known |= formats.run_onnx(folder / f"{name}.onnx", known)
        difference = (known["image"] - expected).abs().max()
        return float(difference / expected.abs().max().clamp(min=1))

    @torch.no_grad()
    def _write_text_tower(self, folder: Path, texts: Sequence[TextFeatures]) -> dict[str, float]:
        """text.onnx and vocab.txt; returns how near its sentences are to those of the encoder."""
        from networks.text_encoders.exported_small import ExportedTextTower

        assert isinstance(self.encoder, OpenClipTextEncoder)
        tower = ExportedTextTower(self.encoder)
        formats.write_graph(tower, folder / "text.onnx", {formats.MARK: VERSION})
        shutil.copyfile(minilm_folder() / "vocab.txt", folder / "vocab.txt")
        nearest = 1.0
        for prompt, text in zip(self.prompts, texts, strict=True):
            ids = self.encoder.tokenizer([prompt])[:, : text.words.shape[1]]
            cosine = torch.cosine_similarity(tower(ids)[0], text.sentence).item()
            nearest = min(nearest, cosine)
        return {
            "Size of the text tower in MB": (folder / "text.onnx").stat().st_size / 1e6,
            "Smallest cosine of its sentences with those of the encoder": nearest,
        }


def can_read_text(snapshot: Snapshot) -> bool:
    """Whether the text tower of the network's encoder is small enough for a web page."""
    return snapshot.generator.reads_text and snapshot.text_encoder.partition(":")[0] in SPECS


def _page_files(folder: Path) -> list[str]:
    if json_with(formats.MARK, "files")(folder / FACTS):
        raise UserError(f"no {FACTS} of export.py --format html")
    return read_json(folder / FACTS)["files"]


page_fault = whole_folder(_page_files)  # ownership rule (`dnnlib.ownership`) of such folders
