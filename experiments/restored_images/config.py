"""The configuration of the protocol on restored images: every key there is, with its default."""

import ml_collections


def default() -> ml_collections.ConfigDict:
    """A protocol; a config file returns a changed copy."""
    return ml_collections.ConfigDict(
        {
            "kind": "restored",
            # Whose scores are compared: bundled models, weights files, workdirs of trainings.
            "models": ("lite",),
            # Pristine photographs, none that a model learned from. `split` and `min_mos` choose from a set with scores.
            "data": {"kind": "photos", "name": "", "path": "", "split": "all", "min_mos": 0.0, "halve": False},
            "count": 16,  # photographs
            "side": 0,  # px of the square from the middle; 0: as large as the smallest allows, at most 512
            "seed": 0,  # of the choice of photographs and of noise
            # Types of the bank and severities; "none" restores what needs no restoring. These are KADID-10k's blur of
            # sigma 2, its noise of variance .005 and its JPEG of quality 24.
            "degradations": (("none", 0.0), ("gaussian_blur", 0.4), ("white_noise", 0.4714), ("jpeg", 0.6289)),
            # Strengths, rising; see `experiments.restored_images.restorers`.
            "restorers": {
                "non_local_means": (0.03, 0.06, 0.12, 0.25),
                "bilateral": (0.02, 0.05, 0.1, 0.2),
                "unsharp": (0.5, 1.0, 2.0, 4.0),
                "wiener": (0.7, 1.4, 2.0, 3.0),
                "network": (0.5, 1.0, 1.5, 2.0),
            },
            "network": "lite",  # whose restoration net
            "pictures": 4,  # pairs to show on which score and full-reference metrics disagree
        }
    ).lock()
