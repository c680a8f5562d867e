"""The curves of a run as a picture."""

import json
import pathlib

import numpy as np

NOT_CURVES = ("step", "images_per_second")
SMOOTH = 50  # windows over the run: a step's own loss says little


def draw(metrics: pathlib.Path):
    """A matplotlib Figure of a run's `metrics.jsonl`: a panel for each quantity, validation as dots.

    What a single step measured is drawn pale, its moving mean over a fiftieth of the run dark. Lines that are not
    whole, and values that were undefined, are passed over.
    """
    from matplotlib.figure import Figure

    series: dict[str, list[tuple[float, float]]] = {}
    for line in metrics.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        for name, value in row.items():
            if name not in NOT_CURVES and value is not None:
                series.setdefault(name, []).append((row["step"], value))
    names = sorted(series, key=lambda name: (name.startswith("val_"), name))
    columns = 3
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(4 * columns, 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        x, y = np.array(series[name]).T
        axes.set_title(name.replace("_", " "), fontsize=10)
        if name.startswith("val_"):
            axes.plot(x, y, "o-", color="#08519c", ms=4)
            continue
        width = max(1, len(y) // SMOOTH)
        mean = np.convolve(y, np.ones(width) / width, mode="valid")
        axes.plot(x, y, color="#c6dbef", lw=0.8)
        axes.plot(x[width - 1 :], mean, color="#08519c", lw=1.4)
        if y.min() > 0 and y.max() > 20 * y.min():
            axes.set_yscale("log")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("step")
    return figure


def save(workdir: pathlib.Path) -> None:
    """Write `workdir/curves.png` from `workdir/metrics.jsonl`."""
    # Here, since matplotlib takes a while to load and a run is to begin at once.
    from driqa_jax.evaluation.figures import save_figure

    save_figure(draw(workdir / "metrics.jsonl"), workdir / "curves.png")
