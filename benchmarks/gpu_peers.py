"""timm's training of a network under PyTorch's compiler; `benchmarks.gpu` calls it.

    python benchmarks/gpu_peers.py --model efficientnet_b0 --data DIR --batch_size 256

DIR/train holds one folder of photos per class. As timm's own training script does it: its loader
with random resized crops and flips, normalization on the GPU, channels last, autocast to bfloat16,
`torch.compile`, AdamW. Prints one line of JSON: images per second of the median epoch from the
second on, and of the step alone.
"""

import argparse
import json
import statistics
import sys
import time

SIZE = 224


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    asked = parser.parse_args(argv)
    import timm
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    loader = make_loader(asked, device)
    class_count = len(loader.dataset.reader.class_to_idx)
    model = timm.create_model(asked.model, num_classes=class_count)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    compiled = torch.compile(model)

    def step(images, labels):
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_function(compiled(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    epoch_seconds, image_count = [], 0
    for _ in range(asked.epochs):
        began, image_count = time.perf_counter(), 0
        for images, labels in loader:
            loss = step(images, labels)
            image_count += len(labels)
        loss.item()
        epoch_seconds.append(time.perf_counter() - began)
    result = {
        "timm": image_count / statistics.median(epoch_seconds[1:]),
        "timm_step": len(labels) / time_step(step, images, labels),
        "timm_epochs": [round(image_count / seconds) for seconds in epoch_seconds],
    }
    print(json.dumps(result))


def make_loader(asked, device):
    """timm's loader of the photos in DATA/train."""
    from timm.data import create_dataset, create_loader

    return create_loader(
        create_dataset("", f"{asked.data}/train", is_training=True),
        input_size=(3, SIZE, SIZE),
        batch_size=asked.batch_size,
        is_training=True,
        color_jitter=None,
        num_workers=asked.workers,
        persistent_workers=True,
        device=device,
    )


def time_step(step, images, labels, steps=20):
    """Seconds of a step on one batch."""
    for count in (3, steps):
        began = time.perf_counter()
        for _ in range(count):
            loss = step(images, labels)
        loss.item()
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    sys.exit(main())
