"""Rounds weights to 8 bits so that what the layers give stays as it was.

The converter rounds every weight to the nearest step, and the errors of a
layer add up in its outputs. Here each weight's error is made up for by the
weights of the same output that are not rounded yet, by how their inputs go
together on real pictures (Frantar et al. 2023, "GPTQ"), and what is left of it
on average goes into the bias (Nagel et al. 2019, "Data-free quantization
through weight equalization and bias correction", section 4.2). Layer after
layer, on the outputs of the rounded layers before it.
"""

from collections import Counter

import numpy as np

LEVELS = 127  # steps on each side of zero of an 8-bit weight, as TensorFlow Lite has them
_DAMPING = 0.01
# Of a layer's outputs at most so many rows and columns of a picture are looked at.
_LOOK_AT = 14
_CHUNK = 32


def to_grid(weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Round so that the sum over the inputs changes least; each row keeps its largest weight and so its step.

    ``weights``: groups × outputs × inputs. ``moments``: groups × inputs × inputs,
    the second moments of the inputs about their means.
    """
    w = weights.astype(np.float64)
    scale = np.abs(w).max(2, keepdims=True) / LEVELS
    scale[scale == 0] = 1
    largest = np.abs(w).argmax(2)
    h = moments.astype(np.float64)
    diagonal = np.einsum("gii->gi", h)  # a view
    mean = diagonal.mean(1, keepdims=True)
    diagonal += _DAMPING * np.where(mean > 1e-12, mean, 1)
    # What matters most is rounded first, while there are many that can make up for it.
    order = np.argsort(-diagonal, 1, kind="stable")
    place = np.argsort(order, 1, kind="stable")
    w = np.take_along_axis(w, order[:, None], 2) / scale
    h = np.take_along_axis(np.take_along_axis(h, order[:, :, None], 1), order[:, None], 2)
    factor = np.linalg.cholesky(np.linalg.inv(h)).transpose(0, 2, 1)
    kept = np.take_along_axis(place, largest, 1)
    ends = LEVELS * np.sign(np.take_along_axis(w, kept[..., None], 2))[..., 0]
    q = np.empty_like(w)
    for j in range(w.shape[2]):
        q[..., j] = np.where(kept == j, ends, np.clip(np.round(w[..., j]), -LEVELS, LEVELS))
        error = (w[..., j] - q[..., j]) / factor[:, None, j, j]
        w[..., j + 1 :] -= error[..., None] * factor[:, None, j, j + 1 :]
    return (np.take_along_axis(q, place[:, None], 2) * scale).astype(np.float32)


def _moments(chunks: list[np.ndarray], kernel: int, stride: int, depthwise: bool) -> np.ndarray:
    """Second moments about the mean of what a convolution's weights are multiplied with, as ``to_grid`` takes them."""
    import tensorflow as tf

    total, sums, count, near = 0, 0, 0, None
    for x in chunks:
        size = -(-x.shape[1] // stride)
        pad = max((size - 1) * stride + kernel - x.shape[1], 0)
        edge = (pad // 2, pad - pad // 2)
        step = stride * max(1, size // _LOOK_AT)
        padded = np.pad(x, ((0, 0), edge, edge, (0, 0)))
        p = tf.image.extract_patches(padded, [1, kernel, kernel, 1], [1, step, step, 1], [1, 1, 1, 1], "VALID").numpy()
        if depthwise:
            p = p.reshape(-1, kernel * kernel, x.shape[-1]).transpose(2, 1, 0)
        else:
            p = p.reshape(1, -1, p.shape[-1]).transpose(0, 2, 1)
        if near is None:
            near = p.mean(2, keepdims=True)  # numbers around zero lose less when squared
        p = p - near
        total = total + p @ p.transpose(0, 2, 1)
        sums = sums + p.sum(2)
        count += p.shape[2]
    mean = sums / count
    return total / count - mean[:, :, None] * mean[:, None]


def _settle(conv, norm, exact: list[np.ndarray], rough: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Fold ``norm`` into ``conv``, round, correct the bias; returns the outputs of before and of now."""
    from keras import layers

    (kernel,) = conv.get_weights()
    gamma, beta, mean, variance = norm.get_weights()
    exact = [np.asarray(norm(conv(x), training=False)) for x in exact]
    factor = gamma / np.sqrt(variance + norm.epsilon)
    depthwise, size = isinstance(conv, layers.DepthwiseConv2D), kernel.shape[0]
    kernel = kernel * (factor[:, None] if depthwise else factor)
    shape = kernel.shape  # height, width, channels, then outputs of each channel or outputs
    kernel = kernel.reshape(size * size, -1).T[:, None] if depthwise else kernel.reshape(-1, shape[-1]).T[None]
    kernel = to_grid(kernel, _moments(rough, size, conv.strides[0], depthwise))
    conv.set_weights([(kernel[:, 0] if depthwise else kernel[0]).T.reshape(shape)])

    n = len(gamma)
    plain = [np.ones(n), beta - mean * factor, np.zeros(n), np.full(n, 1 - norm.epsilon)]
    norm.set_weights(plain)
    found = [np.asarray(norm(conv(x), training=False)) for x in rough]
    count = sum(len(x) for x in exact)
    shift = sum((a - b).mean((1, 2)).sum(0) for a, b in zip(exact, found, strict=True)) / count
    plain[1] = plain[1] + shift
    norm.set_weights(plain)
    return exact, [b + shift for b in found]


def _inputs(layer) -> list:
    """The tensors that a layer takes."""
    from keras import layers

    if isinstance(layer, layers.InputLayer):
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def settle(models: list, pictures: np.ndarray) -> None:
    """Round the convolutions of ``models``, which follow one another, in place.

    ``pictures``: N×224×224×3 bytes; 64 are enough. Batch normalisation is left
    with a bias alone, so that the converter finds the weights as they stand here.
    """
    from keras import layers
    from threadpoolctl import threadpool_limits

    from . import network

    x = network.normalise(pictures)
    exact = [x[i : i + _CHUNK] for i in range(0, len(x), _CHUNK)]
    rough = list(exact)
    with threadpool_limits(1, "blas"):  # sums in another order would round otherwise
        for model in models:
            values = {id(model.input): (exact, rough)}
            wanted = Counter(id(t) for layer in model.layers for t in _inputs(layer))

            def take(tensor, values=values, wanted=wanted):
                """What was found for a tensor, which is forgotten when nothing else wants it."""
                wanted[id(tensor)] -= 1
                return values[id(tensor)] if wanted[id(tensor)] else values.pop(id(tensor))

            convolution = None
            for layer in model.layers:
                if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
                    convolution = layer
                    continue
                if isinstance(layer, layers.BatchNormalization):
                    exact, rough = _settle(convolution, layer, *take(convolution.input))
                elif isinstance(layer, layers.Add):
                    pairs = [take(t) for t in layer.input]
                    exact, rough = ([a + b for a, b in zip(*two, strict=True)] for two in zip(*pairs, strict=True))
                elif isinstance(layer, layers.ReLU):
                    exact, rough = ([np.clip(v, 0, 6) for v in chunks] for chunks in take(layer.input))
                else:  # the input, and what comes after the last convolution
                    continue
                values[id(layer.output)] = exact, rough
