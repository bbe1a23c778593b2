"""A network from an ONNX file learns another task, and becomes an ONNX file again.

The file is written here, by a network that has learned the digits 0 to 4; yours may come from PyTorch, TensorFlow or
any other program. Needs the extra: ``pip install 'im2colnet[onnx]'``.
"""

import numpy as np

import im2colnet as ic

train, test = ic.datasets.load("digits")


def digits(data, first):
    """Return the images and the labels, 0 to 4, of five digits from ``first`` on."""
    chosen = (first <= data.labels) & (data.labels < first + 5)
    return data.images[chosen], data.labels[chosen] - first


# a file from elsewhere: it ends in a softmax, as most do
layers = {
    "conv1": ic.Conv2d(1, 16, 3, padding=1), "norm1": ic.BatchNorm2d(16), "relu1": ic.ReLU(),
    "conv2": ic.Conv2d(16, 32, 3, padding=1), "relu2": ic.ReLU(), "pool": ic.MaxPool2d(2),
    "flatten": ic.Flatten(), "fc": ic.Linear(512, 5), "softmax": ic.Softmax(1),
}
net = ic.Net(layers, scores=["fc"])
ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(3e-3)), seed=0).fit(digits(train, 0), epochs=5)
ic.onnx.save(net, "low_digits.onnx", input_shape=(1, 8, 8))

net = ic.onnx.load("low_digits.onnx")
print(net.summary(input_shape=(1, 8, 8)))
images, labels = digits(test, 0)
print(f"digits 0 to 4: {np.mean(net.predict(images).argmax(axis=1) == labels):.1%} right")

# the same network learns the digits 5 to 9: the first layers stay, the last one is trained
net.freeze("conv1.*", "norm1.*", statistics=True)
trainer = ic.Trainer(net, optimizer=ic.Adam(ic.Cosine(3e-3)), seed=0)
trainer.fit(digits(train, 5), epochs=5)
accuracy = trainer.evaluate(digits(test, 5))["accuracy"]
print(f"digits 5 to 9: {accuracy:.1%} right")

trainer.save("high_digits.safetensors")
loaded = ic.Trainer.load("high_digits.safetensors").net     # needs no onnx
ic.onnx.save(loaded, "high_digits.onnx")

try:
    import onnxruntime
except ModuleNotFoundError:
    print("onnxruntime is not installed: pip install onnxruntime")
else:
    session = onnxruntime.InferenceSession("high_digits.onnx")
    images, _ = digits(test, 5)
    numbers = images.astype("float32") / 255                # a file's network takes numbers as they are
    (outputs,) = session.run(None, {session.get_inputs()[0].name: numbers})
    same = np.mean(outputs.argmax(axis=1) == loaded.predict(images).argmax(axis=1))
    print(f"onnxruntime takes {same:.0%} of them for the same class")
