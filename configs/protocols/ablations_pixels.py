"""Ablations that need pixels in each step: stage 2 as in configs/biq2021_lite.py, on three splits.

driqa protocol --config configs/protocols/ablations_pixels.py --config.base.data.path=BIQ2021/tfds \
    --config.base.init=runs/restore_lite --workdir protocol_ablations_pixels

Three rows need their own stage 1, with the same degradation encoder; train these first:

for ROW in model.condition=none model.inject=add loss.rs=restored; do
  driqa train --config configs/restore_lite.py --config.data.path=BIQ2021/tfds --config.init=runs/pretrain_lite \
      --config.$ROW --workdir runs/restore_${ROW#*=}
done

The splits are those of configs/protocols/ablations.py. A run takes about an hour on two CPU cores; use an accelerator.
"""

import pathlib
import runpy

ROWS = {
    "full": {},
    "RS ratio": {"loss.rs": "ratio"},
    "finetuned restoration": {
        "model.restoration": "finetune",
        "optim.groups": (("quality_encoder/*", 0.2), ("restoration/*", 0.1)),
    },
    "one crop": {"view.kind": "crop", "view.short": 384, "view.canvas": (224, 224)},
    "unconditioned restoration": {"model.condition": "none", "init": "runs/restore_none"},
    "added condition": {"model.inject": "add", "init": "runs/restore_add"},
    "RS restored": {"loss.rs": "none", "init": "runs/restore_restored"},
}


def get_config():
    sibling = pathlib.Path(__file__).with_name("ablations.py")
    config = runpy.run_path(str(sibling))["get_config"](ROWS)
    base = config.base
    base.stage = "finetune"
    base.view.short, base.view.canvas = 320, (320, 320)
    base.batch_size, base.epochs = 16, 2.5
    base.optim.lr, base.optim.ema = 5e-4, 0.998
    return config
