"""The networks of `toolbox.model` in PyTorch, at the toolbox's default sizes.

A generator returns what is added to the bicubic enlargement; a discriminator returns C(x). They
have one channel. Those of pix2pix have three channels and do not enlarge. The adversarial losses
and an Adam step are at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

EPSILON, MOMENTUM = 1e-3, 0.2  # Keras: epsilon 0.001, momentum 0.8 (the share of the old average)


class Residual(nn.Module):
    """Adds ``factor * body(x)`` to x."""

    def __init__(self, *body: nn.Module, factor: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return torch.add(x, self.body(x), alpha=self.factor)


class Dense(nn.Module):
    """Five convolutions, each of which receives the input and all previous results."""

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        counts = [filters + i * growth for i in range(5)]
        self.grow = nn.ModuleList(_conv(count, growth, 3) for count in counts[:4])
        self.last = _conv(counts[4], filters, 3)
        self.activation = _leaky()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor with the number of channels of x."""
        known = [x]
        for layer in self.grow:
            known.append(self.activation(layer(torch.cat(known, 1))))
        return self.last(torch.cat(known, 1))


def _conv(count_in: int, count_out: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(count_in, count_out, size, stride, padding=size // 2)


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also accepts a single value, as Keras does; PyTorch refuses it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the shape of x."""
        if x.shape[0] * x.shape[2] * x.shape[3] > 1:
            return super().forward(x)
        options = (None, None, True, 0.0, self.eps, False)
        return torch.batch_norm(x, self.weight, self.bias, *options)


def _norm(filters: int) -> nn.Module:
    return nn.BatchNorm2d(filters, EPSILON, MOMENTUM)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _enlarge(filters: int, scale: int, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Return the sub-pixel convolutions for `scale`, a power of two."""
    layers: list[nn.Module] = []
    for _ in range(scale.bit_length() - 1):
        layers += [_conv(filters, 4 * filters, 3), nn.PixelShuffle(2), activation()]
    return layers


def bicubic(scale: int) -> nn.Module:
    """Return the bicubic enlargement."""
    return nn.Upsample(scale_factor=scale, mode="bicubic", align_corners=False)


def srcnn(scale: int) -> nn.Module:
    """Return SRCNN with 64 and 32 filters."""
    first = [_conv(1, 64, 9), nn.ReLU(), _conv(64, 32, 1), nn.ReLU()]
    return nn.Sequential(bicubic(scale), *first, _conv(32, 1, 5))


def fsrcnn(scale: int) -> nn.Module:
    """Return FSRCNN."""
    layers = [_conv(1, 56, 5), nn.PReLU(56), _conv(56, 12, 1), nn.PReLU(12)]
    for _ in range(4):
        layers += [_conv(12, 12, 3), nn.PReLU(12)]
    layers += [_conv(12, 56, 1), nn.PReLU(56)]
    up = nn.ConvTranspose2d(56, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
    return nn.Sequential(*layers, up)


def espcn(scale: int) -> nn.Module:
    """Return ESPCN."""
    body = [_conv(1, 64, 5), nn.Tanh(), _conv(64, 32, 3), nn.Tanh()]
    return nn.Sequential(*body, _conv(32, scale**2, 3), nn.PixelShuffle(scale))


def srgan(scale: int, filters: int = 32) -> nn.Module:
    """Return the generator of SRGAN with one residual block."""

    def conv() -> nn.Module:
        return _conv(filters, filters, 3)

    block = Residual(conv(), _norm(filters), nn.PReLU(filters), conv(), _norm(filters))
    return nn.Sequential(
        *[_conv(1, filters, 9), nn.PReLU(filters)],
        Residual(block, conv(), _norm(filters)),
        *_enlarge(filters, scale, lambda: nn.PReLU(filters)),
        _conv(filters, 1, 9),
    )


def esrgan(scale: int, filters: int = 32, growth: int = 32) -> nn.Module:
    """Return the generator of ESRGAN with two residual-in-residual dense blocks."""

    def block() -> nn.Module:
        dense = [Residual(Dense(filters, growth), factor=0.2) for _ in range(3)]
        return Residual(*dense, factor=0.2)

    return nn.Sequential(
        _conv(1, filters, 3),
        Residual(block(), block(), _conv(filters, filters, 3)),
        *_enlarge(filters, scale, _leaky),
        *[_conv(filters, filters, 3), _leaky(), _conv(filters, 1, 3)],
    )


def _discriminator(size: int, blocks: int, dropout: float = 0.0, filters: int = 4) -> nn.Module:
    def dropped() -> list[nn.Module]:
        return [nn.Dropout(dropout)] if dropout else []

    layers = [_conv(1, filters, 3), _leaky()]
    layers += [_conv(filters, filters, 3, 2), _norm(filters), _leaky(), *dropped()]
    count = filters
    for _ in range(blocks):
        layers += [_conv(count, 2 * count, 3), _norm(2 * count), _leaky()]
        count *= 2
        layers += [_conv(count, count, 3, 2), _norm(count), _leaky(), *dropped()]
    side = size // 2 ** (blocks + 1)
    layers += [nn.Flatten(), nn.Linear(side**2 * count, 16 * filters), _leaky(), *dropped()]
    return nn.Sequential(*layers, nn.Linear(16 * filters, 1))


def _normed(layer: nn.Module, filters: int, activation: nn.Module) -> nn.Module:
    return nn.Sequential(layer, _BatchNorm(filters, eps=1e-5, momentum=0.1), activation)


def _conv4(count_in: int, count_out: int, stride: int = 2) -> nn.Module:
    return nn.Conv2d(count_in, count_out, 4, stride, padding=1, bias=False)


def _conv4_up(count_in: int, count_out: int, bias: bool = False) -> nn.Module:
    return nn.ConvTranspose2d(count_in, count_out, 4, 2, padding=1, bias=bias)


class PooledUNet(nn.Module):
    """The U-Net with max pooling, for pictures whose sides are multiples of ``2 ** depth``."""

    def __init__(self, filters: int = 64, depth: int = 2, channels: int = 3) -> None:
        super().__init__()

        def level(count_in: int, count_out: int) -> nn.Module:
            conv = nn.Conv2d(count_in, count_out, 3, padding=1, bias=False)
            return _normed(conv, count_out, nn.ReLU(inplace=True))

        counts = [filters * 2**number for number in range(depth + 1)]
        pairs = list(pairwise(counts))
        self.down = nn.ModuleList(level(a, b) for a, b in pairwise([channels, *counts[:-1]]))
        self.bottom = level(*pairs[-1])
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.up = nn.ModuleList(level(2 * a, a) for a, _ in reversed(pairs))
        self.last = nn.Conv2d(filters, channels, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return pictures of the same size."""
        kept = []
        for level in self.down:
            kept.append(level(x))
            x = self.pool(kept[-1])
        x = self.bottom(x)
        for enlarge, level in zip(self.enlarge, self.up, strict=True):
            x = level(torch.cat([enlarge(x), kept.pop()], 1))
        return self.last(x)


class StridedUNet(nn.Module):
    """The paper's U-Net, for pictures whose sides are multiples of ``2 ** depth``."""

    def __init__(
        self, filters: int = 64, depth: int = 8, dropout: float = 0.5, channels: int = 3
    ) -> None:
        super().__init__()
        counts = [filters * min(2**number, 8) for number in range(depth)]
        self.down = nn.ModuleList([nn.Sequential(_conv4(channels, filters), _leaky())])
        for count_in, count_out in pairwise(counts):
            self.down.append(_normed(_conv4(count_in, count_out), count_out, _leaky()))
        self.up = nn.ModuleList()
        count_in = counts[-1]
        for number, count in reversed(list(enumerate(counts[:-1]))):
            dropped = dropout and number >= depth - 4
            layers = [nn.Dropout(dropout)] if dropped else []
            after = nn.Sequential(*layers, nn.ReLU(inplace=True))
            self.up.append(_normed(_conv4_up(count_in, count), count, after))
            count_in = 2 * count
        self.last = _conv4_up(count_in, channels, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return pictures of the same size."""
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
        kept.pop()
        for level in self.up:
            x = torch.cat([level(x), kept.pop()], 1)
        return self.last(x)


def _pooled_judge(filters: int = 16, channels: int = 3) -> nn.Module:
    """Return the discriminator of pix2pix with max pooling."""
    layers: list[nn.Module] = []
    count_in = channels
    for count in (filters * 2**number for number in range(5)):
        conv = nn.Conv2d(count_in, count, 3, padding=1, bias=False)
        layers += [_normed(conv, count, nn.ReLU(inplace=True)), nn.MaxPool2d(2, ceil_mode=True)]
        count_in = count
    return nn.Sequential(*layers[:-1], _conv(count_in, 1, 3))


def _patch_judge(filters: int = 64, channels: int = 6) -> nn.Module:
    """Return the discriminator of 70 × 70 patches, which also sees the generator's input."""
    layers: list[nn.Module] = [_conv4(channels, filters), _leaky()]
    for number, stride in enumerate((2, 2, 1)):
        count = filters * 2**number
        layers.append(_normed(_conv4(count, 2 * count, stride), 2 * count, _leaky()))
    return nn.Sequential(*layers, nn.Conv2d(8 * filters, 1, 4, padding=1))


#: Functions of the scale that return a generator.
GENERATORS: dict[str, Callable[[int], nn.Module]] = {
    "srcnn": srcnn,
    "fsrcnn": fsrcnn,
    "espcn": espcn,
    "srgan": srgan,
    "esrgan": esrgan,
    "pix2pix": lambda scale: PooledUNet(),
    "pix2pix_paper": lambda scale: StridedUNet(),
}
#: Functions of the side of a high-resolution image that return a discriminator.
DISCRIMINATORS: dict[str, Callable[[int], nn.Module]] = {
    "srgan": lambda size: _discriminator(size, blocks=1),
    "esrgan": lambda size: _discriminator(size, blocks=2, dropout=0.4),
    "pix2pix": lambda size: _pooled_judge(),
    "pix2pix_paper": lambda size: _patch_judge(),
}


def told(verdict: torch.Tensor, label: float) -> torch.Tensor:
    """Return the cross-entropy of C(x) with a label: 1 for true images, 0 for generated ones."""
    return nn.functional.binary_cross_entropy_with_logits(verdict, torch.full_like(verdict, label))


def relativistic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the relativistic average loss for C of images labelled true, and of the others."""
    entropy = nn.functional.binary_cross_entropy_with_logits
    one, other = first - second.mean(), second - first.mean()
    return entropy(one, torch.ones_like(one)) + entropy(other, torch.zeros_like(other))


def learner(net: nn.Module) -> Callable[[torch.Tensor], None]:
    """Return a function that takes one Adam step down a loss."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def learn(loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return learn
