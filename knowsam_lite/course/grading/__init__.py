"""Marks a class: every submission runs in an isolated process, its answers are compared outside of it."""
