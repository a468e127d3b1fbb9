#!/bin/sh
# Starts the three services of the cascade under the agent, and people who come to them.
set -eu
python -m venv /tmp/venv
/tmp/venv/bin/pip install -q "/src[demo]"
PATH="/tmp/venv/bin:$PATH"
echo 0.1 fine > "$DATABASE"
python c.py > /dev/null &
RESILIENCE_TIMEOUT_READ=0.5 resilience-instrument python b.py > /dev/null &
RESILIENCE_TIMEOUT_READ=0.8 resilience-instrument python a.py > /dev/null &
exec python /src/examples/monitoring/people.py
