"""The options of generate.py that say where the codes of its pictures come from: `--codes`,
`--lerp`, `--mix`, `--mix-codes`.

`edit_options` adds them to a click command, which then takes one argument `edits`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from dnnlib.errors import UserError
from dnnlib.prompts import fitting_prompts, read_prompts
from dnnlib.seeds import parse_seeds

if TYPE_CHECKING:
    from networks.code_edits import Draw
    from networks.interfaces import Codes, Generator
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
        "--mix",
        type=int,
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
    mix: int | None = None
    mix_codes: str | None = None

    def check(self, texts: list[str], seeds: list[int], trunc: float) -> None:
        """Raises `UserError` for an option that would change nothing beside another."""
        names = ("codes", "lerp", "mix")
        first, *others = [name for name in names if getattr(self, name) is not None] or [""]
        useless = {"prompts": bool(texts)}
        if first == "codes":
            useless |= {"seeds": seeds != [0], "trunc": trunc != 1}
        if first in ("codes", "lerp"):
            others += [name for name, given in useless.items() if given]
        if others:
            raise UserError(f"--{others[0]} has no effect on --{first}; leave it out")
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
        return fitting_prompts(texts, reads_text, network), seeds, None

    def prompts(self, texts: list[str]) -> list[str]:
        """What the text encoder reads."""
        return texts if self.lerp is None else list(self.lerp[:2])

    def codes_of(
        self, generator: Generator, pairs: Pairs, codes: Codes | None, draw: Draw
    ) -> Callable[[int], Codes]:
        """A function of the number of a picture that gives its codes.

        draw: the codes of a prompt and a seed without an edit. codes: of `pictures`. Raises
        `UserError` for style codes that the network does not have.
        """
        from networks.code_edits import interpolated, mixed, mixed_numbers

        if codes is not None:
            device = generator.tokens_mean.device
            moved = replace(
                codes, tokens=codes.tokens.to(device), sentence=codes.sentence.to(device)
            )
            return lambda i: moved[i : i + 1]
        if self.lerp is not None:
            first, last, num = self.lerp
            return lambda i: interpolated(draw, first, last, pairs[i][1], i % num / (num - 1))
        if self.mix is not None:
            seed = self.mix
            chosen = None if self.mix_codes is None else parse_seeds(self.mix_codes, "--mix-codes")
            numbers = mixed_numbers(generator, chosen)
            return lambda i: mixed(draw(*pairs[i]), draw(pairs[i][0], seed), numbers)
        return lambda i: draw(*pairs[i])


def edit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a function below `click.command`, and pass it their `EditOptions`."""

    @functools.wraps(command)
    def with_edits(*args: Any, **values: Any) -> Any:
        taken = {f.name: values.pop(f.name) for f in fields(EditOptions)}
        return command(*args, edits=EditOptions(**taken), **values)

    for option in reversed(_OPTIONS):
        with_edits = option(with_edits)
    return with_edits
