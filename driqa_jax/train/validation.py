"""Numbers on the validation fold, while a run trains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from driqa_jax import degradations, distributed
from driqa_jax.data.pipeline import evaluation_batches, pretrain_batches
from driqa_jax.distributed.processes import gather_hosts
from driqa_jax.evaluation.correlations import plcc, srcc
from driqa_jax.train.stages import finetune, pretrain

PRETRAINING_BATCHES = 8


def predict(config, model, mesh):
    """run(params, source) -> predicted MOS (N,) float64 and the source's own, in the source's order."""
    rule = finetune.view_rule(config, config.view.eval_tiles)
    forward = jax.jit(lambda params, batch: model.apply({"params": params}, *finetune.as_inputs(batch))[0])
    size = -(-config.batch_size // mesh.size) * mesh.size

    def run(params, source):
        predictions, labels = [], []
        host, hosts, threads = jax.process_index(), jax.process_count(), config.data.threads
        for batch in evaluation_batches(source, rule, tuple(config.view.canvas), size, 0, host, hosts, threads):
            placed = distributed.place_batch(batch, mesh)
            mos, label, real = (
                distributed.to_host(x) for x in (forward(params, placed), placed["mos"], placed["real"])
            )
            predictions.append(mos[real > 0])
            labels.append(label[real > 0])
        return np.concatenate(predictions).astype(np.float64), np.concatenate(labels).astype(np.float64)

    return run


def agreement(predict):
    """The validation of a stage that predicts MOS by `predict`, see `stages`.

    It gives SRCC, PLCC and mean absolute error (MOS, 0 to 1) on the whole validation fold.
    """

    def prepare(config, model, mesh):
        run = predict(config, model, mesh)

        def measure(params, source):
            predicted, mos = run(params, source)
            return {
                "val_srcc": _number(srcc(predicted, mos)),
                "val_plcc": _number(plcc(predicted, mos)),
                "val_mae": float(np.abs(predicted - mos).mean()),
            }

        return measure

    return prepare


def pretraining(config, model, mesh):
    """On held-back photos under fixed chains: PSNR gained by restoring (dB), types named right, severity error.

    `val_naming` is the share of degraded pictures whose most probable type is among those present, `val_clean` the
    share of clean ones where no type passes a probability of one half.
    """
    del mesh  # a few small batches, shared out over the hosts, each on one device

    @jax.jit
    def look(params, photo, index, step):
        photos = photo / 255.0
        pictures, chains, _ = pretrain.degrade(config, photos, index, step)
        blocks, _, width = pictures.shape[:3]
        flat = pictures.reshape(-1, *photos.shape[1:])
        seen = model.apply({"params": params}, flat, method="encode_degradation")
        restored = model.apply({"params": params}, flat, seen.vector, method="restore")
        clean = photos.reshape(blocks, 1, width, *photos.shape[1:])
        clean = jnp.broadcast_to(clean, pictures.shape).reshape(flat.shape)
        present, severity = (
            jnp.repeat(x, width, axis=1).reshape(flat.shape[0], -1) for x in jax.vmap(degradations.labels)(chains)
        )

        def error(x):
            return jnp.square(jnp.clip(x, 0.0, 1.0) - clean).mean(axis=(1, 2, 3))

        top = jnp.take_along_axis(present, seen.logits.argmax(axis=1)[:, None], axis=1)[:, 0]
        graded = (jnp.abs(seen.severity - severity) * present).sum(axis=1) / jnp.maximum(present.sum(axis=1), 1.0)
        return {
            "degraded": present.max(axis=1) > 0,
            "before": error(flat),
            "after": error(restored),
            "top": top,
            "quiet": (seen.logits < 0).all(axis=1),
            "graded": graded,
        }

    def measure(params, source):
        params = jax.tree.map(np.asarray, params)
        stream = pretrain_batches(
            source, config.pretrain.crop, 16, 0, halve=config.data.halve, threads=config.data.threads
        )
        host, hosts = jax.process_index(), jax.process_count()
        rounds = -(-PRETRAINING_BATCHES // hosts)
        # Steps past any run's own, so that validation meets chains of its own.
        found = [
            jax.tree.map(np.asarray, look(params, batch["photo"], batch["index"], 2**30 + number))
            for number, batch in itertools.islice(enumerate(stream), host, rounds * hosts, hosts)
        ]
        seen = {name: _whole([part[name] for part in found]) for name in found[0]}
        worse = seen["degraded"]
        gain = 10 * np.log10((seen["before"] + 1e-8) / (seen["after"] + 1e-8))
        result = {
            "val_psnr_gain": gain[worse].mean(),
            "val_naming": seen["top"][worse].mean(),
            "val_severity_error": seen["graded"][worse].mean(),
        }
        if not worse.all():
            result["val_clean"] = seen["quiet"][~worse].mean()
            result["val_clean_psnr"] = (-10 * np.log10(seen["after"][~worse] + 1e-8)).mean()
        return {name: float(value) for name, value in result.items()}

    return measure


def _whole(parts: list[np.ndarray]) -> np.ndarray:
    """What the hosts have found, each in every so-manieth batch, in the order of the batches."""
    by_host = gather_hosts(np.stack(parts))
    in_order = np.swapaxes(by_host, 0, 1).reshape(-1, *by_host.shape[2:])[:PRETRAINING_BATCHES]
    return in_order.reshape(-1, *in_order.shape[2:])


def _number(value) -> float:
    return float("nan") if value is None else float(value)
