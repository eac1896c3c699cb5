"""Code that prepares and reads captioned pictures.

The pictures themselves lie in `data/`, which git ignores. This package hides the Hugging Face
package `datasets`, so none of the project's dependencies may import that package.
Import the modules, not this package: `from datasets.text_image import TextImageDataset`.
"""
