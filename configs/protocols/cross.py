"""Zero-shot: the bundled `lite`, which learned from BIQ2021's training split, on all of every other set at hand.

python tools/avt_csv.py image_quality_test/test_1/images image_quality_test/test_1/mos_ci.csv
driqa protocol --config configs/protocols/cross.py --workdir cross \
    --config.across.avt.path=image_quality_test/test_1/avt.csv

Sets without a path are left out; give those that you have, prepared by `driqa data prepare`, as
--config.across.koniq10k.path=prepared. The pictures of AVT, coded at 144 to 2160 rows, were shown at 2160, and are
brought to that height (Lanczos) before they are scored; its MOS is from 1 to 5. Check by `driqa data leaks` that two
sets are disjoint before calling a figure zero-shot.
"""

from driqa_jax.protocol.config import default

PREPARED = ("csiq", "flive", "kadid10k", "koniq10k", "live", "livec", "pipal", "spaq", "tid2013")


def get_config():
    avt = {"kind": "folder", "mos_range": (1.0, 5.0), "height": 2160}
    config = default(rows={"lite": {"weights": "lite"}}, across={"avt": avt, **{name: {} for name in PREPARED}})
    config.test = ""
    return config
