# SPDX-License-Identifier: Apache-2.0
"""loadbalance: shuffles address and MX records of replies."""
