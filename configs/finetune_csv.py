"""Fine-tune a trained model on your own scores.

driqa train --config configs/finetune_csv.py --config.data.path=ratings.csv --config.init=lite-0.5 --workdir run

`ratings.csv` has the columns image and mos (optionally split and group), or is an IQA-PyTorch meta_info file; scores
outside [0, 1] need --mos-range WORST BEST. Images of all shapes train together, each whole within one canvas. Speed on
two CPU cores: about 5 images per second. Training starts from `lite-0.5`, because `lite` has another form
(docs/METHOD.md).
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
    config.init = "lite-0.5"
    return config
