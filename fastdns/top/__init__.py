# SPDX-License-Identifier: Apache-2.0
"""`fastdns top`: what a running server does right now."""
