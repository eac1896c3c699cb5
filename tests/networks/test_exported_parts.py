"""A generator as two graphs, and the text tower with rounded weights, computed by PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from networks.coordinates import View
from networks.exported_parts import ExportedCodes, ExportedSynthesis
from networks.generators import preset
from networks.interfaces import TextFeatures
from networks.sampling import codes_of
from networks.text_encoders.exported_small import rounded

SMALL = replace(preset("eidgan-tiny"), channels=(16,), refinement=(8,), decoder_hidden=())
CONFIGS = {
    "bypass": SMALL,
    "mapped": replace(SMALL, bypass=False),
    "words": replace(SMALL, sentence_dim=0),
    "creps": preset("creps-tiny"),
    "none": replace(SMALL, sentence_dim=0, word_dim=0),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_both_graphs_together_draw_what_the_generator_draws(name):
    config, draws = CONFIGS[name], torch.Generator().manual_seed(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = config.build().eval().requires_grad_(False)
    codes = ExportedCodes(generator)
    synthesis = ExportedSynthesis(codes)

    def normal(*shape):
        return torch.randn(1, *shape, generator=draws)

    z, noise, length, psi = normal(*generator.latent_shape), normal(config.sentence_dim), 0.4, 0.6
    words = normal(7, config.word_dim)
    text = TextFeatures(normal(config.sentence_dim), words, torch.ones(1, 7, dtype=torch.bool))
    view = View(height=9, width=7, box=(-0.2, 0.1, 0.9, 1.4))
    read = text.perturbed(noise, length) if config.sentence_dim else text
    drawn = codes_of(generator, z, read if generator.reads_text else None, psi)
    expected = generator.synthesis(drawn, view)

    known = {"z": z, "sentence": text.sentence, "words": words, "noise": noise}
    known |= {"noise_length": torch.tensor([length]), "psi": torch.tensor([psi])}
    known |= {"rows": view.rows(), "columns": view.columns()}
    for graph in (codes, synthesis):
        found = graph(*(known[one] for one in graph.input_names))
        found = found if isinstance(found, tuple) else (found,)
        known |= dict(zip(graph.output_names, found, strict=True))
    torch.testing.assert_close(known["image"], expected, rtol=1e-4, atol=1e-4)
    assert ("bypass" in known) == (drawn.sentence.shape[1] > 0)
    assert set(synthesis.example()) == {*codes.output_names, "rows", "columns"}


def test_rounded_layers_keep_each_weight_to_half_a_step():
    torch.manual_seed(0)
    module: Any = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 3), nn.LayerNorm(3))
    with torch.no_grad():
        module[0].weight[3] = 0  # a row without a scale
        module[1].weight[1] *= 100
    before = [parameter.clone() for parameter in module.parameters()]
    copy: Any = rounded(module)
    ids = torch.tensor([[0, 3, 4]])
    embedded = module[0](ids)
    step = module[0].weight.abs().amax(dim=1) / 127
    assert ((copy[0](ids) - embedded).abs() <= 0.501 * step[ids].unsqueeze(2)).all()
    # Where one weight of a row is read, its rounding shows.
    unit = torch.eye(8)
    step = module[1].weight.abs().amax(dim=1) / 127
    assert ((copy[1](unit) - module[1](unit)).abs() <= 0.501 * step).all()
    assert copy[0].integers.dtype == copy[1].integers.dtype == torch.int8
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))
