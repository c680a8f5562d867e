"""Stage 2 of `b` on BIQ2021: train the quality encoder (ViT-B/16), interaction and predictor on human scores.

driqa train --config configs/biq2021_b.py --config.data.path=BIQ2021/tfds --config.backbone=B_16.npz \
    --config.init=runs/pretrain_b --workdir runs/biq2021_b

For several GPUs or a TPU pod. No complete run has been made yet. B_16.npz has the public weights, see docs/VARIANTS.md.
"""

from driqa_jax.train.config import default

BLOCKS = 12
TOP, DECAY = 0.06, 0.7  # lr factor of the last block, and factor from each block to the one below


def get_config():
    config = default()
    config.model.variant = "b"
    config.data.threads = 8
    config.batch_size = 128
    config.epochs = 10.0
    config.optim.lr = 5e-4
    config.optim.ema = 0.998
    # Early layers need the least change, so they get the lowest rate. The first matching group applies.
    config.optim.groups = (
        *((f"quality_encoder/backbone/block{k}/*", TOP * DECAY ** (BLOCKS - k)) for k in range(1, BLOCKS + 1)),
        ("quality_encoder/backbone/norm/*", TOP),
        ("quality_encoder/backbone/*", TOP * DECAY**BLOCKS),
        ("quality_encoder/*", 0.2),
    )
    # Training the patch projection makes ViTs less stable (Chen et al., ICCV 2021).
    config.optim.frozen = (
        "degradation_encoder/*",
        "restoration/*",
        "quality_encoder/backbone/patch/*",
        "quality_encoder/standardize_*",
    )
    config.loss.plcc = 0.5
    config.eval_every = 500
    return config
