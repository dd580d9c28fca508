# SPDX-License-Identifier: Apache-2.0
"""Two processes train one step together; the first writes the gradients that the optimiser gets.

Lightning starts the second process itself, by the same command line: ddp_process.py CONFIG RUN_DIR OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lightning.pytorch as pl
import torch
import yaml

from training import runner
from training.config import TrainConfig


class WriteGradients(pl.Callback):
    """After the processes have exchanged their gradients, before they are clipped."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Any
    ) -> None:
        if trainer.is_global_zero and trainer.global_step == 0:
            gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
            torch.save(gradients, sys.argv[3])


def main() -> None:
    """Run the training as train.py does, with one more callback."""
    make_trainer = runner._trainer

    def with_callback(*arguments: Any) -> pl.Trainer:
        trainer = make_trainer(*arguments)
        trainer.callbacks.append(WriteGradients())  # type: ignore[attr-defined]
        return trainer

    runner._trainer = with_callback  # type: ignore[assignment]
    config = TrainConfig.from_dict(yaml.safe_load(Path(sys.argv[1]).read_text()))
    runner.run_training(config, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
