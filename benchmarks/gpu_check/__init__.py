"""`make gpu-check`: what a GPU shows in eight minutes. docs/gpu_check.md says how to read it."""
