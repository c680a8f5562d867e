"""Write docs/TOPOLOGY.md's table.

driqa bench topology v5e:4x4 --config configs/biq2021_lite.py configs/biq2021_s.py configs/biq2021_b.py \\
        --batch 16 --json docs/results/bench_topology.json
python docs/write_topology.py
"""

import json
import pathlib

from blocks import write_blocks

DOCS = pathlib.Path(__file__).resolve().parent


def text(found: dict) -> str:
    """The table, under the command and the versions that made it."""
    rows = found["rows"]
    first = rows[0]
    used = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"`{found['command']}`\n",
        f"{first['stage']} step, {first['devices']} x {first['device']}, {first['batch_per_device']} pictures a "
        f"device; {used}. For one device:\n",
        "| variant | arguments, MiB | temporary, MiB | peak, MiB | GFLOP a step | collectives | compiled in |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory = [f"{row[key]:.0f}" if key in row else "-" for key in ("arguments_mib", "temporary_mib", "peak_mib")]
        said = "; ".join(f"{each['count']} {kind}, {each['mib']:.2f} MiB" for kind, each in row["collectives"].items())
        cells = [f"`{row['variant']}`", *memory, f"{row['gflop']:.0f}", said, f"{row['compile_seconds']:.0f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    page = json.loads((DOCS / "results" / "bench_topology.json").read_text())
    write_blocks(DOCS / "TOPOLOGY.md", {"topology": text(page)})
