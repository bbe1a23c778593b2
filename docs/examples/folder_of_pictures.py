"""Train on a folder that holds a folder of pictures for each class.

So that there is such a folder, the program first draws one: circles, squares and triangles of any size, colour and
place. Instead of `pictures`, give the path of yours. It needs Pillow: pip install Pillow
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import im2colnet as ic


def draw(kind, rng):
    """Return a picture of one shape on a noisy background."""
    width, height = rng.integers(40, 70, 2).tolist()
    picture = Image.fromarray(rng.integers(0, 80, (height, width, 3), dtype=np.uint8))
    x, y, r = rng.uniform(0.4, 0.6) * width, rng.uniform(0.4, 0.6) * height, rng.uniform(10, 16)
    color, pen = tuple(rng.integers(150, 256, 3).tolist()), ImageDraw.Draw(picture)
    if kind == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), color)
    else:
        pen.regular_polygon((x, y, r), {"square": 4, "triangle": 3}[kind], rng.uniform(-15, 15), color)
    return picture


rng = np.random.default_rng(0)
for kind in ("circle", "square", "triangle"):
    folder = Path("pictures", kind)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(80):
        draw(kind, rng).save(folder / f"{number}.png")

train, test = ic.datasets.from_folder("pictures", size=32, split=0.2)
print(train, test, train.files[:2])

layers = []
for channels, filters in [(3, 16), (16, 32), (32, 64)]:
    layers += [ic.Conv2d(channels, filters, 3, padding=1), ic.BatchNorm2d(filters), ic.ReLU(), ic.MaxPool2d(2)]
net = ic.Sequential([*layers, ic.GlobalAvgPool2d(), ic.Flatten(), ic.Linear(64, len(train.classes))])

trainer = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(5e-3)), seed=0)
augment = [ic.transforms.RandomHorizontalFlip(), ic.transforms.RandomCrop(padding=2)]
trainer.fit(train, epochs=12, batch_size=16, validation=test, augment=augment, normalize=True)

predicted = net.predict(test.images).argmax(axis=1)
accuracy = (predicted == test.labels).mean()
print(f"{accuracy:.1%} of {len(test)} pictures are right")
for place in np.flatnonzero(predicted != test.labels):
    print(f"{test.files[place]} is taken for a {test.classes[predicted[place]]}")
