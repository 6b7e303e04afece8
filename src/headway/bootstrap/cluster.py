"""A Celery cluster put together from what the command line says of it: the application, or URLs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headway.engine.embedded.loader import configured_broker, load_app
from headway.model.errors import BrokerNotSupported, HeadwayError, InvalidSettings
from headway.model.redact import mask_secrets
from headway.observe.diagnosis import diagnose
from headway.observe.examine import examine
from headway.observe.target import Target, bare_app, redirect
from headway.system import SystemClock, SystemIds

if TYPE_CHECKING:
    from headway.config import Settings
    from headway.model.findings import Finding


def cluster_findings(
    settings: Settings, app_spec: str | None, broker: str | None, result_backend: str | None
) -> list[Finding]:
    """Look at a cluster once, for some seconds at most, and say what is so.

    Args:
        settings: name what the options do not.
        app_spec: value of ``-A``; None where only URLs are known.
        broker: its URL; wins over the application's.
        result_backend: its URL; wins over the application's.

    Raises:
        HeadwayError: the application cannot be loaded, or names no broker, or one that cannot be watched.
    """
    target = cluster_target(
        app_spec,
        broker or settings.celery_broker_url,
        result_backend or settings.celery_result_backend,
        observer_id=f"doctor-{SystemIds().new_id()}",
        redis_url=settings.redis_url,
    )
    return diagnose(examine(target, SystemClock()))


def cluster_target(
    app_spec: str | None,
    broker: str | None,
    result_backend: str | None,
    *,
    observer_id: str,
    redis_url: str | None = None,
) -> Target:
    """The cluster that is meant; nothing is connected yet.

    Args:
        app_spec: as above, like the URLs.
        broker: as above.
        result_backend: as above.
        observer_id: names what is declared at the broker.
        redis_url: stands for both URLs where neither they nor the application say other.

    Raises:
        HeadwayError: as above.
    """
    app = None if app_spec is None else load_app(app_spec)
    if app is None or configured_broker(app) is None:
        broker, result_backend = broker or redis_url, result_backend or redis_url
        if broker is None:
            raise InvalidSettings(
                "nobody says which cluster is meant" if app_spec is None else f"{app_spec} names no broker",
                hint="Name it with -A APP, --broker URL, CELERY_BROKER_URL or the application's own setting.",
                problems=["no broker"],
            )
    if app is None:
        app = bare_app(broker, result_backend)
    else:
        redirect(app, broker, result_backend)
    try:
        return Target(app, own_app=app_spec is not None, observer_id=observer_id)
    except HeadwayError:
        raise
    except Exception as error:
        # kombu raises what it likes: KeyError for a transport that it does not know, ValueError for a wrong port.
        shown = mask_secrets(broker) if broker is not None else f"of {app_spec}"
        raise BrokerNotSupported(f"the broker {shown} cannot be used: {mask_secrets(str(error))}") from error
