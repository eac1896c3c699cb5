"""The loop and what it is made of. Only the commands and configs/ import this package."""
