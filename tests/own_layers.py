"""Layers such as users write, and what those must compute that stand in networks which the oracles walk."""

from helpers import OFFSET

from im2colnet.layers import Layer, Needs, Parameter
from im2colnet.testing.cases import LayerCase


class Silu(Layer):
    """Only what is needed: ``x · sigmoid(x)``."""

    def forward(self, x, ctx):
        ctx.sigmoid = 1 / (1 + ctx.xp.exp(-x))
        return x * ctx.sigmoid

    def backward(self, dy, ctx):
        return dy * (ctx.sigmoid + ctx.y * (1 - ctx.sigmoid))


class Mirror(Layer):
    """Returns views of its arguments."""

    def forward(self, x, ctx):
        return x[:, :, ::-1]

    def backward(self, dy, ctx):
        return dy[:, :, ::-1]


class Through(Layer):
    """Returns its arguments themselves."""

    def forward(self, x, ctx):
        return x

    def backward(self, dy, ctx):
        return dy


class UsersScale(Layer):
    """A factor for each channel, as images (N, C, H, W) never know it: rows are (H, C, W, N)."""

    def __init__(self, channels, start=1.0):
        self.channels, self.start = channels, start

    def parameters(self):
        return {"factor": Parameter((self.channels,), bound=0.1, value=self.start)}

    def forward(self, x, ctx):
        return x * ctx.params["factor"][:, None, None]

    def backward(self, dy, ctx):
        ctx.grads["factor"][...] = (dy * ctx.x).sum((0, 2, 3))
        return dy * ctx.params["factor"][:, None, None]


class Halve(Layer):
    """Changes the shape, writes where it is told to, and plans its buffers."""

    def output_shape(self, x):
        return (x[0] // 2, *x[1:])

    def needs(self, x, y, dtype, backend, training):
        return Needs(input=False, output=False)

    def forward(self, x, ctx):
        return ctx.xp.add(x[0 : len(ctx.y) * 2 : 2], x[1 : len(ctx.y) * 2 : 2], out=ctx.y)

    def backward(self, dy, ctx):
        ctx.dx[...] = 0
        for i in (0, 1):
            ctx.dx[i : len(dy) * 2 : 2] = dy
        return ctx.dx


#: what those must compute that stand in networks which the oracles walk
CASES = [
    OFFSET,
    LayerCase(Through, lambda layer, state, x: x, lambda layer, state, dy, x: ((dy,), {}), ()),
    LayerCase(Mirror, lambda layer, state, x: x[..., ::-1], lambda layer, state, dy, x: ((dy[..., ::-1],), {}), ()),
]
