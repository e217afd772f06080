# SPDX-License-Identifier: Apache-2.0
"""The processes: supervisor, template, workers, keeper, web and formatter. Importing it imports nothing."""
