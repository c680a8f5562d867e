"""BIQ2021 with each of its three sources held out in turn: train on two sources, test on the third.

driqa protocol --config configs/protocols/subsets.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_subsets

The sources ss01, ss02 and ss03 differ, so this predicts results on foreign photographs better than a split within them.
Rows, training length and cached features are those of `ablations.py`; official test images are not used.
"""

import pathlib
import runpy

KEPT = ("full", "no degradation vector", "no RS loss", "backbone and head")


def get_config():
    ablations = runpy.run_path(pathlib.Path(__file__).with_name("ablations.py"))
    rows = {name: ablations["ROWS"][name] for name in KEPT}
    rows["RS loss at .03"] = {"loss.rs_weight": 0.03}  # instead of .1
    config = ablations["get_config"]({**rows, "kernel ridge on the frozen backbone": {"baseline": "ridge"}})
    config.splits.kind = "subset"
    return config
