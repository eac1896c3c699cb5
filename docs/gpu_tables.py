"""The tables of figures that GPUs gave, measured or modelled, for docs/figure_tables.py."""

from __future__ import annotations

from docs.figure_records import Record, markdown, only

# Milliseconds a picture in bf16 on an H200, by the side of the picture.
TARGETS = {256: 0.27, 512: 0.7, 1024: 2.0, 2048: 6.5}


def _times(slow: float, fast: float) -> str:
    return f"{slow / fast:.1f} x"


def gpu_forward(record: Record) -> str:
    """Milliseconds a picture, and peak memory, of a forward with batch 8."""
    rows = []
    for side, target in TARGETS.items():
        eager, ours, graph = (
            only(record["rows"], resolution=side, batch=8, variant=variant)
            for variant in ("eager", "ours", "graph")
        )
        shown = [f"{row['ms_per_image']:.2f}" for row in (eager, ours, graph)]
        faster = _times(eager["ms"], graph["ms"])
        memory = [f"{row['peak_mib']:,.0f}" for row in (eager, ours)]
        rows.append([str(side), *shown, f"{target:g}", faster, *memory])
    header = ["Side", "eager", "ours", "ours as a CUDA graph", "target on an H200"]
    return markdown([*header, "eager over graph", "MiB, eager", "MiB, ours"], rows)


def gpu_operators(record: Record) -> str:
    """Milliseconds and peak memory of operators at 1024 x 1024 with batch 8."""
    rows = []
    for op in dict.fromkeys(row["op"] for row in record["rows"]):
        eager, ours = (
            only(record["rows"], op=op, resolution=1024, variant=variant)
            for variant in ("eager", "ours")
        )
        cells = [f"{row['ms']:.2f}" for row in (eager, ours)]
        memory = [f"{row['peak_mib']:,.0f}" for row in (eager, ours)]
        rows.append([f"`{op}`", *cells, _times(eager["ms"], ours["ms"]), *memory])
    header = ["Operator, 1024 x 1024, batch 8, bf16", "eager, ms", "ours, ms", "eager over ours"]
    return markdown([*header, "MiB, eager", "MiB, ours"], rows)


def gpu_training(record: Record) -> str:
    """Milliseconds and peak memory of a training step."""
    rows = []
    for side in dict.fromkeys(row["resolution"] for row in record["rows"]):
        eager, ours = (
            only(record["rows"], part="step", resolution=side, variant=variant)
            for variant in ("eager", "ours")
        )
        cells = [f"{row['ms']:.0f}" for row in (eager, ours)]
        faster = f"{eager['ms'] / ours['ms']:.2f} x"
        memory = [f"{row['peak_mib']:,.0f}" for row in (eager, ours)]
        rows.append([f"{side} x {side}, batch {ours['batch']}", *cells, faster, *memory])
    header = ["Training step of `eidgan`, bf16", "eager, ms", "ours, ms", "eager over ours"]
    return markdown([*header, "MiB, eager", "MiB, ours"], rows)


def gpu_recipe_step(record: Record) -> str:
    """Milliseconds of a recipe's training step, from Python and as CUDA graphs."""
    rows = []
    for batch in dict.fromkeys(row["batch"] for row in record["rows"]):
        eager, graph = (
            only(record["rows"], batch=batch, variant=variant) for variant in ("eager", "graph")
        )
        cells = [f"{row['ms']:.0f}" for row in (eager, graph)]
        rate = f"{1000 / graph['ms_per_image']:,.0f}"
        rows.append([str(batch), *cells, _times(eager["ms"], graph["ms"]), rate])
    header = ["Batch", "from Python, ms", "as CUDA graphs, ms", "faster", "images/s as CUDA graphs"]
    return markdown(header, rows)


def scaling_model(record: Record) -> str:
    """The model of the sums of gradients over many GPUs."""
    rows = [
        [
            f"{row['gpus']} (one node)" if row["nodes"] == 1 else f"{row['gpus']}",
            f"{row['sent_bytes'] / 1e6:.0f} MB",
            *(f"{1000 * row[f'{link}_s']:.0f} ms" for link in ("fast", "slow")),
            *(f"{row[f'{link}_efficiency']:.3f}" for link in ("fast", "slow")),
            f"{1000 * row['gloo_s']:.0f} ms",
        ]
        for row in record["rows"]
    ]
    header = ["GPUs", "A rank sends", "Sums, fast", "Sums, slow", "Efficiency, fast"]
    return markdown([*header, "Efficiency, slow", "gloo, on the CPU"], rows)


ALL = (scaling_model, gpu_forward, gpu_operators, gpu_recipe_step, gpu_training)
