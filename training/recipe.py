"""A training run on one page of TOML: data, model, objective, and how long to fit.

Whatever is not known here is refused with a sentence. The recipe is copied into the run and the manifest;
where files of this machine lie is therefore said beside it, with ``--data``, or relative to the recipe.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from models.families import Config
from models.gan import GANConfig, Loss
from models.manifest import Contract, Name
from training import Mistake
from training.attributes import AttributeName
from training.data import Count, DataConfig

FOLDER: Final = Path(__file__).parent / "recipes"

KINDS: Final = frozenset({"data", "model", "objective"})

Rate = Annotated[float, Field(gt=0, le=1)]


class Expected(Contract):
    """What the author saw, on 2 CPU cores."""

    minutes: float = Field(gt=0)
    result: str


class LikelihoodConfig(Contract):
    """Maximise log p(x), exact."""

    kind: Literal["likelihood"]


class BoundConfig(Contract):
    """Maximise the importance-weighted bound L_K; K = 1 is the ELBO.

    Reference: Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519; Higgins et al. 2017 for beta.

    Attributes:
        k: importance samples of each row, K.
        beta: weight of KL(q(z|x) || p(z)); bounds are reported at 1 all the same.
    """

    kind: Literal["bound"]
    k: Count = 1
    beta: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.k > 1 and self.beta != 1:
            raise ValueError(f"k is {self.k} and beta {self.beta}; allowed is k = 1 or beta = 1")
        return self


class AdversarialConfig(Contract):
    """Play the discriminator's game.

    Attributes:
        loss: of both players; see ``models.gan``.
        penalty: weight of a penalty on the discriminator's slope, which keeps the game from running away:
            R1, or for ``wasserstein`` the gradient penalty.
        critic_steps: of the discriminator for each of the generator.
        average: decay, at each step, of the moving average of weights that becomes the generator in the end;
            0 keeps the last weights.
        encoder_epochs: how many epochs, of all and at their end, are the encoder's.
    """

    kind: Literal["adversarial"]
    loss: Loss = "non_saturating"
    penalty: float = Field(default=0.0, ge=0)
    critic_steps: Count = 1
    average: float = Field(default=0.0, ge=0, lt=1)
    encoder_epochs: int = Field(default=0, ge=0)


ObjectiveConfig = Annotated[LikelihoodConfig | BoundConfig | AdversarialConfig, Field(discriminator="kind")]


class FitConfig(Contract):
    """How the parameters are found: Adam over shuffled batches.

    Attributes:
        epochs: passes over the training rows, at most.
        eps: what Adam adds to the root of its second moment.
        schedule: ``cosine`` takes the learning rate to zero over all epochs.
        warm_up: steps over which the learning rate rises evenly to its full height.
        patience: epochs without a better validation score after which to stop.
        clip_norm: largest norm of a gradient.
        threads: of the CPU, all cores without it; small networks are fastest with 1, and then give the same
            bits whatever else the machine does.
    """

    epochs: Count
    batch_size: Count
    learning_rate: Rate
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warm_up: int = Field(default=0, ge=0)
    patience: Count | None = None
    clip_norm: float | None = Field(default=None, gt=0)
    threads: Count | None = None


class EvaluateConfig(Contract):
    """How the finished model is judged.

    Attributes:
        draws: of noise for each test row, K: importance samples, or points of a dequantised row.
    """

    draws: Count = 64


class Recipe(Contract):
    """Everything that decides what is learned; see the parts.

    Attributes:
        directions: attributes, by the name that callers give, along which export fits a direction of the
            latents: ``ink``, ``slant``, or ``label:`` with the name of a class.
    """

    name: Name
    title: str
    expected: Expected
    seed: int = Field(ge=0, le=2**53 - 1)
    data: DataConfig
    model: Config
    objective: ObjectiveConfig
    fit: FitConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    directions: dict[Name, AttributeName] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _nothing_to_stop_by(self) -> Self:
        if self.fit.patience is not None and self.objective.kind == "adversarial":
            raise ValueError("patience needs a validation score, and an adversarial objective has none")
        return self

    @model_validator(mode="after")
    def _both_players(self) -> Self:
        play, gan = self.objective, self.model
        if not isinstance(play, AdversarialConfig) or not isinstance(gan, GANConfig):
            return self
        if gan.encoder != (play.encoder_epochs > 0) or play.encoder_epochs >= self.fit.epochs:
            raise ValueError(
                f"model.encoder is {str(gan.encoder).lower()} and encoder_epochs {play.encoder_epochs} of "
                f"{self.fit.epochs}; allowed are some of the epochs for a model with an encoder, else 0"
            )
        if play.loss == "wasserstein" and not play.penalty and gan.discriminator != "spectral":
            raise ValueError("a wasserstein critic needs a bound on its slope: penalty, or spectral norm")
        return self


def published() -> list[Path]:
    """The recipes that come with the package, by name."""
    return sorted(FOLDER.glob("*.toml"))


def find(name_or_path: str) -> Path:
    """The file of a recipe: one of the package's by its name, or any by its path.

    Raises:
        Mistake: if there is no such recipe.
    """
    inside, path = FOLDER / f"{name_or_path}.toml", Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.name == name_or_path and inside.is_file():
        return inside
    names = ", ".join(file.stem for file in published())
    raise Mistake(f"there is no recipe {name_or_path}; known are {names}, or give the path of a .toml file")


def read(path: Path) -> Recipe:
    """A recipe from its file.

    Raises:
        Mistake: if it is not TOML, or not a recipe, naming every key that is wrong.
    """
    try:
        # Through JSON, where strictness still lets a list be a tuple and a whole number a float.
        text = json.dumps(tomllib.loads(path.read_text(encoding="utf-8")), default=str)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Mistake(f"{path} cannot be read as TOML: {error}") from error
    return parse(text, source=str(path))


def parse(text: str, source: str) -> Recipe:
    """A recipe from JSON.

    Raises:
        Mistake: as :func:`read`.
    """
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        raise Mistake(explain(error, source)) from error


def explain(error: ValidationError, source: str) -> str:
    """What is wrong with a recipe, a sentence for each key."""
    return f"{source}: " + "; ".join(_sentence(detail) for detail in error.errors(include_url=False))


def _sentence(detail: ErrorDetails) -> str:
    # Second in the location is which kind of data, model or objective it is, a value and not a key.
    loc = detail["loc"]
    where = ".".join(str(part) for i, part in enumerate(loc) if i != 1 or loc[0] not in KINDS)
    if detail["type"] == "extra_forbidden":
        allowed = ", ".join(_keys(loc[:-1]))
        return f"unknown key {where}; allowed are {allowed}"
    if detail["type"] == "missing":
        return f"{where} is missing"
    if not where or detail["type"].startswith("union_tag"):
        return f"{where or 'recipe'}: {detail['msg']}"
    return f"{where} is {json.dumps(detail['input'], default=str)}: {detail['msg']}"


def _keys(loc: Sequence[int | str]) -> list[str]:
    """The keys that the table at ``loc`` may hold; in a union, the location names its member."""
    here: Any = Recipe
    for part in loc:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = _required(here.model_fields[str(part)].annotation)
        else:
            here = next(member for member in get_args(here) if part in _tags(member))
    return list(here.model_fields)


def _required(annotation: Any) -> Any:
    """``X`` of ``X | None``."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    return members[0] if len(members) == 1 else annotation


def _tags(member: type[BaseModel]) -> set[Any]:
    """The values of a union member's discriminator."""
    return {tag for field in member.model_fields.values() for tag in get_args(field.annotation)}
