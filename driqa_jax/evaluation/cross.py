"""The cross table: the agreement of several sources of scores with human scores on several data sets."""

from collections.abc import Mapping, Sequence

import numpy as np

from driqa_jax.evaluation.report import HEADS, Part, Report
from driqa_jax.evaluation.tables import Cell, RunEstimate, Table

SHOWN = ("srcc", "plcc_fitted")


def cross_table(reports: Mapping[str, Report], metrics: Sequence[str] = SHOWN) -> Table:
    """One row per source of scores and metric, one column per set, and the mean over the sets.

    The mean weighs sets equally and has no interval, because the sets are no sample; it is undefined if a set's figure
    is. Sources are the model, then other metrics by name; one that a set lacks is undefined there.
    """
    columns = {name: _sources(report) for name, report in reports.items()}
    sources = list(dict.fromkeys(source for parts in columns.values() for source in parts))
    rows: list[list[Cell]] = []
    for metric in metrics:
        for source in sources:
            cells = [parts[source].cell(metric) if source in parts else RunEstimate(None) for parts in columns.values()]
            values = [cell.value for cell in cells]
            mean = None if None in values else float(np.mean([value for value in values if value is not None]))
            rows.append([HEADS[metric], source, *cells, RunEstimate(mean)])
    heads = ["", "scores", *(f"{name} ({report.n})" for name, report in reports.items()), "mean"]
    return Table("agreement with human scores", heads, rows, ["metric", "scores", *reports, "mean"])


def _sources(report: Report) -> dict[str, Part]:
    model = str(report.provenance.get("model", "model"))
    return {model: report.whole, **{name: parts["all"] for name, parts in report.others.items()}}
