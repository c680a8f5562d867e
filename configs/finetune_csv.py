"""Fine-tune a trained model on one's own scores.

driqa train --config configs/finetune_csv.py --config.data.path=ratings.csv --config.init=lite --workdir run

`ratings.csv` has the columns image and mos (optionally split and group), or is an IQA-PyTorch meta_info file; scores
outside [0, 1] need --config.data.mos_range="(LOW, HIGH)", or (HIGH, LOW) where lower is better. Pictures of every
shape are trained on together, each whole within one canvas. On two CPU cores about 5 pictures a second.
"""

from driqa_jax.train.config import default


def get_config():
    config = default()
    config.data.kind = "folder"
    config.data.name = ""
    config.view.canvas = (384, 384)
    config.batch_size = 16
    config.epochs = 5.0
    config.optim.lr = 2e-4
    config.init = "lite"
    return config
