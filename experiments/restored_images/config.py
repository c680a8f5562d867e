"""The configuration of the study of restored images: all keys with their defaults.

python -m experiments.restored_images --config experiments/restored_images/config.py --workdir runs/restored
    --config.data.path=pristine/

Needs scikit-image (pip install 'driqa_jax[protocol]'). Each photograph gives 84 images: clean, blurred, noisy and
compressed, each without restoration and with five restorers at four strengths. A photograph takes about half a minute
on two idle cores. Use the photographs of BIQ2021 like `driqa examine`:

    --config.data.kind=tfds --config.data.name=biq2021 --config.data.path=BIQ2021/tfds --config.data.split=train/val
    --config.data.min_mos=0.8 --config.data.halve=True
"""

import ml_collections


def default() -> ml_collections.ConfigDict:
    """A study; a config file returns a changed copy."""
    return ml_collections.ConfigDict(
        {
            "kind": "restored",
            # Models to compare: bundled models, weights files, workdirs of trainings.
            "models": ("lite-0.5",),
            # Pristine photographs not used in training. `split` and `min_mos` select from a set with scores.
            "data": {"kind": "photos", "name": "", "path": "", "split": "all", "min_mos": 0.0, "halve": False},
            "count": 16,  # photographs
            "side": 0,  # px of the center square; 0: the largest that all photographs allow, at most 512
            "seed": 0,  # selects photographs and noise
            # Degradations and severities; "none" restores a clean photograph. These are KADID-10k's blur of sigma 2,
            # noise of variance .005 and JPEG of quality 24.
            "degradations": (("none", 0.0), ("gaussian_blur", 0.4), ("white_noise", 0.4714), ("jpeg", 0.6289)),
            # Increasing strengths; see `experiments.restored_images.restorers`.
            "restorers": {
                "non_local_means": (0.03, 0.06, 0.12, 0.25),
                "bilateral": (0.02, 0.05, 0.1, 0.2),
                "unsharp": (0.5, 1.0, 2.0, 4.0),
                "wiener": (0.7, 1.4, 2.0, 3.0),
                "network": (0.5, 1.0, 1.5, 2.0),
            },
            "network": "lite-0.5",  # the model of the restoration net
            "pictures": 4,  # pairs to show where score and full-reference metrics disagree
        }
    ).lock()


get_config = default
