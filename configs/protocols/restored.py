"""Restored images: does a score agree with full-reference metrics on restored versions of a degraded photograph?

python -m experiments.restored_images --config configs/protocols/restored.py --workdir runs/restored
    --config.data.path=pristine/

Needs scikit-image (pip install 'driqa_jax[protocol]'). Each photograph gives 84 images: clean, blurred, noisy and
compressed, each without restoration and with five restorers at four strengths. A photograph takes about half a minute
on two idle cores. Use the photographs of BIQ2021 like `driqa examine`:

    --config.data.kind=tfds --config.data.name=biq2021 --config.data.path=BIQ2021/tfds --config.data.split=train/val \
    --config.data.min_mos=0.8 --config.data.halve=True
"""

from experiments.restored_images.config import default


def get_config():
    return default()
