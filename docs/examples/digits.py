"""Train a classifier on arrays, store it, load it, and look at what it gets wrong.

The images are the library's 1,797 handwritten digits of 8×8 pixels. Your own arrays are used in the same way: images
(N, channels, height, width), uint8 or floating point, and a label for each.
"""

import numpy as np

import im2colnet as ic

train, test = ic.datasets.load("digits")
print(train)

net = ic.Sequential([
    ic.Conv2d(1, 16, 3, padding=1), ic.BatchNorm2d(16), ic.ReLU(), ic.MaxPool2d(2),     # (16, 4, 4)
    ic.Conv2d(16, 32, 3, padding=1), ic.BatchNorm2d(32), ic.ReLU(),                     # (32, 4, 4)
    ic.Flatten(), ic.Linear(512, 10),
])
print(net.summary(input_shape=(1, 8, 8)))

epochs = 6
trainer = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(3e-3)), seed=0)
history = trainer.fit(train, epochs, batch_size=64, validation=test)
trainer.save("digits.safetensors")

loaded = ic.Trainer.load("digits.safetensors")
accuracy = loaded.evaluate(test)["accuracy"]
print(f"accuracy on {len(test)} images that it has not been trained on: {accuracy:.2%}")

predicted = loaded.net.predict(test.images).argmax(axis=1)
for index in np.flatnonzero(predicted != test.labels)[:3]:
    print(f"image {index} is a {test.labels[index]}, and taken for a {predicted[index]}:")
    for row in test.images[index, 0]:
        print("   " + "".join(" .:-=+*#%@"[pixel * 9 // 255] * 2 for pixel in row.tolist()))
