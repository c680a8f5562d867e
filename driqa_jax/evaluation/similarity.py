"""Linear centred kernel alignment: how far two representations of the same pictures are one up to a rotation."""

import numpy as np


def linear_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """CKA of two representations with linear kernels, in [0, 1]; None where one of them is constant.

    Args:
      x, y: (N, C) and (N, C'), rows of the same N pictures.

    1 for y = a x Q + b with Q orthogonal. It is biased: representations that have nothing in common give about
    sqrt(C C') / N, not 0. Raises ValueError for mismatched shapes.

    Source: Kornblith et al., ICML 2019, eq. 3 with linear kernels.
    """
    x, y = _centred(x, y)
    # Of features, not of pictures: C is smaller than N.
    shared, own_x, own_y = (np.sum((a.T @ b) ** 2) for a, b in ((x, y), (x, x), (y, y)))
    return None if own_x == 0 or own_y == 0 else float(shared / np.sqrt(own_x * own_y))


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float | None:
    """CKA from unbiased estimates of HSIC: 0 in the mean for independent representations, may be negative.

    As `linear_cka`, and N must be at least 4. None where an estimate of a representation's own HSIC is not positive.

    Source: Song et al., JMLR 13, 2012, eq. 5; Nguyen et al., ICLR 2021, eq. 3.
    """
    x, y = _centred(x, y)
    if len(x) < 4:
        raise ValueError(f"unbiased CKA needs at least 4 pictures, got {len(x)}")
    shared, own_x, own_y = (_unbiased_hsic(a @ a.T, b @ b.T) for a, b in ((x, y), (x, x), (y, y)))
    return None if own_x <= 0 or own_y <= 0 else float(shared / np.sqrt(own_x * own_y))


def _unbiased_hsic(k: np.ndarray, m: np.ndarray) -> float:
    n = len(k)
    k, m = (kernel - np.diag(np.diag(kernel)) for kernel in (k, m))
    rows_k, rows_m = k.sum(axis=1), m.sum(axis=1)
    all_pairs = rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2))
    return ((k * m).sum() + all_pairs - 2 / (n - 2) * (rows_k @ rows_m)) / (n * (n - 3))


def _centred(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"CKA compares (N, C) with (N, C'); got {x.shape} and {y.shape}")
    return x - x.mean(axis=0), y - y.mean(axis=0)
