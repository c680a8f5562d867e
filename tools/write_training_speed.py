"""Write measurements into docs/TRAINING_SPEED.md.

python -m benchmarks train --config configs/biq2021_lite.py --config.data.path=BIQ2021/tfds --steps 20 \\
    --json docs/results/bench_train.json
python -m tools.write_training_speed
"""

import json

from benchmarks.train import table
from tools.pages import DOCS, RESULTS, write_blocks


def bench_text(result: dict) -> str:
    """The table of one run."""
    machine, config = result["machine"], result["config"]
    height, width = config["canvas"]
    conditions = (
        f"`{config['variant']}`, stage 2, {config['compute']}, {config['batch_size']} pictures a step",
        f"at {width}x{height}",
        f"with {config['tiles']} tile(s), data {config['data']}; {machine['devices']} x {machine['device']},",
        f"{machine['cores']} cores, jax {machine['jax']}, load before {machine['load_before']};",
        f"{config['steps']} steps of each.",
    )
    rows = [f"| {name} | {value} |" for name, value in table(result)]
    return "\n".join([" ".join(conditions), "", "| | |", "|---|---|", *rows])


def main() -> None:
    """Write the block."""
    result = json.loads((RESULTS / "bench_train.json").read_text())
    write_blocks(DOCS / "TRAINING_SPEED.md", {"bench_train": bench_text(result)})


if __name__ == "__main__":
    main()
