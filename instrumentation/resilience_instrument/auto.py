"""`import resilience_instrument.auto` governs what no launcher reaches.

Frozen programs, hermetic archives and processes without our environment can have
this one line as early as possible. `RESILIENCE_ENABLED=0` switches it off too.
"""

from __future__ import annotations

from resilience_instrument.bootstrap import carrier

carrier.install()
