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
    from headway.model.findings import Finding


def cluster_findings(app_spec: str | None, broker: str | None, result_backend: str | None) -> list[Finding]:
    """Look at a cluster once, for some seconds at most, and say what is so.

    Args:
        app_spec: value of ``-A``; None where only URLs are known.
        broker: its URL; wins over the application's.
        result_backend: its URL; wins over the application's.

    Raises:
        HeadwayError: the application cannot be loaded, or names no broker, or one that cannot be watched.
    """
    target = cluster_target(app_spec, broker, result_backend, observer_id=f"doctor-{SystemIds().new_id()}")
    return diagnose(examine(target, SystemClock()))


def cluster_target(app_spec: str | None, broker: str | None, result_backend: str | None, *, observer_id: str) -> Target:
    """The cluster that is meant; nothing is connected yet.

    Args:
        app_spec: as above, like the URLs.
        broker: as above.
        result_backend: as above.
        observer_id: names what is declared at the broker.

    Raises:
        HeadwayError: as above.
    """
    if app_spec is None:
        app = bare_app(broker, result_backend)
    else:
        app = load_app(app_spec)
        if broker is None and configured_broker(app) is None:
            raise InvalidSettings(f"{app_spec} names no broker", hint="Name it with --broker URL, or set broker_url.")
        redirect(app, broker, result_backend)
    try:
        return Target(app, own_app=app_spec is not None, observer_id=observer_id)
    except HeadwayError:
        raise
    except Exception as error:
        # kombu raises what it likes: KeyError for a transport that it does not know, ValueError for a wrong port.
        shown = mask_secrets(broker) if broker is not None else f"of {app_spec}"
        raise BrokerNotSupported(f"the broker {shown} cannot be used: {mask_secrets(str(error))}") from error
