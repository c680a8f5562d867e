"""End of stage 1 of `lite`: more training of the restorer on JPEG, which it learns last.

driqa train --config configs/restore_lite_more.py --config.data.path=BIQ2021/tfds \
    --config.init=runs/restore_lite --workdir runs/restore_lite_more
"""

import pathlib
import runpy


def get_config():
    first = runpy.run_path(pathlib.Path(__file__).with_name("restore_lite.py"))
    config = first["get_config"]()
    config.pretrain.recipe.weights = tuple({**first["LIKELY"], "jpeg": 45.0, "double_jpeg": 6.0}.items())
    config.steps = 2000
    config.optim.lr = 8e-4
    return config
