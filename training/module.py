# SPDX-License-Identifier: Apache-2.0
"""The Lightning module: loss, optimiser, schedule and validation of the depth super-resolution network."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from depth_sr_ros.errors import DepthSRError
from depth_sr_ros.metrics import depth_metrics
from depth_sr_ros.models.checkpoint import CONFIDENCE_PREFIX, GUIDE_PREFIX
from depth_sr_ros.models.depth_sr import DepthPrediction, DepthSRNet
from training.config import TrainConfig
from training.data.batches import Batch, BatchMaker, sees_no_guide, train_loader
from training.data.validation import ValidationItem, validation_items
from training.losses import depth_loss, laplace_loss, scene_span

RESIDUAL_SCALES = (".beta", ".gamma")  # of the NAFNet blocks


class DepthSRModule(pl.LightningModule):
    """Trains a `DepthSRNet` on batches by step number; validates under the evaluation protocol."""

    def __init__(self, config: TrainConfig, net: DepthSRNet) -> None:
        super().__init__()
        self.config = config
        self.net = net
        if config.optim.parts == "confidence":
            for name, parameter in net.named_parameters():
                parameter.requires_grad_(name.startswith(CONFIDENCE_PREFIX))
        self._maker: BatchMaker | None = None
        self._log_ratios: dict[str, list[float]] = {}

    def train_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        return train_loader(self.config, lambda: self.global_step, self.global_rank)

    def val_dataloader(self) -> DataLoader:  # type: ignore[type-arg]
        items = validation_items(self.config.run.validation_frames, self.config.data.sources)
        return DataLoader(items, batch_size=None, collate_fn=lambda item: item)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A step number becomes that step's batch, made on `device`; validation items stay NumPy.

        Raises the error that a loader process met in place of a batch.
        """
        if isinstance(batch, DepthSRError):
            raise batch
        if isinstance(batch, ValidationItem):
            return batch
        if not isinstance(batch, Tensor):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._maker is None:
            self._maker = BatchMaker(self.config, device)
        return self._maker(int(batch), self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        prediction = self.net(
            batch["rgb"],
            batch["depth_lr"],
            self._relative_depth(batch),
            confidence=self.config.loss.laplace > 0,
        )
        # Differences of neighbours are lost in half precision.
        with torch.autocast(self.device.type, enabled=False):
            terms = self._loss(prediction, batch["depth"])
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", on_step=True)
        return terms["loss"]

    def _relative_depth(self, batch: Batch) -> Tensor | None:
        """The simulated guide; a flat map, which says "no guide", for some batches; None asks the guide."""
        simulated = batch.get("relative_depth")
        if self.net.guide is None and simulated is None:
            return None
        if sees_no_guide(self.config, self.global_step, self.global_rank):
            return torch.zeros_like(batch["rgb"][:, :1])
        return simulated

    def _loss(self, prediction: DepthPrediction, depth: Tensor) -> dict[str, Tensor]:
        valid, weights = torch.isfinite(depth), self.config.loss
        if weights.unit == "scene":
            span = scene_span(depth, valid)
            terms = depth_loss(prediction.depth / span, depth / span, valid, weights)
        else:
            target = prediction.normalizer.normalize(torch.where(valid, depth, 1.0))
            terms = depth_loss(prediction.normalized, target, valid, weights)
        if prediction.log_scale is not None:
            terms["laplace"] = laplace_loss(prediction.depth, prediction.log_scale, depth, valid)
            terms["loss"] = terms["loss"] + weights.laplace * terms["laplace"]
        return terms

    def on_validation_epoch_start(self) -> None:
        self._log_ratios = {}

    def validation_step(self, item: ValidationItem, batch_idx: int) -> Tensor:
        """Note RMSE over the untrained network's; returns the answer, HxW metres."""
        rgb = torch.from_numpy(np.ascontiguousarray(item.rgb)).permute(2, 0, 1)[None].to(self.device)
        lr = torch.from_numpy(item.depth_lr)[None, None].to(self.device)
        predicted = self.net.upsample(rgb, lr)[0, 0].float().cpu().numpy()
        rmse = depth_metrics(predicted, item.truth)["rmse"]
        # An exact answer would be log(0); no measured frame comes near a millionth of its start.
        ratio = max(rmse / max(item.start_rmse, 1e-9), 1e-6)
        self._log_ratios.setdefault(item.case, []).append(math.log(ratio))
        return torch.from_numpy(predicted)

    def on_validation_epoch_end(self) -> None:
        """Log each case's RMSE over the untrained network's.

        A geometric mean over frames: the far ones, whose errors are large, do not outweigh the others.
        """
        means = {case: sum(ratios) / len(ratios) for case, ratios in self._log_ratios.items()}
        for case, value in means.items():
            self.log(f"val/{case}", math.exp(value), sync_dist=True)
        score = math.exp(sum(means.values()) / len(means))
        self.log("val/score", score, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optim = self.config.optim
        named = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        guide = [p for name, p in named if name.startswith(GUIDE_PREFIX)]
        unet = [(name, p) for name, p in named if not name.startswith(GUIDE_PREFIX)]
        gates = [p for name, p in unet if name.endswith(RESIDUAL_SCALES)]
        others = [p for name, p in unet if not name.endswith(RESIDUAL_SCALES)]
        groups: list[dict[str, Any]] = [{"params": others}]
        if gates:
            # They start at zero and gate all that their block learns; a decay would close them again.
            gate_lr = optim.lr * optim.residual_scale_lr
            groups.append({"params": gates, "lr": gate_lr, "weight_decay": 0.0})
        if guide:
            groups.append({"params": guide, "lr": self.config.guide.lr})
        optimizer = torch.optim.AdamW(
            groups,
            lr=optim.lr,
            betas=(0.9, 0.95),
            weight_decay=optim.weight_decay,
            # One tensor at a time it takes a sixth of a step on a CPU. In mixed precision Lightning clips no
            # gradients of a fused optimiser, which may scale them back by itself.
            fused=self.config.run.precision == "32-true",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        optim = self.config.optim
        if step < optim.warmup_steps:
            return (step + 1) / optim.warmup_steps
        done = min(1.0, (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps))
        return optim.final_lr_ratio + (1 - optim.final_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done))
