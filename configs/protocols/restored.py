"""Restored images: does a score agree with full-reference metrics on what restorers make of a degraded photograph?

python -m experiments.restored_images --config configs/protocols/restored.py --workdir runs/restored
    --config.data.path=pristine/

Needs scikit-image (pip install 'driqa_jax[protocol]'). A photograph becomes 84 pictures: clean, blurred, noisy and
compressed, each as it is and through four strengths of five restorers. About half a minute a photograph on two cores
that have nothing else to do. Photographs of BIQ2021, as `driqa examine` takes them:

    --config.data.kind=tfds --config.data.name=biq2021 --config.data.path=BIQ2021/tfds --config.data.split=train/val \
    --config.data.min_mos=0.8 --config.data.halve=True
"""

from experiments.restored_images.config import default


def get_config():
    return default()
