"""Makes tuxwatch's penguin model from openly licensed material.

The steps, each a module: ``fetch`` brings the Debian packages that
``sources.toml`` lists, ``material`` takes the pictures out of them,
``figures`` renders toy figures, ``scenes`` composes pictures of desks and
rooms with and without a penguin, ``network`` builds EfficientNet-Lite0 and
fills it with pretrained weights, ``train`` fits it, ``export`` writes the
TensorFlow Lite file with its manifest, ``evaluate`` measures that file.

``python -m penguin_model --help`` is the way in. Only ``network``, ``train``
and ``export`` need TensorFlow.
"""
