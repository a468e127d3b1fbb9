"""Policies decide: no waiting, no I/O, no log, no clock of their own."""
