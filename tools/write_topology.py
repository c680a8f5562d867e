"""Write the table of docs/TOPOLOGY.md.

for variant in lite s b; do
    python -m benchmarks topology v5e:4x4 --config configs/biq2021_$variant.py --batch 16 \\
        --json docs/results/topology/$variant.json
done
python -m tools.write_topology
"""

import json

from tools.pages import DOCS, RESULTS, write_blocks


def text(reports: list[dict]) -> str:
    """The table, with the commands and versions that made it."""
    rows = sorted((row for report in reports for row in report["rows"]), key=lambda row: row["arguments_mib"])
    first = rows[0]
    used = ", ".join(f"{name} {version}" for name, version in reports[0]["versions"].items())
    lines = [
        "<!-- dry-run -->\n",
        *(f"    {report['command']}" for report in reports),
        "",
        f"{first['stage']} step, {first['devices']} x {first['device']}, {first['batch_per_device']} pictures a "
        f"device; {used}. For one device:\n",
        "| variant | arguments, MiB | temporary, MiB | peak, MiB | GFLOP a step | collectives |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = [f"{row[key]:.0f}" if key in row else "-" for key in ("arguments_mib", "temporary_mib", "peak_mib")]
        collectives = "; ".join(
            f"{each['count']} {kind}, {each['mib']:.2f} MiB" for kind, each in row["collectives"].items()
        )
        cells = [f"`{row['variant']}`", *memory, f"{row['gflop']:.0f}", collectives]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    files = sorted((RESULTS / "topology").glob("*.json"))
    write_blocks(DOCS / "TOPOLOGY.md", {"topology": text([json.loads(file.read_text()) for file in files])})
