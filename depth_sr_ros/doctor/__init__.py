# SPDX-License-Identifier: Apache-2.0
"""`depth-sr doctor`: samples of a recording or of live topics, checked; what is wrong, in sentences."""
