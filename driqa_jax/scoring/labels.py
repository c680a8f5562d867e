"""Degradations in plain words, for people who look at a photo and not at a data set."""

STANDS_OUT = 0.5  # the probability from which on a degradation is named

LABELS = {
    "gaussian_blur": "blur",
    "lens_blur": "out of focus",
    "motion_blur": "motion blur",
    "white_noise": "noise",
    "impulse_noise": "salt-and-pepper noise",
    "sensor_noise": "sensor noise",
    "jpeg": "JPEG compression",
    "resample": "low resolution",
    "pixelate": "pixelated",
    "quantization": "banding",
    "high_sharpen": "oversharpened",
    "ringing": "ringing at edges",
    "color_saturation_1": "faded colours",
    "brighten": "too bright",
    "darken": "too dark",
    "contrast_change": "contrast changed",
}


def label(name: str) -> str:
    """A degradation's name in plain words; a name that is not in the table, with spaces for underscores."""
    return LABELS.get(name, name.replace("_", " "))
