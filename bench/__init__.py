# SPDX-License-Identifier: Apache-2.0
"""What measures fastdns: micro benchmarks, load scenarios, and the peers that they are run against."""
