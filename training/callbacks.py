# SPDX-License-Identifier: Apache-2.0
"""Lightning callbacks: steps whose gradients are not finite are left out; pictures for TensorBoard."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from depth_sr_ros.errors import TrainingError
from training.data.validation import ValidationItem
from training.pictures import picture_row

MAX_SKIPPED = 50  # in a row
PICTURES = 4  # of a validation
PICTURE_CASE = "noisy_x4"


class NonFiniteGuard(pl.Callback):
    """Leaves out a step whose gradients hold NaN or infinity, and counts it as `train/skipped`.

    One such step would put NaN into every weight. Raises TrainingError after MAX_SKIPPED in a row: then the
    run has diverged. On several devices all see the same gradients, so all leave out the same steps.
    """

    def __init__(self) -> None:
        self.skipped = self._in_a_row = 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        if bool(norms.sum().isfinite()):
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        # Without gradients the optimiser leaves weights and moments as they are.
        optimizer.zero_grad(set_to_none=True)
        pl_module.log("train/skipped", float(self.skipped))
        if self._in_a_row > MAX_SKIPPED:
            raise TrainingError(
                f"the gradients of {self._in_a_row} steps in a row are not finite (step "
                f"{trainer.global_step}): the run has diverged; copy best.ckpt over last.ckpt and resume "
                "with a lower optim.gradient_clip, or start another run with a lower optim.lr from best.ckpt "
                "(training/export.py, --init-from)"
            )


class ValidationPictures(pl.Callback):
    """Puts RGB, LR depth, answer and truth of some validation frames beside each other into TensorBoard."""

    def __init__(self) -> None:
        self._shown = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shown = 0

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: ValidationItem,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.is_global_zero or batch.case != PICTURE_CASE or self._shown >= PICTURES:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                picture = side_by_side(batch, outputs.numpy())
                tag = f"{PICTURE_CASE}/{self._shown}"
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
        self._shown += 1


def side_by_side(item: ValidationItem, answer: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """RGB, LR depth, `answer` (HxW metres) and truth in one row: HxWx3 uint8."""
    return picture_row(item.rgb, [item.depth_lr, answer, item.truth])
