"""The training loop and its parts. Only the commands and configs/ import this package."""
