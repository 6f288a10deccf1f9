"""The models that everybody serves, with fixed random weights: a VAE, a GAN and a normalizing flow on 28x28.

What a server has to do for a trained model is the same, so nothing is trained and nothing is downloaded.
Each becomes an artifact, by the way that users take with a model of their own, and every other server opens
the very files that lie in it: ``python -m benchmarks.models`` makes those that are missing.
"""

from __future__ import annotations

import logging
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.graphs import ARTIFACTS, FOLDER
from training.pack import pack

D, HALF, Z_VAE, Z_GAN = 784, 392, 16, 64
OPSET: Final = 20


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in pairwise(sizes):
        layers += [nn.Linear(into, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Decoder(nn.Module):
    """16 -> 512 -> 512 -> 784, of the VAE; its weights are enlarged so that samples really differ."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(Z_VAE, 512, 512, D)
        for name, weight in self.net.named_parameters():
            if name.endswith("weight"):
                weight.data *= 2.5

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.net(z))


class Encoder(nn.Module):
    """784 -> 512 -> 512 -> mean and standard deviation, of the VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(D, 512, 512, 2 * Z_VAE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.net(x).chunk(2, 1)
        return mean, torch.exp(log_var / 2)


class Generator(nn.Module):
    """A small DCGAN: 64 -> 192x7x7 -> 96x14x14 -> 48x28x28 -> 1x28x28."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Linear(Z_GAN, 192 * 7 * 7)
        self.net = nn.Sequential(
            nn.BatchNorm2d(192),
            nn.ReLU(),
            nn.ConvTranspose2d(192, 96, 4, 2, 1),
            nn.BatchNorm2d(96),
            nn.ReLU(),
            nn.ConvTranspose2d(96, 48, 4, 2, 1),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Conv2d(48, 1, 3, 1, 1),
            nn.Tanh(),
        )
        with torch.no_grad():  # running statistics that are those of its inputs
            for _ in range(30):
                self(torch.randn(64, Z_GAN))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(self.spread(z).view(-1, 192, 7, 7))


class LogLikelihood(nn.Module):
    """log p(x) of a RealNVP: 8 affine couplings, each with an MLP 392 -> 512 -> 512 -> 784.

    Reference: Dinh, Sohl-Dickstein & Bengio 2017, arXiv 1605.08803, section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(mlp(HALF, 512, 512, D) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        log_det = torch.zeros_like(x[:, 0])
        for net in self.nets:
            scale, shift = net(a).chunk(2, 1)
            scale = torch.tanh(scale)
            log_det = log_det + scale.sum(1)
            a, b = b * torch.exp(scale) + shift, a
        square = (a * a).sum(1) + (b * b).sum(1)
        return log_det - square / 2 - D / 2 * math.log(2 * math.pi)


VAE: Final = f"""
[grades]
density = "none"
latents = "posterior"
generator = "one_shot"
[data]
shape = [{D}]
[latent]
shape = [{Z_VAE}]
[decode]
onnx = "vae-decode.onnx"
inputs = {{ z = {{ role = "latent" }} }}
outputs = {{ x = {{ role = "data" }} }}
[encode]
onnx = "vae-encode.onnx"
inputs = {{ x = {{ role = "data" }} }}
outputs = {{ z = {{ role = "latent" }}, std = {{ role = "std" }} }}
"""
GAN: Final = f"""
[grades]
density = "none"
latents = "code"
generator = "one_shot"
[data]
shape = [1, 28, 28]
display = [-1.0, 1.0]
[latent]
shape = [{Z_GAN}]
[decode]
onnx = "gan-decode.onnx"
inputs = {{ z = {{ role = "latent" }} }}
outputs = {{ x = {{ role = "data" }} }}
"""
FLOW: Final = f"""
[grades]
density = "exact"
latents = "none"
generator = "none"
[data]
shape = [{D}]
[log_weight]
onnx = "flow-log_weight.onnx"
inputs = {{ x = {{ role = "data" }} }}
outputs = {{ log_w = {{ role = "log_weight", unit = "nats" }} }}
"""
SPECS: Final = {"vae": VAE, "gan": GAN, "flow": FLOW}


def main() -> None:
    """Make them all, and pack those that are missing."""
    drafts = FOLDER / "drafts"
    drafts.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(7)
    _write(Decoder(), drafts / "vae-decode.onnx", Z_VAE, ["z"], ["x"])
    _write(Encoder(), drafts / "vae-encode.onnx", D, ["x"], ["z", "std"])
    _write(Generator(), drafts / "gan-decode.onnx", Z_GAN, ["z"], ["x"])
    _write(LogLikelihood(), drafts / "flow-log_weight.onnx", D, ["x"], ["log_w"])
    np.save(drafts / "rows.npy", np.random.default_rng(7).random((256, D), np.float32))
    for name, spec in SPECS.items():
        path = drafts / f"{name}.toml"
        head = f'name = "{name}"\nfamily = "{name}"\npaper = "none: random weights"\n'
        path.write_text(head + ("" if name == "gan" else 'examples = "rows.npy"\n') + spec)
        print(f"made {pack(path, ARTIFACTS)}", flush=True)


def _write(model: nn.Module, path: Path, columns: int, inputs: list[str], outputs: list[str]) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.rand(2, columns),),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )


if __name__ == "__main__":
    main()
