"""The tables of measured figures: a function of records for each, found by name in `TABLES`.

A function takes the records that the page names, in their order, and returns the lines of the
table. docs/figures.py puts them into the page.
"""

from __future__ import annotations

from collections.abc import Callable

from docs import gpu_tables, trained_tables
from docs.figure_records import Record, markdown, only


def table(record: Record) -> str:
    """A table that was written by hand: the record holds its `header` and its `rows` of texts."""
    return markdown(record["header"], record["rows"])


def ranks(record: Record) -> str:
    """Images/s of threads and of ranks, beside other busy processes."""
    busy = ("none", "one", "two")
    rows = []
    for row in record["rows"]:
        batch, others = row["batch"], row["busy"]
        kinds = [row["one thread"], row["two threads"], row["two ranks"]]
        idle = only(record["rows"], batch=batch, busy=0)["one thread"]
        rows.append(
            [
                f"{batch}, {busy[others]}",
                *(f"{rate:.1f}" for rate in kinds),
                f"{kinds[2] / idle:.2f} ({row['target']:g})",
            ]
        )
    last = "Ranks over one idle thread (target)"
    header = ["Batch, other busy processes", "One thread", "Two threads", "Two ranks", last]
    return markdown(header, rows)


def memory(record: Record) -> str:
    """Estimates of memory beside what real steps took, in MiB."""
    keys = ("estimate_mib", "allocated_mib", "resident_mib")
    rows = [
        [f"{row['recipe']}, {row['batch']}", *(f"{row[key]:,.1f}" for key in keys)]
        for row in record["rows"]
    ]
    header = ["Recipe, batch", "Estimate, MiB", "Allocator, MiB", "Growth of the process, MiB"]
    return markdown(header, rows)


def loaders(record: Record) -> str:
    """Images/s of loading from a zip and from shards, by the number of workers."""
    ways = ("zip", "shards, png", "shards, jpeg")
    rows = [[str(row["workers"]), *(f"{row[way]:.0f}" for way in ways)] for row in record["rows"]]
    return markdown(["Workers", "Zip", "Shards of PNG", "Shards of JPEG"], rows)


# The networks of the table, with their names on the page and the samples that it shows.
LINE_TABLES = {
    "eidgan-flowers64, 120.0 kimg": ("`eidgan-flowers64`, 120 kimg", (640, 1280, 2560, 5120)),
    "eidgan-flowers64, 40.0 kimg": ("`eidgan-flowers64`, 40 kimg", (2560,)),
    "eidgan-openmoji32, 5.0 kimg": ("`eidgan-openmoji32`, 5 kimg", (2560, 5120)),
    "eidgan-small, random weights": ("`eidgan-small`, random weights", (2560,)),
    "crepsclip-small, random weights": ("`crepsclip-small`, random weights", (2560,)),
    "eidgan, random weights": ("`eidgan` (256 px), random weights", (1280, 2560)),
}


def line_tables(*records: Record) -> str:
    """Errors of views that read their lines from a table, in steps of 8 bits."""
    measured = [row for record in records for row in record["rows"]]
    default = 10 * records[0]["default_per_cycle"]
    rows = []
    for network, (shown, counts) in LINE_TABLES.items():
        for samples in counts:
            row = only(measured, network=network, per_frame=samples)
            bold = f"**{samples:,}**" if samples == default else f"{samples:,}"
            errors = [f"{row['rms']:.3f}", f"{row['q999']:.2f}", f"{row['max']:.2f}"]
            rows.append([shown if samples == counts[0] else "", bold, *errors])
    header = ["Network", "Samples per frame", "Root mean square", "99.9 %", "Largest"]
    return markdown(header, rows)


def low_resolution(record: Record) -> str:
    """Processor seconds of small views of the presets for 256 pixels."""
    sides = ["256", "128", "64", "32"]
    rows = []
    for generator in dict.fromkeys(row["generator"] for row in record["rows"]):
        cells = [f"`{generator}`"]
        for side in sides:
            row = only(record["rows"], generator=generator, variant=side)
            faster = "" if side == "256" else f" ({row['speedup']:.1f})"
            cells.append(f"{row['cpu_ms'] / 1000:.2f}{faster}")
        rows.append(cells)
    return markdown(["Network", *sides], rows)


def export_speed(record: Record) -> str:
    """Processor seconds of one picture by our code and by exported graphs."""
    variants = ("ours", "program", "onnxruntime")
    rows = []
    for first in record["rows"][:: len(variants)]:
        name, side = first["generator"], first["resolution"]
        digits = 3 if name == "eidgan-small" else 2
        seconds = [
            only(record["rows"], generator=name, resolution=side, variant=variant)["cpu_ms"] / 1000
            for variant in variants
        ]
        rows.append([f"`{name}`", str(side), *(f"{value:.{digits}f}" for value in seconds)])
    return markdown(["Network", "Side", "Ours", "torch.export program", "onnxruntime"], rows)


def _seconds(record: Record, dtype: str, variant: str) -> float:
    return only(record["rows"], dtype=dtype, variant=variant)["cpu_ms"] / 1000


def generator_256(*records: Record) -> str:
    """Seconds of a batch of `eidgan` at 256 x 256: one record for each number of pictures."""
    targets, rows = {1: "1.9 x, 3.3 x", 4: "2.8 x, 5 x"}, []
    for record in records:
        batch, literal = record["rows"][0]["batch"], _seconds(record, "fp32", "literal")
        timed = any(row["variant"] == "eager" for row in record["rows"])
        ref = f"{_seconds(record, 'fp32', 'eager'):.2f}" if timed else "not timed"
        ours = [_seconds(record, dtype, "ours") for dtype in ("fp32", "bf16")]
        rows.append(
            [
                f"batch {batch}",
                f"{literal:.3g}",
                ref,
                *(f"{value:.2f} (**{literal / value:.1f} x**)" for value in ours),
                targets[batch],
            ]
        )
    header = ["`eidgan`, 256 x 256, seconds a batch", "literal fp32", "`--ops ref` fp32"]
    return markdown([*header, "ours fp32", "ours bf16", "target fp32, bf16"], rows)


def generator_1024(record: Record) -> str:
    """Seconds and memory of one picture of `eidgan` at 1024 x 1024."""
    cases = [("fp32", "literal"), ("fp32", "ours"), ("bf16", "ours")]
    found = [only(record["rows"], dtype=dtype, variant=variant) for dtype, variant in cases]
    first, *ours = (row["cpu_ms"] / 1000 for row in found)
    seconds = [f"{first:.1f}", *(f"{value:.2f} (**{first / value:.1f} x**)" for value in ours)]
    return markdown(
        [
            "`eidgan`, 1024 x 1024, batch 1, one run",
            "literal fp32",
            "ours fp32",
            "ours bf16",
            "target",
        ],
        [
            ["processor seconds", *seconds, "4 x, 6.5 x"],
            ["peak memory above start, MiB", *(f"{row['peak_mib']:,.0f}" for row in found), ""],
        ],
    )


def systems(record: Record) -> str:
    """Seconds of a batch of EIDGAN and of StyleGAN2."""
    shown = {
        "stylegan2clip": ("`stylegan2clip`, full width", ""),
        "eidgan": ("`eidgan`", "not slower"),
        "eidgan-fast": ("`eidgan-fast` (thickness 4, 16 features)", "0.5"),
    }
    against = only(record["forwards"], system="stylegan2clip")["cpu_s"]
    rows = []
    for system, (name, target) in shown.items():
        row = only(record["forwards"], system=system)
        counted, seconds = f"{row['macs'] / 1e9:.1f}", row["cpu_s"]
        rows.append([name, counted, f"{seconds:.2f}", f"{seconds / against:.2f}", target])
    header = ["256 x 256, batch 4, fp32, interleaved", "GMAC", "processor seconds"]
    return markdown([*header, "against StyleGAN2", "target"], rows)


def operators(record: Record) -> str:
    """How much faster our operators are than `--ops ref`."""
    shown = {
        "biline_decode": "`biline_decode`",
        "biline_decode+backward": "with its backward",
        "biline_render": "`biline_render`",
    }
    rows = [
        [
            name,
            *(
                f"{only(record['rows'], op=op, dtype=dtype, variant='ours')['speedup']:.2f} x"
                for dtype in ("fp32", "bf16")
            ),
        ]
        for op, name in shown.items()
    ]
    return markdown(["Operator at 256, batch 1, against `--ops ref`", "fp32", "bf16"], rows)


def compiled(record: Record) -> str:
    """Our path beside eager PyTorch and torch.compile."""
    title = "`eidgan`, 256 x 256, batch 1, processor seconds (7 and 3 rounds, load 4)"
    rows = [
        [dtype, *(f"{_seconds(record, dtype, kind):.2f}" for kind in ("eager", "compile", "ours"))]
        for dtype in ("fp32", "bf16")
    ]
    return markdown([title, "eager", "torch.compile of it", "ours"], rows)


def against(record: Record) -> str:
    """Seconds of a call before and after a change."""
    names = {"forward": "forward", "backward": "forward and backward of G"}
    rows = [
        [
            f"{names[row['part']]} at {row['resolution']} x {row['resolution']}, "
            f"batch {row['batch']}, {row['rounds']} rounds",
            *(f"{row[key]:.2f}" for key in ("other_cpu_s", "cpu_s", "ratio")),
        ]
        for row in sorted(
            record["rows"], key=lambda row: (-row["resolution"], row["part"] != "forward")
        )
    ]
    return markdown(["`eidgan`, seconds a call", "before", "now", "median ratio"], rows)


def checkpoints(record: Record) -> str:
    """What the loop loses to a checkpoint, as medians in seconds."""
    median = record["median"]
    loop, thread = (median["pause_s"][who] for who in ("the loop writes", "a thread writes"))
    lost = median["lost_s"]
    header = ["", "Pause of the loop", "The steps during the write are slower by", "Together"]
    return markdown(
        header,
        [
            ["the loop writes", f"{loop:.2f} s", "-", f"{loop:.2f} s"],
            ["a thread writes", f"{thread:.2f} s", f"{lost:.2f} s", f"{thread + lost:.2f} s"],
        ],
    )


def faults(record: Record) -> str:
    """Faults, how often each was caused, and how often a command recovered or lost something."""
    heading, *rows = record["table"]
    return markdown([word.capitalize() for word in heading], rows)


def explorer_clients(record: Record) -> str:
    """Tiles a second that the explorer serves, by the number of clients."""
    rows = [
        [
            str(row["clients"]),
            f"{row['tiles_per_s']:.1f}",
            f"{row['median_wait_s']:.2f} s",
            f"{row['memory_mib']:,} MiB",
        ]
        for row in record["rows"]
        if row["case"] == "tiles"
    ]
    header = ["Clients at once", "Tiles a second", "Median wait for a tile"]
    return markdown([*header, "Memory of the server"], rows)


def picture_sizes(record: Record) -> str:
    """Time and memory of one picture, by its side."""
    rows = []
    for row in record["rows"]:
        drawn, tiles, seconds = row["tiles_drawn"], row["tiles"], row["cpu_s_of_all"]
        share = "" if drawn == tiles else f" ({100 * drawn / tiles:.2g} %)"
        exact = f"{seconds:.2f} s" if seconds < 1 else f"{float(f'{seconds:.3g}'):.4g} s"
        rows.append(
            [
                f"{row['size']:,}",
                f"{drawn:,} of {tiles:,}{share}",
                f"about {seconds / 60:.0f} min, extrapolated" if share else exact,
                f"{row['peak_mib']:.0f} MiB",
                f"{row['peak_mib'] - row['base_mib']:.0f} MiB",
            ]
        )
    header = ["Side", "Tiles drawn", "Processor time", "Peak memory"]
    return markdown([*header, "Of it, added by drawing"], rows)


def start_up(record: Record) -> str:
    """Processor time and memory of whole commands, before a change and now."""
    rows = []
    for before in record["rows"]:
        if before["side"] == "before":
            now, other = (
                only(record["rows"], case=before["case"], side=side)
                for side in ("now", "other torch")
            )
            seconds = [f"{row['cpu_s']:.2f} s" for row in (before, now)]
            memory = [f"{row['peak_mib']:.0f} MiB" for row in (before, now, other)]
            rows.append([f"`{before['case']}`", *seconds, *memory])
    header = ["", "Processor time before", "now", "Peak memory before", "now"]
    return markdown([*header, "now, PyTorch without CUDA"], rows)


def detectors(record: Record) -> str:
    """Speed of the detectors alone and in the runner."""
    rows = []
    for name in ("inception", "dinov2:small", "lite2", "small-heldout", "toy"):
        row = only(record["rows"], detector=name)
        rates = (row["detector_per_s"], row["runner_per_s"])
        shown = [f"{rate:.1f}" if rate < 10 else f"{rate:.0f}" for rate in rates]
        rows.append([f"`{name}`", *shown, f"{row['share']:.2f}"])
    return markdown(["Detector", "alone, images/s", "runner, images/s", "share"], rows)


def floors(record: Record) -> str:
    """What real pictures score."""

    def cell(row: Record, form: str) -> str:
        return form.format(**row, **row.get("parts", {}))

    shown = {
        "swd": "{value:.1f} (64 px: {64:.1f}, 32 px: {32:.1f}, 16 px: {16:.1f})",
        "lattice": "{value:.2f}, peak {peak:.2f}",
        "motif": "{value:.2f}",
        "ppd": "{value:.2f}",
        "kid_lite2": "{value:.3f}",
        "pr_lite2": "precision {value:.2f}, recall {recall:.2f}",
        "dc_lite2": "density {value:.2f}, coverage {coverage:.2f}",
    }
    pictures = ("train against test", "half of test against the other half")
    rows = []
    for metric, form in shown.items():
        found = [only(record["rows"], metric=metric, pictures=each) for each in pictures]
        if metric == "swd":  # a field of str.format must not begin with a digit
            found = [
                row | {"parts": {f"p{k}": v for k, v in row["parts"].items()}} for row in found
            ]
            form = form.replace("{64", "{p64").replace("{32", "{p32").replace("{16", "{p16")
        seconds = f"{found[0]['cpu_seconds']:.2g}"
        rows.append([f"`{metric}`", *(cell(row, form) for row in found), seconds])
    near = only(record["rows"], metric="nearest_train_lite2")
    halves = f"{near['value']:.3f}, median {near['parts']['ratio']:.2f} of the test median"
    copies, seconds = "1, since they are copies", f"{near['cpu_seconds']:.2g}"
    rows.append(["`nearest_train_lite2`", copies, halves, seconds])
    header = ["Evaluation", "1,000 training pictures against 1,568 test pictures"]
    return markdown([*header, "784 test pictures against the other 784", "Seconds"], rows)


def sensitivity(record: Record) -> str:
    """The value of each measure after each damage."""
    header = ["Damage", *record["rows"][0]["values"]]
    rows = [
        [row["damage"], *(f"{value:.3g}" for value in row["values"].values())]
        for row in record["rows"]
    ]
    return markdown(header, rows)


def small_encoders(*records: Record) -> str:
    """Retrieval by the small encoders, on concepts that they were not trained on."""
    shown = {
        ("openmoji128", "native"): "OpenMoji 128 px",
        ("openmoji128", "32px"): "OpenMoji 32 px",
        ("flowers64", "native"): "flowers 64 px",
    }
    rows = []
    for record in records:
        for (data, side), name in shown.items():
            found = only(record["data"], name=data)["unseen_concepts"][side]
            ways = (found["image_to_text"], found["text_to_image"])
            cosines = f"{found['cosine_matched']:.3f} / {found['cosine_mismatched']:.3f}"
            shares = [" / ".join(f"{way[f'R@{k}']:.1f}" for k in (1, 5, 10)) for way in ways]
            rows.append([f"`{record['encoder']}`, {name}", *shares, cosines])
    header = ["Encoder, data, picture size", "image to text R@1 / 5 / 10"]
    return markdown([*header, "text to image R@1 / 5 / 10", "cosine matched / mismatched"], rows)


TABLES: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        table,
        ranks,
        memory,
        loaders,
        line_tables,
        low_resolution,
        export_speed,
        generator_256,
        generator_1024,
        systems,
        operators,
        compiled,
        against,
        checkpoints,
        faults,
        explorer_clients,
        picture_sizes,
        start_up,
        detectors,
        floors,
        sensitivity,
        small_encoders,
        *trained_tables.ALL,
        *gpu_tables.ALL,
    )
}
