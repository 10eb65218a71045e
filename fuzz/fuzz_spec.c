/* SPDX-License-Identifier: Apache-2.0
 * Spec text of any kind: parse, and when it parses print it and plan with it. */
#include <stdint.h>

#include "base/msg.h"
#include "plan/plan.h"
#include "spec/kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    SB_CLEANUP(kit) struct kit *kit = NULL;
    SB_CLEANUP(err) struct sb_err *err = NULL;
    if (kit_parse("spec.yaml", (const char *)data, size, &kit, &err) == 0) {
        json_decref(kit_to_json(kit));
        SB_CLEANUP(json) json_t *plan = NULL;
        const struct kit *kits[] = {kit};
        struct plan_context context = {.workspace = "/work"};
        plan_compose(kits, 1, &context, &plan, NULL);
    }
    return 0;
}
