"""Work on a copy of this process, as it is now, while the original goes on: fork(2), and a pipe for the result.

To print a table of 100,000 routes takes seconds. On the event loop that would keep every session's keepalives waiting, and
a thread would look at tables that change under it. A forked child sees them as they were, and costs the original some
milliseconds, however long it takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import traceback
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn

__all__ = ["apart"]

CHUNK = 1 << 18
"""Octets that are taken from the child at a time. It waits while nobody takes any, so the original holds no more of them."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PATIENT = 10
"""How much the child lets others go first, as nice(2)."""


async def apart(work: Callable[[], bytes], *, within: float) -> AsyncGenerator[bytes, None]:
    """What `work` returns, in pieces; nothing if it raised, which the child has printed.

    `work` may look at everything and change nothing: the child has no descriptor but the standard ones, no running loop,
    and does not come back. Raises OSError if there can be no child, TimeoutError after `within` seconds. Close it
    (aclose) when it is left early: that ends the child.
    """
    near, far = os.pipe()
    try:
        child = os.fork()
    except OSError:
        os.close(near)
        os.close(far)
        raise
    if not child:
        _work(work, far)
    os.close(far)
    os.set_blocking(near, False)
    deadline = asyncio.get_running_loop().time() + within
    try:
        while chunk := await _next(near, deadline):
            yield chunk
    finally:
        os.close(near)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # noqa: ASYNC222  (at the pipe's end it is gone already, its memory too)


async def _next(near: int, deadline: float) -> bytes:
    """The next piece; b'' at the end. The loop looks at the pipe only meanwhile."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(near, readable.set)
    try:
        async with asyncio.timeout_at(deadline):
            await readable.wait()
    finally:
        loop.remove_reader(near)
    return os.read(near, CHUNK)


def _work(work: Callable[[], bytes], far: int) -> NoReturn:
    """The child's whole life. It gives up the original's sockets at once, or what the original closes would stay open."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, far)
        os.closerange(far + 1, os.sysconf("SC_OPEN_MAX"))
        gc.disable()  # the collector would write to every page, and so copy it
        os.nice(_PATIENT)
        left = memoryview(work())
        while left:
            left = left[os.write(far, left) :]
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="replace"))
    finally:
        os._exit(code)
