"""What scores of several seeds say: spread, pooled scatter, ranking, and differences of recipes.

Recipes are ranked by the mean over seeds of each metric. The standard deviation over seeds is
pooled over the recipes, because two or three seeds of one recipe hardly determine it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from benchmarks.comparison_scores import Run
from metrics.evaluations import EVALUATIONS, badness, better

Groups = dict[str, list[Run]]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Scatter:
    """The scatter of one metric over seeds.

    deviation: pooled standard deviation. freedom: its degrees of freedom. seeds: number of seeds of
    the means that are compared.
    """

    deviation: float
    freedom: int
    seeds: int

    @property
    def least(self) -> float:
        """The least significant difference of two means of `seeds` values each."""
        return self.half_width(self.seeds, self.seeds)

    def half_width(self, first: int, second: int) -> float:
        """Half the width of the confidence interval of the difference of two means.

        first, second: the numbers of their values. The result is t x deviation x sqrt(1 / first +
        1 / second), with the two-sided t quantile at `CONFIDENCE`.
        """
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, self.freedom))
        return quantile * self.deviation * math.sqrt(1 / first + 1 / second)


def scatter(samples: Iterable[list[float]], seeds: int) -> Scatter | None:
    """The scatter pooled over all samples with at least two values; None without such a sample.

    samples: the values of each recipe. For samples of equal size, the pooled variance is the mean
    of their variances.
    """
    repeated = [sample for sample in samples if len(sample) > 1]
    freedom = sum(len(sample) - 1 for sample in repeated)
    if not freedom:
        return None
    squares = sum((len(sample) - 1) * statistics.variance(sample) for sample in repeated)
    return Scatter(math.sqrt(squares / freedom), freedom, seeds)


def spread(values: Sequence[float | None]) -> str:
    """'mean (least to greatest; N of M seeds)', or 'none' without a value.

    The range is left out if all values are equal, the count if no value is None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    facts = [f"{min(known):.4g} to {max(known):.4g}"] if min(known) < max(known) else []
    facts += [f"{len(known)} of {len(values)} seeds"] if len(known) < len(values) else []
    return f"{statistics.mean(known):.4g}" + (f" ({'; '.join(facts)})" if facts else "")


def values_of(runs: list[Run], metric: str) -> list[float | None]:
    return [run.scores[metric]["value"] for run in runs]


def applies(metric: str, runs: list[Run]) -> bool:
    """Whether the metric applies to the system: text metrics need a network that reads text."""
    return runs[0].reads_text or not EVALUATIONS[metric].measure.needs_captions


def gain(metric: str, good: float, bad: float) -> float:
    """How much nearer to the best value of the metric the mean `good` is than the mean `bad`.

    Where 1 is best, it is the difference of the distances from 1.
    """
    if better(metric) == "one":
        good, bad = -abs(good - 1), -abs(bad - 1)
    return bad - good if better(metric) == "low" else good - bad


def ranking(groups: Groups, metrics: list[str]) -> list[str]:
    """One line for each metric with the recipes from best to worst, and a table of the scatter.

    Recipes on which the best one gains less than the least significant difference are named as not
    significantly different from it.
    """
    lines, known = [], False
    table = [
        "| Metric | Standard deviation over seeds | Degrees of freedom | Seeds | "
        "Least difference |",
        "|---|---|---|---|---|",
    ]
    for metric in metrics:
        values = {
            name: values_of(runs, metric) for name, runs in groups.items() if applies(metric, runs)
        }
        known_values = {
            name: [value for value in sample if value is not None]
            for name, sample in values.items()
        }
        means = {
            name: statistics.mean(known_values[name])
            for name, sample in values.items()
            if None not in sample
        }
        order = sorted(means, key=lambda name: badness(metric, means[name]))
        pooled = scatter(known_values.values(), max(map(len, values.values()), default=1))

        shown = {name: f"{name} {means[name]:.4g}" for name in order}
        near = {
            name
            for name in order[1:]
            if pooled
            and gain(metric, means[order[0]], means[name])
            <= pooled.half_width(len(values[order[0]]), len(values[name]))
        }
        if near:
            close = ", ".join(shown[name] for name in order if name in near)
            far = ", ".join(shown[name] for name in order[1:] if name not in near)
            parts = [shown[order[0]], f"no significant difference from the best: {close}"]
            parts += [f"then {far}"] if far else []
        else:
            parts = [", ".join(shown.values())] if shown else []
        missing = [name for name in values if name not in means]
        direction = {"low": "less is better", "high": "more is better", "one": "1 is best"}
        lines.append(
            f"- `{metric}` ({direction[better(metric)]}): "
            + ("; ".join(parts) or "nothing measured")
            + (f". Not ranked, a seed has no value: {', '.join(missing)}" if missing else "")
        )
        table.append(
            f"| `{metric}` | {pooled.deviation:.3g} | {pooled.freedom} | {pooled.seeds} | "
            f"{pooled.least:.3g} |"
            if pooled
            else f"| `{metric}` | no recipe has two values | 0 | - | - |"
        )
        known = known or bool(pooled)
    if not known:
        return [
            *lines,
            "",
            "No recipe has two seeds, so the spread over seeds is not known: differences here may "
            "be chance.",
        ]
    return [
        *lines,
        "",
        *table,
        "",
        "The standard deviation is pooled over the recipes with at least two values; this assumes "
        "that all recipes scatter alike. The least difference of two means is the two-sided "
        f"{CONFIDENCE:.0%} t quantile x deviation x sqrt(2 / seeds), and larger for recipes with "
        "fewer seeds; the lines above use the seeds of each pair. It holds for one pair that is "
        "chosen before the comparison; of the many pairs here, some exceed it by chance.",
    ]


def differences(groups: Groups, metrics: list[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A table of the differences A - B of the means of recipes, with confidence intervals."""
    lines = ["| A - B | " + " | ".join(f"`{name}`" for name in metrics) + " |"]
    lines.append("|---|" + "---|" * len(metrics))
    pooled = {
        metric: scatter(
            [
                [value for value in values_of(runs, metric) if value is not None]
                for runs in groups.values()
                if applies(metric, runs)
            ],
            1,
        )
        for metric in metrics
    }
    for pair in pairs:
        a, b = (groups[name] for name in pair)
        cells = [
            _difference(metric, a, b, pooled[metric])
            if applies(metric, a) and applies(metric, b)
            else "no text"
            for metric in metrics
        ]
        lines.append(f"| `{pair[0]}` - `{pair[1]}` | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"The number after \u00b1 is half the width of the {CONFIDENCE:.0%} confidence interval. A "
        "difference is bold if it is larger than this number. The difference of `kid_lite2` is "
        "also given as a share of B.",
    ]


def _difference(metric: str, a: list[Run], b: list[Run], pooled: Scatter | None) -> str:
    """A cell of `differences`; '-' if a value is missing or the scatter is not known."""
    values = [[v for v in values_of(runs, metric) if v is not None] for runs in (a, b)]
    if pooled is None or [len(known) for known in values] != [len(a), len(b)]:
        return "-"
    first, second = map(statistics.mean, values)
    half = pooled.half_width(len(a), len(b))
    share = f" ({first / second - 1:+.0%})" if metric == "kid_lite2" and second else ""
    text = f"{first - second:+.3g} \u00b1 {half:.2g}{share}"
    return f"**{text}**" if abs(first - second) > half else text
