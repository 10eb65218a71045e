/* SPDX-License-Identifier: Apache-2.0
 * What the probe guest says when it has booted. */
#pragma once

#define VM_PROBE_WORDS "sbx-probe: the guest runs"
