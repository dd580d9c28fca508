# SPDX-License-Identifier: Apache-2.0
"""Errors on bad input: each message names the value, the allowed range and the fix."""


class DepthSRError(ValueError):
    """Base of every error raised on bad input."""


class ConfigError(DepthSRError):
    """A configuration value or key is wrong."""


class CheckpointError(DepthSRError):
    """A checkpoint is missing, damaged or of another variant."""


class FrameError(DepthSRError):
    """A frame cannot be processed: wrong encoding, type, size or length."""


class TrainingError(DepthSRError):
    """A training run cannot go on."""


class DataError(DepthSRError):
    """A file or data set cannot be read."""
