"""The same VM for threads: every method of the asyncio facade under the same name, which blocks until its end.

::

    with VirtualMachine.launch(config, log="vm.log") as vm:
        vm.plug(*disk("d0", "disk.qcow2"), deadline=10)

One event loop in a thread of its own serves all VMs of the process; any thread may call, and calls on one VM from several
threads run side by side. A job is returned as it begins, with verbs that block; so is any operation that :meth:`VirtualMachine.start`
begins. Interrupting who waits (``KeyboardInterrupt``) changes nothing but that.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from qemustate.errors import BadInput
from qemustate.vm.cursor import Cursor
from qemustate.vm.job import Job
from qemustate.vm.operation import Operation
from qemustate.vm.virtual_machine import VirtualMachine as Asynchronous

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Blocking:
    """Something of the asyncio facade, all of whose methods block; ``asynchronous`` is that thing, for use in its loop only."""

    def __init__(self, asynchronous: Any) -> None:
        self.asynchronous = asynchronous

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        attribute = getattr(type(self.asynchronous), name, None)
        if not callable(attribute):
            return _in_loop(self._look(name))

        @functools.wraps(attribute)
        def method(*args: Any, **more: Any) -> Any:
            return _in_loop(self._call(name, args, more))

        return method

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(it for it in dir(self.asynchronous) if it[0] != "_")})

    async def _look(self, name: str) -> Any:
        return _for_threads(getattr(self.asynchronous, name))

    async def _call(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        answer = getattr(self.asynchronous, name)(*args, **more)
        waits = isinstance(answer, Operation | Awaitable) and not isinstance(answer, Job)
        return await answer if waits else _for_threads(answer)

    async def _begin(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        return _for_threads(getattr(self.asynchronous, name)(*args, **more))


class BlockingOperation(Blocking):
    """An operation under way, with :meth:`result`, which waits for its end; and QEMU's verbs, if it is a job."""

    def result(self) -> Any:
        """Wait for its end and return its value; raises OperationRefused, OutcomeUnknown as awaiting it does."""
        return _in_loop(_awaited(self.asynchronous))


class Records:
    """A cursor over a live log; iterating waits for the next record, and ends when the log is closed."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return _in_loop(anext(self._cursor))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _loop().call_soon_threadsafe(self._cursor.__exit__)


class VirtualMachine(Blocking):
    """One VM; see :class:`qemustate.vm.virtual_machine.VirtualMachine` for what each method does."""

    asynchronous: Asynchronous

    def __init__(self, asynchronous: Asynchronous) -> None:
        super().__init__(asynchronous)
        self._callbacks = ThreadPoolExecutor(1, thread_name_prefix="qemustate-callbacks")

    @classmethod
    def launch(cls, *args: Any, **more: Any) -> Self:
        """Launch a QEMU as the asyncio facade does; a context manager, which ends the VM."""
        return cls(_in_loop(_opened(Asynchronous.launch, *args, **more)))

    @classmethod
    def adopt(cls, *args: Any, **more: Any) -> Self:
        """Adopt a QEMU as the asyncio facade does; a context manager, which ends the VM."""
        return cls(_in_loop(_opened(Asynchronous.adopt, *args, **more)))

    def start(self, method: str, *args: Any, **more: Any) -> BlockingOperation:
        """Begin what the method of that name begins, and return the operation instead of waiting for it.

        ``vm.start("incoming", uri).taken()`` returns when the VM listens. Raises what the method raises before anything is sent, and
        BadInput for a method that begins no operation.
        """
        begins = getattr(getattr(Asynchronous, method, None), "__annotations__", {}).get("return")
        if begins not in (Operation.__name__, Job.__name__):
            raise BadInput("start", expected="the name of a method that begins an operation", seen=method)
        operation: BlockingOperation = _in_loop(self._begin(method, args, more))
        return operation

    def listen(self, machine: str, listener: object) -> Callable[[], None]:
        """Call the listener as the asyncio facade does, in a thread that is this VM's own: its methods may block, and ask the VM."""
        end = _in_loop(self._call("listen", (machine, _Elsewhere(listener, self._callbacks)), {}))
        return lambda: _in_loop(_later(end))

    def close(self) -> None:
        """End the VM."""
        _in_loop(self.asynchronous.close())
        self._callbacks.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Elsewhere:
    """A listener whose methods run in another thread, one after another."""

    def __init__(self, listener: object, threads: ThreadPoolExecutor) -> None:
        self._listener, self._threads = listener, threads

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._listener, name)

        def submit(*args: Any) -> None:
            self._threads.submit(method, *args).add_done_callback(_complain)

        return submit


def _complain(called: Future[Any]) -> None:
    """Tell of a listener that failed as asyncio tells of a callback that did."""
    if error := called.exception():
        context = {"message": "a listener of a VM failed", "exception": error}
        _loop().call_soon_threadsafe(_loop().call_exception_handler, context)


def _for_threads(value: Any) -> Any:
    """Return the twin of what is of use only in its loop; anything else as it is."""
    if isinstance(value, dict):
        return {name: _for_threads(it) for name, it in value.items()}
    if isinstance(value, Operation):
        return BlockingOperation(value)
    return Records(value) if isinstance(value, Cursor) else value


async def _awaited(operation: Operation) -> Any:
    return await operation


async def _opened(open_: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
    return await open_(*args, **more)


async def _later(function: Callable[[], None]) -> None:
    function()


def _in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result()


_guard = threading.Lock()
_running: asyncio.AbstractEventLoop | None = None


def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop that all blocking VMs share, running in a thread that ends with the process."""
    global _running  # noqa: PLW0603  (one for the process)
    with _guard:
        if _running is None:
            _running = asyncio.new_event_loop()
            threading.Thread(target=_running.run_forever, name="qemustate", daemon=True).start()
        return _running
