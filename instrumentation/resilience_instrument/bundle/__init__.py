"""Alert rules, dashboard and runbooks, as files for others.

Only `resilience bundle` loads this package; a governed process never does. It uses the
standard library alone.
"""
