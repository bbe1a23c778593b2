"""Take a training step on the plug-in of tests/plugin, which ``IM2COLNET_BACKEND`` names, and see that it was used."""

import im2colnet as ic

train, _ = ic.datasets.load("digits")
trainer = ic.Trainer(ic.models.vgg8(in_channels=1, input_size=8))
trainer.step(train.images[:64], train.labels[:64])
backend = trainer.net.backend
assert type(backend).__module__ == "im2colnet_demo", backend
assert backend.calls > 0
print(f"{backend} trained: its kernel ran {backend.calls} times in a step")
