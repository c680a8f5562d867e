"""Plain names of degradations for display."""

STANDS_OUT = 0.5  # the probability from which a degradation is named

# Names that only need spaces for underscores are left out.
LABELS = {
    "gaussian_blur": "blur",
    "lens_blur": "out of focus",
    "color_diffusion": "bleeding colors",
    "color_shift": "shifted colors",
    "color_quantization": "too few colors",
    "color_saturation_1": "faded colors",
    "color_saturation_2": "oversaturated",
    "jpeg2000": "JPEG 2000 compression",
    "jpeg": "JPEG compression",
    "white_noise": "noise",
    "white_noise_color_component": "color noise",
    "impulse_noise": "salt-and-pepper noise",
    "multiplicative_noise": "speckle noise",
    "denoise": "smeared by denoising",
    "brighten": "too bright",
    "darken": "too dark",
    "mean_shift": "shifted brightness",
    "jitter": "jittered pixels",
    "non_eccentricity_patch": "misplaced patches",
    "pixelate": "pixelated",
    "quantization": "banding",
    "color_block": "blocks of color",
    "high_sharpen": "oversharpened",
    "contrast_change": "changed contrast",
    "resample": "low resolution",
    "ringing": "ringing at edges",
    "chroma_subsampling": "coarse color",
    "double_jpeg": "compressed twice",
    "over_smoothing": "oversmoothed",
    "halo": "halos at edges",
    "out_of_focus": "missed focus",
    "flare_haze": "lens flare",
    "truncated_data": "file cut short",
    "wrong_blocks": "corrupt blocks",
    "interlace_combing": "interlaced",
    "dead_stripe": "dead rows or columns",
}


def label(name: str) -> str:
    """The display name of a degradation; unknown names get spaces for underscores."""
    return LABELS.get(name, name.replace("_", " "))
