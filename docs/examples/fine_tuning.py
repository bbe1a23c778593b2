"""Fine-tuning: a network that was trained on one task learns another one from few examples.

A network learns the ten digits. Then its last layer is replaced, and it learns whether a digit is 5 or more, from two
images of each digit. Beside it a new network learns the same from nothing.
"""

import numpy as np

import im2colnet as ic


def network(outputs):
    """Return a network whose last layer has the name "10"."""
    return ic.Sequential([
        ic.Conv2d(1, 16, 3, padding=1), ic.BatchNorm2d(16), ic.ReLU(),
        ic.Conv2d(16, 32, 3, padding=1), ic.BatchNorm2d(32), ic.ReLU(), ic.MaxPool2d(2),
        ic.Flatten(), ic.Linear(512, 64), ic.ReLU(), ic.Linear(64, outputs),
    ])


train, test = ic.datasets.load("digits")
first = np.concatenate([np.flatnonzero(train.labels == digit)[:2] for digit in range(10)])
few, others = (train.images[first], train.labels[first] // 5), (test.images, test.labels // 5)

net = network(10)
ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(3e-3)), seed=0).fit(train, epochs=5)

# all layers but the new one stay as they are, with the statistics of the batch norms
net.replace("10", ic.Linear(64, 2))
net.freeze("[0-8].*", statistics=True)
tuned = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(1e-2)), seed=0)
tuned.fit(few, epochs=20, batch_size=10, progress=False)

# then the second convolution and the linear layers learn too, slowly
net.unfreeze("[3-8].*")
tuned = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(1e-4)), seed=0)
tuned.fit(few, epochs=10, batch_size=10, progress=False)

alone = ic.Trainer(network(2), optimizer=ic.Adam(ic.Cosine(3e-3)), seed=0)
alone.fit(few, epochs=30, batch_size=10, progress=False)

accuracy = {name: each.evaluate(others)["accuracy"] for name, each in (("fine-tuned", tuned), ("from nothing", alone))}
print(f"5 or more, {len(others[1])} other images:", {name: f"{value:.1%}" for name, value in accuracy.items()})
