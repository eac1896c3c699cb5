"""Helpers for tests: trainers on a CPU, and training steps on the pictures of an archive."""

from __future__ import annotations

import itertools

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
        dataset,
        global_batch=config.batch,
        seed=config.seed,
        mirror=config.mirror,
        start_images=trainer.progress.images,
        patches=config.patches,
    )
    for batch in itertools.islice(batches, num_steps):
        trainer.step(batch.images, batch.captions, batch.boxes)
