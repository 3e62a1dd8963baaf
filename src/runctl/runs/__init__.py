"""The heart: a training job from its plan to its end."""
