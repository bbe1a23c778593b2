"""Find the pixels of objects: a U-Net gives each pixel of an image a class.

The images are drawn: discs and bars in noise. The labels are images too: 0 for the background, 1 for the pixels of a
disc, 2 for those of a bar.
"""

import numpy as np

import im2colnet as ic

SIZE = 32
rng = np.random.default_rng(0)


def draw(count):
    """Return images (count, 1, SIZE, SIZE) and the class of each pixel, (count, SIZE, SIZE)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    classes = np.zeros((count, SIZE, SIZE), np.uint8)
    for labels in classes:
        for kind in (1, 2):
            (y, x), size = rng.integers(5, SIZE - 5, 2), rng.integers(4, 8)
            below, right = rows - y, columns - x
            labels[np.hypot(below, right) < size if kind == 1 else abs(right) + 6 * abs(below) < 2 * size] = kind
    images = (classes > 0) * 0.5 + rng.normal(0.2, 0.2, classes.shape)
    return images[:, None].astype("float32"), classes


train, test = draw(200), draw(40)
net = ic.models.unet(classes=3, in_channels=1, input_size=SIZE, width=8, depth=2)
trainer = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(1e-2)), seed=1)
trainer.fit(train, epochs=8, batch_size=16, validation=test, metrics={"iou": ic.metrics.iou})

scores = net.predict(test[0])                                         # (40, 3, 32, 32): of each class at each pixel
found = scores.argmax(axis=1)
iou = ic.metrics.iou(scores, test[1], average=None)
print("intersection over union of background, discs, bars:", iou.round(3))
for expected, row in zip(test[1][0, ::2], found[0, ::2]):
    print("".join(".o#"[kind] for kind in expected), "".join(".o#"[kind] for kind in row))
