"""The networks of `toolbox.model` in PyTorch, at the toolbox's default sizes, for one channel.

A generator returns what is added to the bicubic enlargement; a discriminator returns C(x). What
they learn by stands at the end: the relativistic loss and an Adam step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

EPSILON, MOMENTUM = 1e-3, 0.2  # Keras: epsilon 0.001, momentum 0.8 of the average's own past


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
    """Five convolutions, each of which sees all that went before."""

    def __init__(self, filters: int, growth: int) -> None:
        super().__init__()
        counts = [filters + i * growth for i in range(5)]
        self.grow = nn.ModuleList(_conv(count, growth, 3) for count in counts[:4])
        self.last = _conv(counts[4], filters, 3)
        self.activation = _leaky()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return as many channels as x has."""
        known = [x]
        for layer in self.grow:
            known.append(self.activation(layer(torch.cat(known, 1))))
        return self.last(torch.cat(known, 1))


def _conv(count_in: int, count_out: int, size: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(count_in, count_out, size, stride, padding=size // 2)


def _norm(filters: int) -> nn.Module:
    return nn.BatchNorm2d(filters, EPSILON, MOMENTUM)


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _enlarge(filters: int, scale: int, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Return as many sub-pixel convolutions as `scale`, a power of two, needs."""
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


#: From the enlargement to a generator.
GENERATORS: dict[str, Callable[[int], nn.Module]] = {
    "srcnn": srcnn,
    "fsrcnn": fsrcnn,
    "espcn": espcn,
    "srgan": srgan,
    "esrgan": esrgan,
}
#: From the side of a high-resolution image to a discriminator.
DISCRIMINATORS: dict[str, Callable[[int], nn.Module]] = {
    "srgan": lambda size: _discriminator(size, blocks=1),
    "esrgan": lambda size: _discriminator(size, blocks=2, dropout=0.4),
}


def relativistic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the relativistic average loss of C of images to be taken for true ones, and others."""
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
