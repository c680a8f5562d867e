"""BIQ2021 with each of its three sources held out in turn: what is learned on two of them, tested on the third.

driqa protocol --config configs/protocols/subsets.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_subsets

ss01, ss02 and ss03 come from different places, so this says more of photographs from elsewhere than a split within
them. The rows and the budget are those of `ablations.py`, and so are the features, which are computed once for both;
the official test pictures are not looked at.
"""

import pathlib
import runpy

KEPT = ("full", "no degradation vector", "no RS loss", "backbone and head")


def get_config():
    ablations = runpy.run_path(pathlib.Path(__file__).with_name("ablations.py"))
    rows = {name: ablations["ROWS"][name] for name in KEPT}
    rows["RS loss at .03"] = {"loss.rs_weight": 0.03}  # of .1
    config = ablations["get_config"]({**rows, "kernel ridge on the frozen backbone": {"baseline": "ridge"}})
    config.splits.kind = "subset"
    return config
