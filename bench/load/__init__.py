# SPDX-License-Identifier: Apache-2.0
"""Load scenarios: fastdns, the floor and other servers, turn about in one run, on one machine.

    python -m bench.load [NAME ...] [--short] [--list]

Each folder beside this file with a scenario.toml is a scenario; `scenario.py` says what may stand there. What is
measured, and how to read it, is in bench/README.md.
"""
