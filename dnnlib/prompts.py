"""The prompts of a command line or of a file, checked."""

from __future__ import annotations

from pathlib import Path

from dnnlib.errors import UserError, reason_of

NO_PROMPT = (
    'no prompt; give --prompts "a red apple" (may be repeated) or --prompts-file FILE '
    "with one a line"
)


def read_prompts(prompts: tuple[str, ...], prompts_file: str | None) -> list[str]:
    """The prompts of the command line, then those of the file (one a line, blank lines skipped).

    The list is empty if neither is given. Raises `UserError` for an empty prompt, and for a file
    that cannot be read as UTF-8.
    """
    texts = [prompt.strip() for prompt in prompts]
    if prompts_file is not None:
        try:
            lines = Path(prompts_file).read_text(encoding="utf-8-sig").splitlines()
            texts += [line.strip() for line in lines if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(
                f"--prompts-file {prompts_file}: byte {error.start} is not UTF-8; save the file "
                "as UTF-8 text"
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            raise UserError(
                f"--prompts-file {prompts_file}: cannot be read ({reason_of(error)})"
            ) from None
    if not all(texts) or not texts and prompts_file is not None:
        raise UserError(NO_PROMPT)
    for prompt in texts:
        refuse_other_bytes("--prompts", prompt)
    return texts


def refuse_other_bytes(option: str, prompt: str) -> None:
    """Raise `UserError` for a prompt of this option whose bytes are not UTF-8."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{option} {prompt!r}: is not UTF-8 text; set the terminal to UTF-8"
        ) from None


def fitting_prompts(texts: list[str], reads_text: bool, network: str) -> list[str]:
    """The given prompts for a network that reads text; one empty prompt for any other network.

    network: the network's path, for messages. Raises `UserError` if a network that reads text gets
    no prompt, or another network gets one.
    """
    if reads_text and not texts:
        raise UserError(NO_PROMPT)
    if texts and not reads_text:
        raise UserError(
            f"--prompts: {network} was trained without text and reads no prompt; leave prompts out"
        )
    return texts or [""]
