"""The whole behaviour of a transport, once, for any adapter."""

from __future__ import annotations

from ._contract_ends import EndsContract
from ._contract_turns import TurnsContract
from ._contract_upgrade import UpgradeContract

__all__ = ["AdapterContract"]


class AdapterContract(TurnsContract, EndsContract, UpgradeContract):
    """What every adapter must do, as tests on real loopback sockets.

    Subclass it in a test file, say how your adapter listens, and let pytest run it, with anyio's
    plugin::

        @pytest.mark.anyio
        class TestMyAdapter(AdapterContract):
            listen = staticmethod(my_adapter.listen)

    ``listen(server)`` is an async context manager: it listens on ``server.host`` and a free port,
    and yields the port. For each upgrade request it asks ``server.admit(request, headers)``, and
    for each accepted socket it awaits ``server.converse(socket)``. At the end it closes what is
    live with ``server.close_all()``. The event loops are those of your ``anyio_backend`` fixture.

    The caller in these tests is a raw client (websockets' framing on anyio's sockets), and no test
    waits for time to pass. ``patience`` only bounds a test that fails, but for
    ``test_half_open_peer``: without ``short_keepalive`` it lasts as long as your
    keepalive takes.
    """
