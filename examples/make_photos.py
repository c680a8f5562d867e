"""Make examples/photos: six CC0 photographs, and each once more with a fault that photos have in practice.

    git clone https://github.com/gianni-rosato/gb82-image-set
    python examples/make_photos.py gb82-image-set/png

Takes 2 seconds. The same originals and the same Pillow give the same bytes.
"""

import argparse
import io
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

HERE = pathlib.Path(__file__).resolve().parent / "photos"


def to_linear(image: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] -> linear light in [0, 1] (IEC 61966-2-1): lenses and sensors act on light."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB in [0, 1], clipped."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def blurred(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`(H, W, 3)` sRGB convolved in linear light with a `(h, w)` kernel, which need not sum to 1."""
    light = to_linear(image)
    kernel = kernel / kernel.sum()
    return to_srgb(np.stack([ndimage.convolve(light[..., c], kernel, mode="reflect") for c in range(3)], -1))


def sensor_noise(light: np.ndarray, electrons: float, read: float, rng: np.random.Generator) -> np.ndarray:
    """Shot noise for `electrons` at full scale plus read noise of `read` electrons, then a slight smear."""
    noisy = rng.poisson(light * electrons) + rng.normal(0, read, light.shape)
    return ndimage.gaussian_filter(noisy / electrons, (0.5, 0.5, 0))


def jpeg8(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Compressed by JPEG at quality 8, with halved color resolution."""
    buffer = io.BytesIO()
    to_picture(image).save(buffer, "JPEG", quality=8, subsampling=2)
    return to_array(Image.open(buffer))


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus: a disk 11 pixels wide."""
    y, x = np.mgrid[-6:7, -6:7]
    return blurred(image, np.clip(6 - np.hypot(y, x), 0, 1))


def shake(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The camera moved: a curved path about 20 pixels long."""
    t = np.linspace(-1, 1, 400)
    kernel, *_ = np.histogram2d(4 * t + 2 * t * t, 9 * t, bins=23, range=[(-11.5, 11.5)] * 2)
    return blurred(image, ndimage.gaussian_filter(kernel, 0.5))


def enlarged(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A thumbnail of a quarter of the size, saved at JPEG quality 40, enlarged again."""
    picture = to_picture(image)
    width, height = picture.size
    buffer = io.BytesIO()
    picture.resize((width // 4, height // 4), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=40)
    return to_array(Image.open(buffer).resize((width, height), Image.Resampling.BICUBIC))


def noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """High ISO: 40 electrons at full scale, 1.5 of read noise."""
    return to_srgb(sensor_noise(to_linear(image), 40, 1.5, rng))


def dark_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Underexposed by four stops in poor light, then one and a half of them brought back."""
    return to_srgb(sensor_noise(to_linear(image) / 16, 400, 3, rng) * 2.83)


# name: (file of the good one, its quality, the fault, the quality of the faulty one's file). Every file stays
# under 130 kB: hence WebP for the flowers, and a lower quality where there is noise, which hardly compresses.
RECIPES: dict[str, tuple[str, int, Callable, int]] = {
    "city": ("city.jpg", 91, jpeg8, 92),
    "dog": ("dog.jpg", 92, blur, 92),
    "flowers": ("flowers.webp", 90, enlarged, 92),
    "guitar": ("guitar.jpg", 92, noise, 72),
    "nyc": ("nyc.jpg", 92, shake, 92),
    "reflect": ("reflect.jpg", 92, dark_noise, 72),
}


def to_array(picture: Image.Image) -> np.ndarray:
    """A picture -> `(H, W, 3)` float64 sRGB in [0, 1]."""
    return np.asarray(picture.convert("RGB"), np.float64) / 255


def to_picture(image: np.ndarray) -> Image.Image:
    """`(H, W, 3)` sRGB in [0, 1] -> an 8-bit picture."""
    return Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))


def save(image: np.ndarray, path: pathlib.Path, quality: int) -> None:
    """Write JPEG (full color resolution from quality 90, else halved) or WebP, by the ending."""
    jpeg = {"subsampling": 0 if quality >= 90 else 2, "optimize": True, "progressive": True}
    options = {"method": 6} if path.suffix == ".webp" else jpeg
    to_picture(image).save(path, quality=quality, **options)
    print(f"{path.name:24s} {path.stat().st_size / 1000:6.1f} kB")


def main() -> int:
    """Write the twelve photographs; 2 if an original is missing."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("originals", type=pathlib.Path, help="folder of NAME-lossless.png")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="default: examples/photos")
    arguments = parser.parse_args()
    missing = [n for n in RECIPES if not (arguments.originals / f"{n}-lossless.png").is_file()]
    if missing:
        print(f"{arguments.originals} lacks {missing[0]}-lossless.png; give gb82-image-set/png", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed, (name, (good, quality, fault, fault_quality)) in enumerate(RECIPES.items()):
        image = to_array(Image.open(arguments.originals / f"{name}-lossless.png"))
        save(image, arguments.out / good, quality)
        bad = fault(image, np.random.default_rng(seed))
        save(bad, arguments.out / f"{name}_{fault.__name__}.jpg", fault_quality)
    return 0


if __name__ == "__main__":
    sys.exit(main())
