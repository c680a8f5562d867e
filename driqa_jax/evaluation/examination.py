"""How well a degradation encoder names degradations and a restorer removes them, on photographs not used in training.

All randomness comes from named keys, so the same model, photographs and seed give the same numbers.
"""

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from driqa_jax import degradations
from driqa_jax.degradations import DEGRADATIONS, Chain, Mixture, Recipe
from driqa_jax.degradations.recipes import KADID
from driqa_jax.degradations.registry import find
from driqa_jax.evaluation.bootstrap import estimate
from driqa_jax.evaluation.figures import blank_figure
from driqa_jax.evaluation.full_reference import psnr, ssim
from driqa_jax.io import to_csv
from driqa_jax.models.degradation_encoder import Degradation
from driqa_jax.models.restoration import require_restorer
from driqa_jax.progress import ProgressFn, silent

PLAIN_LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of types without KADID-10k levels
STRONG = 0.5  # the least severity for naming
DRAWS = 4  # severities per type for naming
DRAW, SHUFFLE = 2**20, 2**20 + 1  # streams of a type's key apart from those of its images

# KADID-10k's 25 types as 21 classes: without the reference a brightened photograph looks like a bright one.
CLASS_OF = {
    **{name: name for name in KADID},
    **dict.fromkeys(("brighten", "darken", "mean_shift", "contrast_change"), "tone"),
    **dict.fromkeys(("color_saturation_1", "color_saturation_2"), "saturation"),
}
MIDDLE = 2  # the third of five levels
NOISES = frozenset(entry.name for entry in DEGRADATIONS if entry.group == "noise" or entry.name == "low_light")
KINDS = {
    "noise": ("white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise"),
    "blur": ("gaussian_blur", "lens_blur", "motion_blur"),
    "jpeg": ("jpeg",),
}


def classes(names: Sequence[str]) -> tuple[str, ...]:
    """The classes of a model with these types, in KADID-10k's order."""
    return tuple(dict.fromkeys(CLASS_OF[name] for name in KADID if name in names))


class Naming(NamedTuple):
    """Accuracy of naming; `top1` and `top3` are macro averages over classes."""

    classes: tuple[str, ...]
    confusion: np.ndarray  # (C, C) counts, rows the true class, columns the most probable one
    unsure: np.ndarray  # (C,) shares of images where no type has a probability of at least one half
    top1: float
    top3: float
    severity_error: float  # mean absolute error for the true type
    clean: float  # share of clean photographs without a type of at least one half


class Restoration(NamedTuple):
    """Quality before and after restoration; arrays (types, 5 levels, photographs), in dB or SSIM."""

    names: tuple[str, ...]
    levels: np.ndarray
    psnr_before: np.ndarray
    psnr_after: np.ndarray
    psnr_shuffled: np.ndarray  # the restorer reads the vector of another image of the same type, at any level
    ssim_before: np.ndarray
    ssim_after: np.ndarray
    psnr_clean: np.ndarray


class Examiner:
    """Runs the examinations; compiles shared programs once.

    `model` has the methods `encode_degradation` and `restore` of `DRIQA`; of its `params`, only those of the
    degradation encoder and the restorer are used. `names` are the degradations of its head, in order. `photos` (P, S,
    S, 3) uint8 are pristine, P at least 2, S divisible by 32; another shape raises ValueError, and a model
    without a restorer UserError.
    """

    def __init__(self, model: nn.Module, params: dict, names: Sequence[str], photos: np.ndarray, seed: int = 0):
        if photos.ndim != 4 or photos.shape[0] < 2 or photos.shape[-1] != 3:
            raise ValueError(f"photos must be (P, S, S, 3) with P of at least 2; got {photos.shape}")
        require_restorer(params)
        self.names = tuple(names)
        self._photos = jnp.asarray(photos, jnp.float32) / 255.0
        self._key = jax.random.key(seed)
        ids = jnp.arange(photos.shape[0])
        variables = {"params": {name: params[name] for name in ("degradation_encoder", "restoration")}}

        # One chain per call: the degradations compile once.
        self._degrade = jax.jit(lambda key, chain: degradations.apply_chains(key, self._photos, chain, ids)[0])
        self._encode = jax.jit(lambda images: model.apply(variables, images, method="encode_degradation"))
        self._restore = jax.jit(lambda images, d: model.apply(variables, images, d, method="restore"))
        self._psnr, self._ssim = (jax.jit(lambda x, f=f: f(x, self._photos)) for f in (psnr, ssim))

    def _images(self, key: jax.Array, chains: Chain) -> list[jax.Array]:
        """All photographs under each chain, (P, S, S, 3) in [0, 1]."""
        return [
            self._degrade(jax.random.fold_in(key, i), jax.tree.map(lambda x, i=i: x[i : i + 1], chains))
            for i in range(chains.types.shape[0])
        ]

    def _encoded(self, images: Sequence[jax.Array]) -> Degradation:
        """What the encoder reads in lists of images, stacked along a new first axis; numpy."""
        return jax.tree.map(lambda *each: np.stack(each), *map(self._encode, images))

    def _key_of(self, name: str) -> jax.Array:
        return jax.random.fold_in(self._key, zlib.crc32(name.encode()))

    def drawn(self, name: str, count: int = DRAWS) -> tuple[np.ndarray, list[jax.Array]]:
        """Severities of one type drawn from [.5, 1], (count,), and all photographs at each, (P, S, S, 3) in [0, 1]."""
        key = self._key_of(name)
        severities = jax.random.uniform(jax.random.fold_in(key, DRAW), (count,), minval=STRONG)
        return np.asarray(severities), self._images(key, single_steps(name, severities))

    def naming(self, progress: ProgressFn = silent) -> Naming:
        """Name KADID-10k's types, each alone at severities drawn from [.5, 1], and clean photographs."""
        types = [name for name in KADID if name in self.names]
        groups = classes(self.names)
        member = np.array([[CLASS_OF.get(name) == group for name in self.names] for group in groups])
        confusion = np.zeros((len(groups), len(groups)), np.int64)
        hits, unsure, errors = [[] for _ in groups], [[] for _ in groups], []
        for done, name in enumerate(types):
            severities, degraded = self.drawn(name)
            output = self._encoded(degraded)
            by_class = np.where(member[:, None, None], output.logits[None], -np.inf).max(axis=-1)
            own = groups.index(CLASS_OF[name])
            ranks = (by_class > by_class[own]).sum(axis=0)
            np.add.at(confusion[own], by_class.argmax(axis=0).ravel(), 1)
            unsure[own].append((output.logits.max(axis=-1) < 0.0).mean())
            hits[own].append(np.stack([ranks < 1, ranks < 3]).reshape(2, -1))
            errors.append(np.abs(output.severity[..., self.names.index(name)] - severities[:, None]).mean())
            progress("naming types", done + 1, len(types))
        rates = np.array([np.concatenate(parts, axis=1).mean(axis=1) for parts in hits])
        clean = np.asarray(self._encode(self._photos).logits).max(axis=-1) < 0.0
        means = (*rates.mean(axis=0).tolist(), float(np.mean(errors)), float(clean.mean()))
        return Naming(groups, confusion, np.array([np.mean(x) for x in unsure]), *means)

    def restoration(self, progress: ProgressFn = silent, names: Sequence[str] = degradations.NAMES) -> Restoration:
        """Restore each type at five levels: KADID-10k's if it has the type, otherwise `PLAIN_LEVELS`."""
        levels = np.array([find(name).kadid_levels or PLAIN_LEVELS for name in names])
        rows = []
        for name, severities in zip(names, levels, strict=True):
            key = self._key_of(name)
            images = self._images(key, single_steps(name, severities))
            own = self._encoded(images).vector
            mixed = jax.random.permutation(jax.random.fold_in(key, SHUFFLE), np.concatenate(own)).reshape(own.shape)
            after, other = ([self._restore(*pair) for pair in zip(images, d, strict=True)] for d in (own, mixed))
            measures = [(self._psnr, images), (self._psnr, after), (self._psnr, other)]
            measures += [(self._ssim, images), (self._ssim, after)]
            rows.append([np.stack([np.asarray(measure(x)) for x in results]) for measure, results in measures])
            progress("restoring types", len(rows), len(levels))
        columns = (np.stack(column) for column in zip(*rows, strict=True))
        untouched = self._restore(self._photos, self._encode(self._photos).vector)
        return Restoration(tuple(names), levels, *columns, np.asarray(self._psnr(untouched)))

    def restore(self, image: np.ndarray) -> tuple[np.ndarray, str]:
        """One image, (H, W, 3) uint8, sides divisible by 32: restored (H, W, 3) float32, not clipped; its top type."""
        images = jnp.asarray(image[None], jnp.float32) / 255.0
        output = self._encode(images)
        top = self.names[int(np.asarray(output.logits[0]).argmax())]
        return np.asarray(self._restore(images, output.vector))[0], top

    def retrieval(self, recipe: Recipe | Mixture, chains: int = 16, batches: int = 4) -> float:
        """Share of images whose nearest image of another photograph, by the contrastive projection, has the same chain.

        Each batch holds all photographs under `chains` chains of the Recipe or Mixture; chance level is 1 / chains.
        """
        hits, count = [], self._photos.shape[0]
        for batch in range(batches):
            key = jax.random.fold_in(self._key_of("retrieval"), batch)
            drawn = degradations.sample_chains(jax.random.fold_in(key, DRAW), recipe, chains)
            z = np.concatenate(self._encoded(self._images(key, drawn)).projection)
            z = z / np.linalg.norm(z, axis=1, keepdims=True)
            # All clean chains are the same chain.
            clean = (np.asarray(drawn.types) == degradations.CLEAN).all(axis=1)
            chain = np.repeat(np.where(clean, -1, np.arange(chains)), count)
            photo = np.tile(np.arange(count), chains)
            similarity = np.where(photo[:, None] == photo[None, :], -np.inf, z @ z.T)
            hits.append((chain[similarity.argmax(axis=1)] == chain).mean())
        return float(np.mean(hits))


def single_steps(name: str, severities: np.ndarray | jax.Array | Sequence[float]) -> Chain:
    """One chain per severity, each with a single step of this type."""
    severities = jnp.asarray(severities, jnp.float32)[:, None]
    return Chain(jnp.full(severities.shape, degradations.NAMES.index(name), jnp.int32), severities)


def summary(naming: Naming, restoration: Restoration, retrieval: float) -> dict[str, Any]:
    """The main results, rounded; PSNR gains in dB are means over photographs."""
    gain = restoration.psnr_after - restoration.psnr_before
    own = restoration.psnr_after - restoration.psnr_shuffled
    kinds = {kind: [restoration.names.index(name) for name in names] for kind, names in KINDS.items()}
    values = {
        "photographs": gain.shape[-1],
        "classes": len(naming.classes),
        "naming_top1": naming.top1,
        "naming_top3": naming.top3,
        "clean_called_clean": naming.clean,
        "severity_error": naming.severity_error,
        "retrieval": retrieval,
        **{f"psnr_gain_{kind}": float(gain[rows, MIDDLE].mean()) for kind, rows in kinds.items()},
        "psnr_of_restored_clean": float(restoration.psnr_clean.mean()),
        "psnr_true_over_shuffled_d": float(own.mean()),
    }
    values = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
    interval = estimate(own.reshape(-1, own.shape[-1]).mean(axis=0)).interval
    values["psnr_true_over_shuffled_d_95"] = [round(end, 4) for end in interval]
    return values


def real_noise(examiner: Examiner, noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> dict[str, Any]:
    """Mean PSNR and SSIM of real pairs before and after restoration, and how often the top type is a noise.

    noisy, clean: (H, W, 3) uint8 each, sides divisible by 32.
    """
    rows = []
    for before, reference in zip(noisy, clean, strict=True):
        after, top = examiner.restore(before)
        x, y = before.astype(np.float32) / 255.0, reference.astype(np.float32) / 255.0
        measured = (*(psnr(z, y) for z in (x, after)), *(ssim(z, y) for z in (x, after)))
        rows.append([float(value) for value in measured] + [top in NOISES])
    means = np.mean(np.array(rows, np.float64), axis=0)
    keys = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "most_probable_is_a_noise")
    return {"pairs": len(rows), **{key: round(float(mean), 4) for key, mean in zip(keys, means, strict=True)}}


def restoration_csv(restoration: Restoration) -> str:
    """One line per type and level: severity, PSNR and SSIM before and after, PSNR with a shuffled vector, gains."""
    measures = ("psnr_before", "psnr_after", "ssim_before", "ssim_after", "psnr_shuffled")
    rows = [["degradation", "level", "severity", *measures, "psnr_gain", "ssim_gain"]]
    for i, name in enumerate(restoration.names):
        for level, severity in enumerate(restoration.levels[i]):
            means = {measure: float(getattr(restoration, measure)[i, level].mean()) for measure in measures}
            gains = (means["psnr_after"] - means["psnr_before"], means["ssim_after"] - means["ssim_before"])
            values = (f"{value:.4f}" for value in (severity, *means.values(), *gains))
            rows.append([name, level + 1, *values])
    return to_csv(rows)


def confusion_figure(naming: Naming) -> Figure:
    """The confusion matrix as shares of each row, with a column for unsure images."""
    share = naming.confusion / naming.confusion.sum(axis=1, keepdims=True)
    share = np.concatenate([share, np.full((len(share), 1), np.nan), naming.unsure[:, None]], axis=1)
    figure, axes = blank_figure(9.5, 8.5)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    columns = [name.replace("_", " ") for name in (*naming.classes, "", "unsure")]
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(naming.classes)), columns[:-2])
    axes.set(xlabel="most probable class; unsure: no type has a probability of one half", ylabel="true")
    axes.set_title(f"Naming at severity .5 and above: macro top-1 {naming.top1:.3f}, top-3 {naming.top3:.3f}")
    for (i, j), value in np.ndenumerate(share):
        if value >= 0.05:
            text, color = f"{value:.2f}"[1:] if value < 0.995 else "1", "white" if value > 0.5 else "black"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the row")
    return figure


def restoration_figure(restoration: Restoration) -> Figure:
    """PSNR gain by type: a bar for the middle level, dots for all five."""
    gain = (restoration.psnr_after - restoration.psnr_before).mean(axis=-1)
    order = np.argsort(gain[:, MIDDLE])
    figure, axes = blank_figure(8, 8.5)
    rows = np.arange(len(order))
    axes.barh(rows, gain[order, MIDDLE], color="#9ecae1")
    for level in range(gain.shape[1]):
        axes.plot(gain[order, level], rows, "o", ms=3.5, color=str(0.75 - 0.15 * level), label=f"level {level + 1}")
    axes.set_yticks(rows, [restoration.names[i].replace("_", " ") for i in order])
    axes.axvline(0, color="black", lw=0.8)
    # A tiny change of an almost clean image costs many dB; without a limit it hides the rest.
    axes.set_xlim(max(-12, gain.min() - 0.5), gain.max() + 0.5)
    axes.set_xlabel("PSNR gained by restoring, dB (bar: the middle level)")
    axes.legend(frameon=False, loc="lower right")
    return figure
