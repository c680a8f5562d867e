"""Ten 80/20 splits by stable hash of one's own scored pictures: the bundled `lite` as it is, and fine-tuned.

driqa protocol --config configs/protocols/repeats.py --config.base.data.path=ratings.csv --workdir repeats

`ratings.csv` is as in configs/finetune_csv.py, whose training each run is; pictures of one group (or reference) never
part. With --config.splits.kind=published --config.splits.folder=ARNIQA/datasets/LIVE/splits the splits are those. The
table gives medians over the ten, and their spread; the difference of the two rows is on the same pictures.
"""

from driqa_jax.protocol.config import default


def get_config():
    config = default(rows={"lite as it is": {"weights": "lite"}, "lite, fine-tuned": {}})
    base = config.base
    base.data.kind, base.data.name, base.init = "folder", "", "lite"
    base.view.canvas = (384, 384)
    base.batch_size, base.epochs, base.optim.lr, base.eval_every = 16, 5.0, 2e-4, 50
    config.splits.kind, config.splits.numbers = "hash", tuple(range(10))
    return config
