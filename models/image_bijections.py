"""Invertible maps of pictures (B, C, H, W), the networks in their couplings, and how they stack at scales.

The networks have no batch statistics: what they make of a row never depends on another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor as Array
from torch import nn
from torch.nn import functional as F

from models.bijections import Bijection, Stack, Transform
from models.layers import moments

Shape = tuple[int, int, int]


class Convolve(nn.Module):
    """Convolution with zeros beyond the edges, at every precision; it has no parameters.

    ONNX Runtime has no float64 convolution on a CPU, so at that precision, which exact log-densities need, it
    is a matrix product with the picture's patches.

    Args:
        shape: of the picture, (C, H, W).
        kernel: side of a patch, odd.
    """

    neighbours: Array

    def __init__(self, shape: Shape, kernel: int) -> None:
        super().__init__()
        _, height, width = shape
        self.size = (height, width)
        self.reach = kernel // 2
        place = torch.arange((height + kernel - 1) * (width + kernel - 1)).view(-1, width + kernel - 1)
        windows = place.unfold(0, height, 1).unfold(1, width, 1)
        self.register_buffer("neighbours", windows.flatten(), persistent=False)

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        """(B, C, H, W), (out, C, k, k) and (out,) to (B, out, H, W)."""
        if x.dtype != torch.float64:
            return F.conv2d(x, weight, bias, padding=self.reach)
        padded = F.pad(x, (self.reach,) * 4).flatten(2)
        # (B, C, k² H W) to (B, C k², H W)
        patches = padded.index_select(2, self.neighbours).reshape(-1, weight[0].numel(), math.prod(self.size))
        return (weight.flatten(1) @ patches + bias[:, None]).unflatten(2, self.size)


class Convolution(nn.Module):
    """A convolution that keeps the size of a picture, at first zero.

    Args:
        shape: of the picture, (C, H, W).
        out: channels of the answer.
        kernel: side of a patch, odd.
    """

    def __init__(self, shape: Shape, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.convolve = Convolve(shape, kernel)
        self.weight = nn.Parameter(torch.zeros(out, shape[0], kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Array) -> Array:
        """(B, C, H, W) to (B, out, H, W)."""
        return self.convolve(x, self.weight, self.bias)


class NormalisedConvolution(nn.Module):
    """A convolution whose weights are a length and a direction for each channel of the answer.

    Reference: Salimans & Kingma 2016, arXiv 1602.07868, equation 2.

    Args:
        shape: of the picture, (C, H, W).
        out: channels of the answer.
        kernel: side of a patch, odd.
    """

    def __init__(self, shape: Shape, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.convolve = Convolve(shape, kernel)
        # Of length 1 or so: Adam moves every number by as much, and turns a long direction too slowly.
        direction = torch.randn(out, shape[0], kernel, kernel) / math.sqrt(shape[0] * kernel**2)
        self.direction = nn.Parameter(direction)
        self.length = nn.Parameter(torch.ones(out))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Array) -> Array:
        """(B, C, H, W) to (B, out, H, W)."""
        scale = self.length / self.direction.square().sum((1, 2, 3)).sqrt()
        return self.convolve(x, self.direction * scale[:, None, None, None], self.bias)


class ResidualNet(nn.Module):
    """What a coupling asks for its numbers: residual blocks between two convolutions, at first zero.

    Reference: He et al. 2016, arXiv 1603.05027, as in Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803,
    section 3.6, with weight normalisation alone.

    Args:
        shape: of the picture that the numbers depend on.
        out: numbers for each pixel.
        width: channels between.
        blocks: how many residual blocks.
    """

    def __init__(self, shape: Shape, out: int, width: int, blocks: int) -> None:
        super().__init__()
        self.begin = NormalisedConvolution(shape, width)
        # Where a pixel lies says much about it, and convolutions alone see that at the edges only.
        self.place = nn.Parameter(torch.zeros(width, *shape[1:]))
        self.blocks = nn.ModuleList(_block((width, *shape[1:])) for _ in range(blocks))
        self.end = nn.Sequential(nn.SiLU(), Convolution((width, *shape[1:]), out))

    def forward(self, x: Array) -> Array:
        h = self.begin(x) + self.place
        for block in self.blocks:
            h = h + block(h)
        answer: Array = self.end(h)
        return answer


def _block(shape: Shape) -> nn.Sequential:
    wide, narrow = NormalisedConvolution(shape, shape[0]), NormalisedConvolution(shape, shape[0], kernel=1)
    return nn.Sequential(nn.SiLU(), wide, nn.SiLU(), narrow)


class CheckerboardCoupling(Bijection):
    """The black squares stay, and say how the white ones are changed; or the other way round.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803, sections 3.4 and 3.6.

    Args:
        shape: of a picture, (C, H, W).
        white: whether the white squares stay.
    """

    stays: Array

    def __init__(self, shape: Shape, transform: Transform, width: int, blocks: int, white: bool) -> None:
        super().__init__()
        channels, height, breadth = shape
        colour = torch.arange(height)[:, None] + torch.arange(breadth) + int(white)
        self.register_buffer("stays", colour % 2 == 0)
        self.transform = transform
        self.conditioner = ResidualNet(
            (channels + 1, height, breadth), transform.parameters * channels, width, blocks
        )

    def forward(self, x: Array) -> tuple[Array, Array]:
        changed, log_slope = self.transform.forward(x, *self._numbers(x))
        nothing = x.new_zeros(())
        log_det = torch.where(self.stays, nothing, log_slope).sum((1, 2, 3))
        return torch.where(self.stays, x, changed), log_det

    def inverse(self, z: Array) -> Array:
        return torch.where(self.stays, z, self.transform.inverse(z, *self._numbers(z)))

    def _numbers(self, x: Array) -> tuple[Array, ...]:
        kept = torch.where(self.stays, x, x.new_zeros(()))
        # The mask beside them, else a zero that was seen and one that was hidden look the same.
        mask = torch.zeros_like(x[:, :1]) + self.stays.to(x.dtype)
        numbers = self.conditioner(torch.cat((kept, mask), dim=1))
        return tuple(numbers.chunk(self.transform.parameters, dim=1))


class ChannelCoupling(Bijection):
    """Half of the channels stays, and says how the other half is changed.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803, section 3.4.

    Args:
        shape: of a picture, (C, H, W), C even.
        last: whether the last half stays.
    """

    def __init__(self, shape: Shape, transform: Transform, width: int, blocks: int, last: bool) -> None:
        super().__init__()
        half = shape[0] // 2
        self.last = last
        self.transform = transform
        self.conditioner = ResidualNet((half, *shape[1:]), transform.parameters * half, width, blocks)

    def forward(self, x: Array) -> tuple[Array, Array]:
        kept, changed = self._halves(x)
        changed, log_slope = self.transform.forward(changed, *self._numbers(kept))
        return self._joined(kept, changed), log_slope.sum((1, 2, 3))

    def inverse(self, z: Array) -> Array:
        kept, changed = self._halves(z)
        return self._joined(kept, self.transform.inverse(changed, *self._numbers(kept)))

    def _halves(self, x: Array) -> tuple[Array, Array]:
        first, last = x.chunk(2, dim=1)
        return (last, first) if self.last else (first, last)

    def _joined(self, kept: Array, changed: Array) -> Array:
        return torch.cat((changed, kept) if self.last else (kept, changed), dim=1)

    def _numbers(self, kept: Array) -> tuple[Array, ...]:
        return tuple(self.conditioner(kept).chunk(self.transform.parameters, dim=1))


class Squeeze(Bijection):
    """Each 2×2 block of pixels becomes four channels: (B, C, H, W) to (B, 4C, H/2, W/2).

    The first half of the channels holds the even rows, the last the odd ones: another partition than those of
    the checkerboard.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803, section 3.6 and figure 3.
    """

    def forward(self, x: Array) -> tuple[Array, Array]:
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return blocks.reshape(batch, 4 * channels, height // 2, width // 2), x.new_zeros(())

    def inverse(self, z: Array) -> Array:
        batch, channels, height, width = z.shape
        blocks = z.reshape(batch, 2, 2, channels // 4, height, width)
        return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // 4, 2 * height, 2 * width)


class ActNorm(Bijection):
    """A learned shift and scale of each channel, at first such that the data have mean 0 and deviation 1.

    Reference: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Array) -> tuple[Array, Array]:
        pixels = x.shape[2] * x.shape[3]
        return (x - _planes(self.shift)) * torch.exp(_planes(self.log_scale)), self.log_scale.sum() * pixels

    def inverse(self, z: Array) -> Array:
        return z * torch.exp(-_planes(self.log_scale)) + _planes(self.shift)

    def fit(self, x: Array) -> Array:
        mean, std = moments(x.transpose(0, 1).flatten(1).T)
        self.shift.data.copy_(mean)
        self.log_scale.data.copy_(-torch.log(std))
        return self(x)[0]


def _planes(x: Array) -> Array:
    """A number for each channel, (C,), so that it meets pictures."""
    return x[:, None, None]


class InvertibleConvolution(Bijection):
    """A learned mixing of the channels, W = P L (U + diag(s)), alike at every pixel and at first a rotation.

    P and the signs of s stay as they began. The matrix and its inverse are made in float64, whatever
    the pictures are in: so one undoes the other.

    Reference: Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.2.
    """

    order: Array
    sign: Array

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        order, lower, upper = torch.linalg.lu(rotation)
        scale = upper.diagonal()
        self.register_buffer("order", order)
        self.register_buffer("sign", scale.sign())
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(scale.abs().log().float())

    def forward(self, x: Array) -> tuple[Array, Array]:
        order, lower, upper, scale = self._factors()
        identity = torch.eye(self.channels).to(scale)
        matrix = order @ (identity + lower) @ (upper + identity * scale)
        pixels = x.shape[2] * x.shape[3]
        return _mix(matrix, x), self.log_scale.sum() * pixels

    def inverse(self, z: Array) -> Array:
        order, lower, upper, scale = self._factors()
        # U + diag(s) = diag(s) (I + diag(s)⁻¹ U)
        upper_inverse = self._unit_inverse(upper / scale[:, None]) / scale
        return _mix(upper_inverse @ self._unit_inverse(lower) @ order.T, z)

    def _factors(self) -> tuple[Array, Array, Array, Array]:
        """P, L and U without their diagonals, and s, all in float64."""
        lower, upper = self.lower.double().tril(-1), self.upper.double().triu(1)
        return self.order.double(), lower, upper, self.sign.double() * torch.exp(self.log_scale.double())

    def _unit_inverse(self, strict: Array) -> Array:
        """(I + N)⁻¹ of a strictly triangular N: (I - N)(I + N²)(I + N⁴)…, which ends, as powers of N do."""
        identity = torch.eye(self.channels).to(strict)
        power, inverse = -strict, identity - strict
        for _ in range((self.channels - 1).bit_length() - 1):
            power = power @ power
            inverse = inverse @ (identity + power)
        return inverse


def _mix(matrix: Array, x: Array) -> Array:
    return (matrix.to(x.dtype) @ x.flatten(2)).unflatten(2, x.shape[2:])


class MultiScale(Bijection):
    """Rows as pictures through scale after scale; after each but the last, half of the channels is finished.

    Latents are flat, (B, D): what leaves first comes first, each part in the order channel, row, column.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803, section 3.6.

    Args:
        shape: of a picture, (C, H, W).
        scales: the bijections of each scale.
        ends: shape of the pictures at the end of each scale.
    """

    def __init__(self, shape: Shape, scales: Sequence[Stack], ends: Sequence[Shape]) -> None:
        super().__init__()
        self.shape = shape
        self.scales = nn.ModuleList(scales)
        self.parts = [(c // 2, h, w) for c, h, w in ends[:-1]] + [ends[-1]]

    def forward(self, x: Array) -> tuple[Array, Array]:
        h, finished, log_det = x.unflatten(1, self.shape), [], x.new_zeros(())
        for scale in self.scales[:-1]:
            h, change = scale(h)
            h, done = h.chunk(2, dim=1)
            finished.append(done.flatten(1))
            log_det = log_det + change
        h, change = self.scales[-1](h)
        return torch.cat((*finished, h.flatten(1)), dim=1), log_det + change

    def inverse(self, z: Array) -> Array:
        parts = z.split([math.prod(part) for part in self.parts], dim=1)
        *finished, h = (part.unflatten(1, shape) for part, shape in zip(parts, self.parts, strict=True))
        h = self.scales[-1].inverse(h)
        for scale, done in zip(reversed(self.scales[:-1]), reversed(finished), strict=True):
            h = scale.inverse(torch.cat((h, done), dim=1))
        return h.flatten(1)

    def fit(self, x: Array) -> Array:
        h, finished = x.unflatten(1, self.shape), []
        for scale in self.scales[:-1]:
            h, done = scale.fit(h).chunk(2, dim=1)
            finished.append(done.flatten(1))
        return torch.cat((*finished, self.scales[-1].fit(h).flatten(1)), dim=1)
