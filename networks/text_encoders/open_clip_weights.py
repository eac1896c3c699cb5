"""From `MODEL/TAG` or `MODEL/FILE` to an open_clip model with weights.

The weights of a tag come from the local cache, or else from the network. A file is read as
safetensors or as a torch checkpoint of plain tensors; no code in it is executed. Weights that would
load but give wrong features without an error are refused.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from dnnlib.config_codec import nearest
from dnnlib.errors import UserError
from dnnlib.weight_files import open_tensors
from networks.pretrained.hub import cached_file, check_network


def create_model(model_name: str, weights: str) -> Any:
    """An open_clip model with a pretrained tag or a local checkpoint. Raises `UserError`."""
    import open_clip

    _check_name(model_name)
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if weights in tags:
        _check_quick_gelu(model_name, weights)
        path = _find_tag(model_name, weights)
    elif not weights:
        raise UserError(
            f"open_clip:{model_name}: weights are missing; write open_clip:{model_name}/TAG or "
            f"open_clip:{model_name}/FILE"
        )
    elif Path(weights).is_file():
        _warn_of_quick_gelu(model_name, weights)
        path = weights
    else:
        raise UserError(
            f"open_clip:{model_name}/{weights}: {weights!r} is neither a file nor a pretrained tag "
            f"of {model_name}; {nearest(weights, tags or ['(no tags)'])}"
        )
    check_checkpoint(Path(path))
    # Mean and std of the pictures depend on the tag. A file does not name its tag, so the model's
    # first tag is assumed.
    statistics = (
        open_clip.get_pretrained_cfg(model_name, weights if weights in tags else tags[0])
        if tags
        else {}
    )
    try:
        return open_clip.create_model(model_name, pretrained=path, force_preprocess_cfg=statistics)
    except (RuntimeError, KeyError, AttributeError) as error:
        reason = _first_line(error)
        raise UserError(
            f"{path} does not hold the weights of open_clip model {model_name} ({reason})"
        ) from None


def create_untrained(model_name: str) -> Any:
    """An open_clip model with random weights. Raises `UserError` for an unknown name."""
    import open_clip

    _check_name(model_name)
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # open_clip warns that there are no weights
    try:
        return open_clip.create_model(model_name, load_weights=False)
    finally:
        log.setLevel(level)


def model_widths(model_name: str) -> tuple[int, int]:
    """(sentence_dim, word_dim) from the model's configuration.

    open_clip ships the configurations, except those of Hugging Face text models: these come from
    the local cache, or else from the hub. Raises `UserError` for an unknown model and for a
    configuration that cannot be downloaded.
    """
    import open_clip

    _check_name(model_name)
    config = open_clip.get_model_config(model_name)
    text = config["text_cfg"]
    if "width" not in text and "hf_model_name" in text:
        return config["embed_dim"], _hugging_face_width(text["hf_model_name"])
    return config["embed_dim"], text.get("width", open_clip.CLIPTextCfg.width)


def _check_name(model_name: str) -> None:
    import open_clip

    known = open_clip.list_models()
    if model_name not in known:
        raise UserError(f"open_clip has no model {model_name!r}; {nearest(model_name, known)}")


def _hugging_face_width(repository: str) -> int:
    """Width of the word features of a Hugging Face text model, from its `config.json`."""
    from transformers import AutoConfig

    try:
        if not Path(repository).is_dir() and not cached_file(repository, "config.json"):
            check_network()
        return AutoConfig.from_pretrained(repository).hidden_size
    except OSError as error:
        raise UserError(
            f"config.json of the text model {repository} is not in the local cache and could not "
            f"be downloaded ({_first_line(error)}); copy the cache folder ($HF_HOME, by default "
            "~/.cache/huggingface) here from a machine that has this file"
        ) from None


def create_tokenizer(model_name: str) -> Any:
    """The model's tokenizer. Raises `UserError` where it cannot be downloaded.

    CLIP's vocabulary ships with open_clip; other vocabularies come from the local cache or the hub.
    """
    import open_clip

    try:
        return open_clip.get_tokenizer(model_name)
    except OSError as error:
        raise UserError(
            f"the tokenizer of {model_name} is not in the local cache and could not be downloaded "
            f"({_first_line(error)}); run open_clip.get_tokenizer({model_name!r}) on a machine "
            "with network and copy its cache folder ($HF_HOME, by default "
            "~/.cache/huggingface) here"
        ) from None


def check_checkpoint(path: Path) -> None:
    """Raises `UserError` unless the file is safetensors or a torch checkpoint of plain tensors."""
    from safetensors import SafetensorError

    if path.suffix == ".safetensors":
        try:
            with open_tensors(path):
                return
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is not a safetensors file ({_first_line(error)})") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a checkpoint of plain tensors ({_first_line(error)}); "
            "convert it to safetensors"
        ) from None
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"{path} is not a checkpoint: expected a dictionary of tensors, "
            f"got {type(content).__name__}"
        )


def _find_tag(model_name: str, tag: str) -> str:
    """Path of a tag's weight file in the local cache, downloaded if it is missing.

    Raises `UserError` that says which file to fetch and where to put it.
    """
    import open_clip

    config = open_clip.get_pretrained_cfg(model_name, tag)
    cached = _cached_hub_file(config.get("hf_hub", ""))
    if cached:
        return cached
    try:
        if config.get("hf_hub"):
            check_network()
        return open_clip.download_pretrained(config)
    except OSError as error:
        raise UserError(
            f"the weights {model_name}/{tag} are not in the local cache and could not be "
            f"downloaded ({_first_line(error)}). On a machine with network run: "
            f'python -c "import open_clip; '
            f"open_clip.create_model('{model_name}', pretrained='{tag}')\" and copy its cache "
            "folder ($HF_HOME, by default ~/.cache/huggingface) here, or copy the weight file "
            f"alone and pass open_clip:{model_name}/FILE; the encoder 'small' needs no download"
        ) from None


def _cached_hub_file(hub: str) -> str | None:
    """Path of a weight file in the local cache, or None. safetensors come first, as in open_clip.

    hub: 'org/name/' or 'org/name/file', as open_clip writes it.
    """
    repository, name = os.path.split(hub)
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    stem = os.path.splitext(names[0])[0]
    for candidate in dict.fromkeys([f"{stem}.safetensors", *names] if repository else []):
        path = cached_file(repository, candidate)
        if path:
            return path
    return None


def _check_quick_gelu(model_name: str, tag: str) -> None:
    """Raise `UserError` where model and tag differ in their activation, QuickGELU or GELU.

    The tensors would fit, but the features would be wrong without an error.
    """
    import open_clip

    trained = bool((open_clip.get_pretrained_cfg(model_name, tag) or {}).get("quick_gelu", False))
    built = bool(open_clip.get_model_config(model_name).get("quick_gelu", False))
    if trained != built:
        twin = model_name.removesuffix("-quickgelu") if built else f"{model_name}-quickgelu"
        raise UserError(
            f"open_clip:{model_name}/{tag}: these weights were trained "
            f"{'with' if trained else 'without'} QuickGELU, features would be silently wrong; "
            f"use open_clip:{twin}/{tag}"
        )


def _warn_of_quick_gelu(model_name: str, path: str) -> None:
    """Check the path of a weight file for QuickGELU; its content does not name the activation.

    Raises `UserError` where the path names OpenAI's weights and the model has no QuickGELU; prints
    a warning for other files of a model that exists in both forms.
    """
    import open_clip

    twin = f"{model_name}-quickgelu"
    if twin not in open_clip.list_models():
        return
    if "openai" in path.lower():
        raise UserError(
            f"open_clip:{model_name}/{path}: OpenAI's weights were trained with QuickGELU, "
            f"features would be silently wrong; use open_clip:{twin}/{path}"
        )
    print(
        f"Warning: {path} is loaded as {model_name}, without QuickGELU; if these weights are "
        f"OpenAI's, features are silently wrong: use open_clip:{twin}/{path}",
        file=sys.stderr,
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
