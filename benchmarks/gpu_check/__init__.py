"""`make gpu-check`: checks and timings on a GPU in eight minutes; docs/gpu_check.md explains it."""
