"""The application: the verbs, what can be asked about models, probes, metrics, and one handler of errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute

from models.manifest import Manifest
from service import openapi, protocol
from service.access import Door
from service.callers import Callers
from service.engine import Served
from service.errors import (
    EngineDead,
    Internal,
    InvalidInput,
    MethodNotAllowed,
    NotFound,
    NotReady,
    ServiceError,
)
from service.facts import facts
from service.lifecycle import Lifecycle
from service.limits import Ledger
from service.logs import RequestLog
from service.metrics import CONTENT_TYPE
from service.openapi import (
    Catalogue,
    Control,
    Detail,
    Health,
    HeldOut,
    Limits,
    Ports,
    Reloaded,
    Summary,
    problems,
)
from service.playground import page
from service.routes import MAX_PICTURES, ROUTES, Endpoint
from service.schemas import show
from service.seat import Seat
from service.settings import Settings
from service.traces import Traces
from service.verbs import Verbs
from service.wire import Reply, problem

BINS: Final = 40  # of the histogram of held-out scores
LOG: Final = logging.getLogger("pushforward")
DESCRIPTION: Final = (
    "Samples, codes and likelihoods of deep generative models. Rows are addressed by seed and index; "
    "errors are application/problem+json with a stable code."
)


def create_app(settings: Settings, log: RequestLog | None = None, seat: Seat | None = None) -> FastAPI:
    """The service on these settings; its models are opened and closed with the application's lifespan.

    Args:
        log: where requests are told, if anywhere.
        seat: which of several processes this is, ``None`` if it is the only one.

    Raises:
        KeysError: if the settings name keys that cannot be read.
        TracesMissing: if they ask for traces, and the extra for them is not installed.
    """
    life = Lifecycle(settings, seat)
    ledger = Ledger(seat.limits) if seat else None
    callers = Callers(settings, ledger)
    traces = Traces.to(settings.otlp_url) if settings.otlp_url else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(life.open())
        if seat is not None and seat.again:  # others answer until this one can
            await life.opened_well()
        yield
        await opening
        await life.close()
        if ledger is not None:
            ledger.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)

    app = FastAPI(
        title="Pushforward",
        version=version("pushforward"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # Looked up in the environment for every request, even where nobody listens.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.life, app.state.callers = life, callers
    # The router has them too, for other methods and for the documents; first, as it tries them in order.
    app.router.routes[:0] = [StarletteRoute(r.path, Endpoint(r, life), methods=["POST"]) for r in ROUTES]
    app.router.routes.extend(page())
    app.router.routes.extend(protocol.infer_routes(life))
    app.include_router(protocol.router(life))
    app.include_router(_about_models(life))
    app.include_router(_about_the_process(life))
    for kind in (ServiceError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _explain)
    app.openapi = lambda: openapi.document(app, callers.known)  # type: ignore[method-assign]
    inner = app.build_middleware_stack
    # Outside of everything else, so that also the answer to a mistake of ours has its id and its line.
    app.build_middleware_stack = lambda: Door(  # type: ignore[method-assign]
        Verbs(inner(), life), callers, life.metrics, _wording, log, traces
    )
    return app


def _wording(path: str) -> Callable[[ServiceError], Reply]:
    """How a reason is said to whoever asked for a path."""
    return protocol.refusal if protocol.is_ours(path) else problem


async def _explain(request: Request, error: Exception) -> Response:
    """The one place where an error of FastAPI's routes becomes an answer."""
    reply = _wording(request.url.path)(_as_ours(request, error))
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, headers, reply.media)


def _as_ours(request: Request, error: Exception) -> ServiceError:
    path = show(request.url.path)
    match error:
        case ServiceError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            where = "/".join(map(str, first["loc"]))
            return InvalidInput(f"{where} is {show(first.get('input'))}; allowed: {first['msg']}")
        case HTTPException(status_code=404):
            return NotFound(f"there is nothing at {path}; /openapi.json says what there is")
        case HTTPException(status_code=405):
            allowed = tuple((error.headers or {}).get("Allow", "").split(", "))
            return MethodNotAllowed(f"{path} does not allow {request.method}; it allows {allowed}", allowed)
        case HTTPException():
            return InvalidInput(f"the request to {path} cannot be read: {error.detail}")
    LOG.error("%s failed", path, exc_info=error)
    return Internal("the service made a mistake; its log says which")


def _about_models(life: Lifecycle) -> APIRouter:
    router = APIRouter(tags=["models"])

    @router.get("/models", responses=problems(503))
    async def list_models() -> Catalogue:
        """Every model that is served, by its newest version."""
        return Catalogue(models=[Summary(**_summary(versions)) for versions in _by_name(life).values()])

    @router.get("/models/{name}", responses=problems(404, 422, 503))
    async def describe_model(
        name: str, version: Annotated[str | None, Query(pattern="^[1-9][0-9]{0,8}$")] = None
    ) -> Detail:
        """What one model is, what it can do, and the certificate that was measured at export."""
        served = life.engine().find(name, version)
        return _detail(life.settings, served, _by_name(life)[name])

    @router.post("/models/reload", responses=problems(503))
    async def reload_models() -> Reloaded:
        """Take new versions from the artifact folder, and let go of removed ones; requests go on."""
        return Reloaded.model_validate(asdict(await life.reload_everywhere()))

    return router


def _about_the_process(life: Lifecycle) -> APIRouter:
    router = APIRouter(tags=["process"])

    @router.get("/health/live", responses=problems(503))
    async def live() -> Health:
        """200 unless the process has to be replaced."""
        if life.dead:
            raise EngineDead("the device failed; the process is ending")
        return Health(status="live")

    @router.get("/health/ready", responses=problems(503))
    async def ready() -> Health:
        """200 when every model that is served is warm and has passed its probe; says who was refused."""
        reason = life.why_not_ready()
        if reason is not None:
            raise NotReady(f"not ready: {reason}", refused=life.refused)
        return _health(life, "ready")

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus; of several processes any answers for all."""
        return Response(await life.exposition(), media_type=CONTENT_TYPE)

    return router


def _by_name(life: Lifecycle) -> dict[str, list[Served]]:
    """Served versions by model, the newest first."""
    found: dict[str, list[Served]] = {}
    for served in life.engine().models():
        found.setdefault(served.name, []).append(served)
    return found


def _health(life: Lifecycle, status: str) -> Health:
    models = {name: [s.manifest.version for s in versions] for name, versions in _by_name(life).items()}
    return Health(status=status, models=models, refused=life.refused)


def _summary(versions: Sequence[Served], chosen: Served | None = None) -> dict[str, Any]:
    served = chosen or versions[0]
    manifest = served.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "versions": [other.manifest.version for other in versions],
        "family": manifest.family,
        "paper": manifest.paper,
        "verbs": list(facts(served).verbs),
        "grades": manifest.grades,
        "data_shape": list(manifest.data.shape),
        "latent_shape": list(manifest.latent.shape) if manifest.latent else None,
    }


def _detail(settings: Settings, served: Served, versions: Sequence[Served]) -> Detail:
    manifest = served.manifest
    return Detail(
        **_summary(versions, served),
        digest=served.artifact.digest,
        data=manifest.data,
        latent=manifest.latent,
        entry_points={
            name: Ports(
                inputs=list(point.inputs),
                outputs=list(point.outputs),
                cost=point.cost,
                provider=served.provider,
            )
            for name, point in manifest.entry_points.items()
        },
        limits=_limits(settings),
        calibration=_held_out(manifest),
        directions={
            name: Control(**direction.model_dump(exclude={"vector"}))
            for name, direction in manifest.directions.items()
        },
        certificate=manifest.certificate,
        metrics=manifest.provenance.metrics,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_rows=settings.max_rows,
        max_pictures=MAX_PICTURES,
        max_body_bytes=int(settings.max_body_mb * 1e6),
        deadline_ms=settings.deadline_ms,
        latent_ttl_s=settings.latent_ttl_s,
    )


def _held_out(manifest: Manifest) -> HeldOut | None:
    calibration = manifest.calibration
    if calibration is None:
        return None
    scores = calibration.scores
    counts, edges = np.histogram(scores, BINS)
    return HeldOut(
        rows=len(scores),
        k=calibration.k,
        seed=calibration.seed,
        lowest=scores[0],
        highest=scores[-1],
        edges=edges.tolist(),
        counts=counts.tolist(),
    )
