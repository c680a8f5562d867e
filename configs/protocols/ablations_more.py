"""More ablations on cached features; commands, splits and cost as in configs/protocols/ablations.py.

driqa protocol --config configs/protocols/ablations_more.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_ablations_more

"full" is the first row again, because differences are relative to it. The row with an untrained degradation encoder
computes its features and those of the restorer again; the row without a backbone caches further features.
"""

import pathlib
import runpy

ROWS = {
    "full": {},
    "untrained degradation encoder": {"model.degradation": "no_pretrain"},
    "no quality backbone": {"model.quality": "none"},
    "quality reads degradation": {"model.interaction": "d2q"},
    "degradation reads quality": {"model.interaction": "q2d"},
    "gate": {"model.interaction": "gate"},
    "no interaction": {"model.interaction": "none"},
    "RS weight .03": {"loss.rs_weight": 0.03},
    "RS weight .3": {"loss.rs_weight": 0.3},
    "RS sigma .1": {"loss.rs_sigma": 0.1},
}


def get_config():
    sibling = pathlib.Path(__file__).with_name("ablations.py")
    return runpy.run_path(str(sibling))["get_config"](ROWS)
