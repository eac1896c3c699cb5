"""The options of generate.py that say where its pictures come from: `--codes`, `--lerp`,
`--lerp-seeds`, `--lerp-in`, `--blend`, `--mix`, `--mix-codes`.

`edit_options` adds them to a click command, which then takes one argument `edits`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from dnnlib.errors import UserError
from dnnlib.files import file_fact
from dnnlib.number_options import FiniteFloat
from dnnlib.prompts import fitting_prompts, read_prompts
from dnnlib.seeds import parse_seeds

if TYPE_CHECKING:
    from networks.code_edits import Drawing, Sampler, Space
    from networks.interfaces import Codes
    from networks.snapshot import Snapshot

Pairs = list[tuple[str, int]]  # prompt and seed of every picture

_OPTIONS = (
    click.option(
        "--codes",
        metavar="FILE",
        help="Draw the codes in this file of project.py, in place of prompts and seeds.",
    ),
    click.option(
        "--lerp",
        type=(str, str, click.IntRange(2, 10000)),
        metavar="TEXT TEXT N",
        help="Draw N pictures from one prompt to another for each seed, in place of --prompts.",
    ),
    click.option(
        "--lerp-seeds",
        type=(click.IntRange(0), click.IntRange(0), click.IntRange(2, 10000)),
        metavar="SEED SEED N",
        help="Draw N pictures from one seed to another for each prompt, in place of --seeds.",
    ),
    click.option(
        "--lerp-in",
        type=click.Choice(["inputs", "codes", "weights"]),
        help="What --lerp and --lerp-seeds interpolate. inputs: the latents and the features of "
        "the text; codes: the style codes; weights: the weights of each picture's network "
        "(systems inrgan, cips, creps).  [default: codes]",
    ),
    click.option(
        "--blend",
        type=(str, click.IntRange(min=0), FiniteFloat(0, 1)),
        metavar="TEXT SEED W",
        help="Draw each picture at W (0 to 1) on the straight line from its codes to those of this "
        "prompt and seed. The text of a network without text is ''.",
    ),
    click.option(
        "--mix",
        type=click.IntRange(min=0),
        metavar="SEED",
        help="Take some style codes of each picture from this seed (style mixing).",
    ),
    click.option(
        "--mix-codes",
        metavar="LIST",
        help="Numbers of the style codes that --mix replaces, such as 0,2-3.  "
        "[default: the second half]",
    ),
)


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """The values of the options, as they were typed."""

    codes: str | None = None
    lerp: tuple[str, str, int] | None = None
    lerp_seeds: tuple[int, int, int] | None = None
    lerp_in: Space | None = None
    blend: tuple[str, int, float] | None = None
    mix: int | None = None
    mix_codes: str | None = None

    def check(
        self, texts: list[str], seeds: list[int], trunc: float, text_noise: float | None
    ) -> None:
        """Raises `UserError` for an option that would change nothing beside another."""
        names = ("codes", "lerp", "lerp-seeds", "blend", "mix")
        values = (self.codes, self.lerp, self.lerp_seeds, self.blend, self.mix)
        given = [name for name, value in zip(names, values, strict=True) if value is not None]
        first, *others = given or [""]
        useless = {"prompts": bool(texts), "seeds": seeds != [0], "trunc": trunc != 1}
        useless["text-noise"] = text_noise is not None
        replaced = {"codes": list(useless), "lerp": ["prompts"], "lerp-seeds": ["seeds"]}
        others += [name for name in replaced.get(first, []) if useless[name]]
        if others:
            raise UserError(f"--{others[0]} has no effect on --{first}; leave it out")
        if self.lerp_in is not None and first not in ("lerp", "lerp-seeds"):
            raise UserError("--lerp-in: needs --lerp TEXT TEXT N or --lerp-seeds SEED SEED N")
        if self.mix_codes is not None and self.mix is None:
            raise UserError("--mix-codes: needs --mix SEED, the seed of the other style codes")

    def pictures(
        self, snapshot: Snapshot, texts: list[str], seeds: list[int], network: str
    ) -> tuple[list[str], list[int], Codes | None]:
        """Texts and seeds, of which each pair is a picture, and the codes of --codes.

        Raises `UserError` where prompts, codes and network do not fit together.
        """
        from networks.codes_file import load_codes

        reads_text = snapshot.generator.reads_text
        if self.codes is not None:
            codes, facts = load_codes(self.codes, snapshot)
            return [facts.get("prompt", "")], list(range(len(codes))), codes
        if self.lerp is not None:
            *ends, num = self.lerp
            ends = fitting_prompts(read_prompts(tuple(ends), None), reads_text, network)
            return [" to ".join(ends)], [seed for seed in seeds for _ in range(num)], None
        if self.lerp_seeds is not None:
            first, _, num = self.lerp_seeds
            seeds = [first] * num
        if self.blend is not None:
            text = self.blend[0]
            fitting_prompts(read_prompts((text,), None) if text else [], reads_text, network)
        return fitting_prompts(texts, reads_text, network), seeds, None

    def prompts(self, texts: list[str]) -> list[str]:
        """What the text encoder reads."""
        if self.blend is not None:
            return [*texts, self.blend[0]]
        return texts if self.lerp is None else list(self.lerp[:2])

    def facts(self) -> dict[str, str]:
        """What the files say of codes from a file, of style mixing and of an interpolation."""
        if self.codes is not None:
            return {"codes": file_fact(self.codes)}
        if self.mix is not None:
            return {"mix": f"style codes {self.mix_codes or 'of the second half'}: seed {self.mix}"}
        if self.blend is not None:
            text, seed, weight = self.blend
            return {"blend": f"{weight} to {text!r} with seed {seed}"}
        ends = self.lerp or self.lerp_seeds
        if ends is None:
            return {}
        first, last, num = ends
        kind = "" if self.lerp else "seed "
        return {"lerp": f"{num} from {kind}{first} to {kind}{last} in {self.lerp_in or 'codes'}"}

    def drawing_of(
        self, sampler: Sampler, pairs: Pairs, codes: Codes | None
    ) -> Callable[[int], Drawing]:
        """A function of the number of a picture: the generator that draws it, and its codes.

        pairs and codes: of `pictures`. Raises `UserError` for style codes, or weights of a picture,
        that the network does not have.
        """
        from networks.code_edits import mixed, mixed_numbers
        from networks.weight_interpolation import drawn_by_weights

        generator, space = sampler.generator, self.lerp_in or "codes"
        if space == "weights":
            drawn_by_weights(generator)
        if codes is not None:
            device = generator.tokens_mean.device
            moved = replace(
                codes, tokens=codes.tokens.to(device), sentence=codes.sentence.to(device)
            )
            return lambda i: (generator, moved[i : i + 1])
        if self.lerp is not None:
            first, last, num = self.lerp

            def between_prompts(i: int) -> Drawing:
                seed, weight = pairs[i][1], i % num / (num - 1)
                return sampler.between((first, seed), (last, seed), weight, space)

            return between_prompts
        if self.lerp_seeds is not None:
            *ends, num = self.lerp_seeds

            def between_seeds(i: int) -> Drawing:
                (a, b), weight = ((pairs[i][0], seed) for seed in ends), i % num / (num - 1)
                return sampler.between(a, b, weight, space)

            return between_seeds
        if self.blend is not None:
            text, last_seed, weight = self.blend
            return lambda i: sampler.between(pairs[i], (text, last_seed), weight, "codes")
        if self.mix is not None:
            seed = self.mix
            chosen = None if self.mix_codes is None else parse_seeds(self.mix_codes, "--mix-codes")
            numbers = mixed_numbers(generator, chosen)

            def of_two_seeds(i: int) -> Drawing:
                codes, other = sampler.codes(pairs[i]), sampler.codes((pairs[i][0], seed))
                return generator, mixed(codes, other, numbers)

            return of_two_seeds
        return lambda i: (generator, sampler.codes(pairs[i]))


def edit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a function below `click.command`, and pass it their `EditOptions`."""

    @functools.wraps(command)
    def with_edits(*args: Any, **values: Any) -> Any:
        taken = {f.name: values.pop(f.name) for f in fields(EditOptions)}
        return command(*args, edits=EditOptions(**taken), **values)

    for option in reversed(_OPTIONS):
        with_edits = option(with_edits)
    return with_edits
