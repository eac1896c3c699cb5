"""Tables of the trained networks: their scores, their learning curves and their detail."""

from __future__ import annotations

from statistics import mean, stdev

from docs.figure_records import Record, markdown, only

SCORES = {
    "kid_lite2": "`kid_lite2`",
    "swd": "`swd`",
    "pr_lite2": "precision / recall",
    "motif": "`motif`",
    "ppd": "`ppd`",
    "clip_s_small_heldout": "`clip_s_small_heldout` (shuffled)",
    "clip_r_small": "`clip_r_small` (real)",
}
# The further field of a score that its cell shows, with its place in the text.
FURTHER = {
    "pr_lite2": ("recall", " / {:.3f}"),
    "clip_s_small_heldout": ("shuffled", " ({:.3f})"),
    "clip_r_small": ("real", " ({:.3f})"),
}


def shipped(*records: Record) -> str:
    """The scores of the networks that come with the repository, on the test split."""
    rows = []
    for record in records:
        cells = []
        for metric in SCORES:
            row = only(record["rows"], metric=metric)
            field, form = FURTHER.get(metric, ("value", ""))
            cells.append(f"{row['value']:.3g}" + form.format(row[field]))
        rows.append([f"`{record['network']}`", f"{record['info']['kimg']:.0f}", *cells])
    return markdown(["Network", "kimg", *SCORES.values()], rows)


def learning_curve(record: Record) -> str:
    """The scores of the snapshots of a run; the chosen one is bold."""
    metrics = record["metrics"].split(",")
    rows = []
    for row in record["rows"]:
        values = [row["scores"].get(metric) for metric in metrics]
        cells = ["none" if value is None else f"{value:.3g}" for value in values]
        cells.insert(0, f"{row['kimg']:.0f}")
        chosen = row["kimg"] == record["best_kimg"]
        rows.append([f"**{cell}**" if chosen else cell for cell in cells])
    return markdown(["kimg", *(f"`{metric}`" for metric in metrics)], rows)


def detail_power(*records: Record) -> str:
    """How much an enlargement of real pictures raises KID, by the input size of the network."""
    rows = [
        [
            f"{record['data']}, {record['factor']}",
            str(row["input_px"]),
            f"{row['kid_real']:.4f}",
            f"{row['gap']:.4f} +- {row['gap_sd']:.4f}",
            f"{row['gap_over_real']:.1f}",
            f"{row['cpu_seconds_a_picture']:.3f}",
        ]
        for record in records
        for row in record["rows"]
    ]
    header = ["Pictures, factor", "Read at, px", "KID of real", "Rise by enlargement"]
    return markdown([*header, "Ratio", "CPU s a picture"], rows)


def detail(*records: Record) -> str:
    """Scores of large renders, those of enlarged ones in brackets: means over seeds."""
    rows, every = [], [row for record in records for row in record["rows"]]
    metrics = sorted(name for name in every[0]["scores"] if name.startswith("detail_"))
    for network in dict.fromkeys(row["network"] for row in every):
        runs = [row for row in every if row["network"] == network]
        minutes = [row["minutes"] for row in runs if row["minutes"]]
        cells = [network, str(len(runs)), f"{mean(minutes):.0f}" if minutes else "0"]
        for metric in metrics:
            scores = [row["scores"][metric] for row in runs]
            values = [score["value"] for score in scores]
            spread = f" +- {stdev(values):.3f}" if len(runs) > 1 else ""
            enlarged = mean(score["enlarged"] for score in scores)
            cells.append(f"{mean(values):.3f}{spread} ({enlarged:.3f})")
        rows.append(cells)
    header = ["Training", "Seeds", "Minutes"]
    return markdown([*header, *(f"`{metric}`" for metric in metrics)], rows)


ALL = (shipped, learning_curve, detail_power, detail)
