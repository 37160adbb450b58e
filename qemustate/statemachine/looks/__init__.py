"""What the rules look at: one function a thing seen, registered by what it is about.

``@before("reply stop")`` sees a record before it is folded, with the state it found; ``@after(...)`` sees what became
of it. What is seen is named as in the evidence, with the kind in front: ``event STOP``, ``command cont``,
``reply NAME`` and ``failure NAME`` (the command's name); a kind alone means every record of it; ``end`` the end of the trace.
"""

from __future__ import annotations

from qemustate.statemachine.looks import backends, devices, intents, jobs, life, wire

__all__ = ["backends", "devices", "intents", "jobs", "life", "wire"]
