"""Helpers for tests: trainers on a CPU, and training steps on the pictures of an archive."""

from __future__ import annotations

import torch

from datasets.loader import training_batches
from datasets.text_image import TextImageDataset
from networks.text_encoders import load_encoder
from training.trainer import Trainer


def make_trainer(config):
    return Trainer(config, load_encoder(config.text_encoder), torch.device("cpu"))


def run_steps(trainer, archive, num_steps):
    dataset, config = TextImageDataset(archive, split="train"), trainer.config
    batches = training_batches(
        dataset, global_batch=config.batch, seed=config.seed, start_images=trainer.progress.images
    )
    for _ in range(num_steps):
        batch = next(batches)
        trainer.step(batch.images, batch.captions)
