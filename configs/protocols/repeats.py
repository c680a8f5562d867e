"""Ten 80/20 hash splits of your own scored images: the bundled `lite-0.5` without and with fine-tuning.

driqa protocol --config configs/protocols/repeats.py --config.base.data.path=ratings.csv --workdir repeats

`ratings.csv` and the training are those of configs/finetune_csv.py; images of one group (or reference) stay on one
side. Published splits: --config.splits.kind=published --config.splits.folder=ARNIQA/datasets/LIVE/splits. The table has
medians over the ten splits and their spread; the difference of the two rows uses the same images.
"""

from driqa_jax.protocol.config import default


def get_config():
    config = default(rows={"lite-0.5 as it is": {"weights": "lite-0.5"}, "lite-0.5, fine-tuned": {}})
    base = config.base
    base.data.kind, base.data.name, base.init = "folder", "", "lite-0.5"
    base.view.canvas = (384, 384)
    base.batch_size, base.epochs, base.optim.lr, base.eval_every = 16, 5.0, 2e-4, 50
    config.splits.kind, config.splits.numbers = "hash", tuple(range(10))
    return config
