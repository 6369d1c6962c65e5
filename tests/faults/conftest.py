"""Fault tests judge the order of operations, so that no real disk has to be waited for."""

import os

import pytest


@pytest.fixture(autouse=True)
def fast_sync(monkeypatch):
    """fsync returns at once; processes that a test starts do the real one."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
