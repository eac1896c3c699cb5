"""Code that prepares and reads captioned pictures. The pictures themselves live in `data/`, which git ignores.

This package hides the Hugging Face package of the same name, so no dependency of ours may need that one.
Import the modules, not this package: `from datasets.text_image import TextImageDataset`.
"""
